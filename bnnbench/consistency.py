"""Whether a database is sound: its file, our records, Optuna's beside them, and the checkpoints.

A study that is being worked at changes while it is looked at. What seems wrong then is looked at
once more, after a while; what has gone by itself was not wrong.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.entries import BASE, DIVERGED, DONE, ENDED, FAILED, PRUNED, RUNNING, TUNE
from bnnbench.leases import is_gone
from bnnbench.series import POINT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bnnbench.checkpoints import Checkpoints
    from bnnbench.entries import Entry
    from bnnbench.series import Series
    from bnnbench.store import Store

WAIT = 2.0  #: seconds until what seems wrong is looked at again
OPTUNAS = {DONE: "COMPLETE", PRUNED: "PRUNED", DIVERGED: "FAIL", FAILED: "FAIL"}  #: its states


class Looked(NamedTuple):
    """What was looked at, and what is wrong with it, a line for each fault.

    ``leftovers`` are files that nobody needs: a process died before it had removed them.
    """

    faults: list[str]
    leftovers: list[str]
    studies: int
    runs: int
    trials: int
    files: int


def look(store: Store, checkpoints: Checkpoints) -> Looked:
    """Look through a database and the checkpoints of its runs; nothing is changed."""
    first = _Look(store, checkpoints)
    found = first.looked()
    if not found.faults or not first.is_busy:
        return found
    time.sleep(WAIT)
    again = _Look(store, checkpoints).looked()
    return again._replace(faults=[fault for fault in again.faults if fault in found.faults])


class _Look:
    """One look."""

    def __init__(self, store: Store, checkpoints: Checkpoints) -> None:
        self.store, self.checkpoints = store, checkpoints
        self.entries = {line.name: store.entries(line.name) for line in store.studies()}
        self.runs = {e.run_id: e for entries in self.entries.values() for e in entries}
        self.held = _held(store)
        self.trials = self.files = 0
        self.leftovers: list[str] = []

    @property
    def is_busy(self) -> bool:
        """Whether somebody works at something."""
        return bool(self.held)

    def looked(self) -> Looked:
        faults = [*_file_faults(self.store), *_cut_series(self.store)]
        if not faults:  # of a damaged file nothing else can be said
            faults = [*self._runs(), *self._optuna(), *self._checkpoints()]
        counts = len(self.entries), len(self.runs), self.trials, self.files
        return Looked(list(dict.fromkeys(faults)), self.leftovers, *counts)

    def _runs(self) -> Iterator[str]:
        """Runs that nobody trains, and epochs that are missing."""
        for study in self.entries:
            found = _by_run(self.store.series(study, ["loss", "selected_epoch"]))
            for entry in self.entries[study]:
                told = f"run {entry.run.key} ({study}: {entry.label})"
                if entry.state == RUNNING and f"run {entry.run.key}" not in self.held:
                    yield f"{told} is running, but nobody is at it; 'study run {study}' takes it up"
                for fault in _series_faults(entry, found.get(entry.run_id, [])):
                    yield f"{told} {fault}"

    def _optuna(self) -> Iterator[str]:
        """Trials that are not what our records say."""
        known = _optuna_studies(self.store)
        names = {f"{s}/{e.task}/{e.method}" for s, found in self.entries.items() for e in found}
        for name in sorted(known):
            if name.count("/") == 2 and name not in names and _has_ended(known[name]):
                yield f"Optuna's study {name!r} has trials, but there are no such runs"
        for study, entries in self.entries.items():
            objectives = _objectives(self.store, study)
            for place, mine in _cells(entries).items():
                name = "/".join((study, *place))
                trials = known.get(name, [])
                self.trials += len(trials)
                yield from (f"{name}: {f}" for f in self._trials(mine, trials, objectives))

    def _trials(
        self, entries: list[Entry], trials: list[Any], objectives: dict[int, float]
    ) -> Iterator[str]:
        by_number: dict[int, list[Any]] = {}
        for trial in trials:
            by_number.setdefault(trial.number, []).append(trial)
        for number, found in by_number.items():
            if len(found) > 1:
                yield f"Optuna has {len(found)} trials of number {number}"
        for entry in entries:
            told = by_number.pop(entry.number, [])
            yield from self._trial(entry, told[0] if told else None, objectives)
        for number, found in by_number.items():
            if _has_ended(found):
                yield f"Optuna's trial {number} has ended, but there is no such run"

    def _trial(self, entry: Entry, trial: Any, objectives: dict[int, float]) -> Iterator[str]:
        yield from _values(entry, trial.params if trial else {})
        state = trial.state.name if trial else "missing"
        ended = state in OPTUNAS.values()
        if entry.state not in ENDED:
            if ended and not self._is_shared(entry):
                yield f"trial {entry.number} is {entry.state}, Optuna's is {state}"
        elif state != OPTUNAS[entry.state]:
            if not (state == "FAIL" and self._is_shared(entry)):
                yield f"trial {entry.number} is {entry.state}, Optuna's is {state}"
        elif entry.state == DONE and trial.value != objectives.get(entry.run_id):
            ours = objectives.get(entry.run_id)
            yield f"trial {entry.number} has the objective {ours}, Optuna's has {trial.value}"

    def _is_shared(self, entry: Entry) -> bool:
        """Whether other studies have the run: one may try again what failed for another."""
        owners = [
            s for s, found in self.entries.items() if entry.run_id in {e.run_id for e in found}
        ]
        return len(owners) > 1

    def _checkpoints(self) -> Iterator[str]:
        """Files that are damaged, and weights that are not there."""
        states = {e.run.key: e.state for e in self.runs.values()}
        files = [(key, kind) for key, kind in self.checkpoints.files() if key in states]
        self.files = len(files)
        for key, kind in files:
            if fault := self.checkpoints.fault(key, kind):
                yield fault
            elif kind not in ("weights", "binary") and states[key] in ENDED:
                self.leftovers.append(f"{key}.{kind}: its run has ended")
        self.leftovers += [
            f"{name}: half written, and nobody is at its run"
            for key, name in self.checkpoints.parts()
            if key in states and f"run {key}" not in self.held
        ]
        kept = {key for key, kind in files if kind == "weights"}
        for entry in self.runs.values():
            is_base = (entry.role, entry.state) == (BASE, DONE)
            if is_base and self.checkpoints.folder.is_dir() and entry.run.key not in kept:
                yield f"the weights of run {entry.run.key} ({entry.label}) are not in the folder"


def _file_faults(store: Store) -> Iterator[str]:
    """What SQLite finds in its file; a server looks after its own."""
    if store.engine.dialect.name != "sqlite":
        return
    with store.begin() as connection:
        for (said,) in connection.exec_driver_sql("PRAGMA integrity_check(5)").all():
            if said != "ok":
                yield f"the file is damaged: {said}"
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            yield f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"


def _cut_series(store: Store) -> Iterator[str]:
    """Series that are not made of whole points."""
    c = schema.series.c
    odd = sa.func.length(c.points) % POINT.size != 0
    with store.begin() as connection:
        for row in connection.execute(sa.select(c.run_id, c.metric).where(odd)):
            yield f"the {row.metric} of run number {row.run_id} is cut off"


def _values(entry: Entry, told: dict[str, Any]) -> Iterator[str]:
    """What Optuna suggested and the run was not trained with."""
    ours = entry.run.method.hyperparameters
    for name, value in told.items():
        if ours.get(name) != value:
            trained = ours.get(name, "nothing")
            yield f"trial {entry.number} was trained with {name} {trained}, Optuna's has {value}"


def _held(store: Store) -> set[str]:
    """The names of all leases whose holders may be alive."""
    with store.begin() as connection:
        rows = connection.execute(sa.select(schema.leases)).all()
    return {row.name for row in rows if not is_gone(row.holder)}


def _by_run(found: Iterable[Series]) -> dict[int, list[Series]]:
    runs: dict[int, list[Series]] = {}
    for series in found:
        runs.setdefault(series.run_id, []).append(series)
    return runs


def _series_faults(entry: Entry, found: Sequence[Series]) -> Iterator[str]:
    """Epochs without a loss, or with two; the end of a finished run."""
    losses = [e for s in found if (s.metric, s.split) == ("loss", "train") for e in _epochs(s)]
    if sorted(losses) != list(range(1, len(losses) + 1)):
        yield f"has losses of epochs {_few(losses)}, not of each from 1 on"
    elif entry.state == DONE and len(losses) != entry.run.epochs:
        yield f"is done after {len(losses)} epochs of {entry.run.epochs}"
    if entry.state == DONE and "selected_epoch" not in {s.metric for s in found}:
        yield "is done, but no epoch was selected"


def _epochs(series: Series) -> list[int]:
    return [m.epoch for m in series.measured()]


def _few(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:9]))
    return shown + ", ..." if len(numbers) > 9 else shown or "none"


def _cells(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    cells: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.role == TUNE:
            cells.setdefault((entry.task, entry.method), []).append(entry)
    return cells


def _objectives(store: Store, study: str) -> dict[int, float]:
    """What the trials of a study came to, by run: the accuracy at the selected epoch."""
    judged = {e.run_id: e.facts.get("judged", "") for e in store.entries(study, role=TUNE)}
    series = store.series(study, ["accuracy", "selected_epoch"], role=TUNE, state=DONE)
    selected = {
        s.run_id: int(value)
        for s in series
        if s.metric == "selected_epoch"
        for value in s.values().values()
    }
    return {
        s.run_id: s.values().get(selected.get(s.run_id, 0), math.nan)
        for s in series
        if (s.metric, s.split, s.mode) == ("accuracy", "validation", judged[s.run_id])
    }


def _optuna_studies(store: Store) -> dict[str, list[Any]]:
    """Optuna's trials by the name of its study; none where it was never asked."""
    if not sa.inspect(store.engine).has_table("studies"):
        return {}
    from bnnbench.search import optuna_storage

    storage = optuna_storage(store)
    return {
        each.study_name: storage.get_all_trials(each._study_id, deepcopy=False)
        for each in storage.get_all_studies()
    }


def _has_ended(trials: Iterable[Any]) -> bool:
    return any(trial.state.is_finished() for trial in trials)

"""Running a study: tune on validation with an equal budget, confirm with paired seeds, test once.

The one place where torch, Optuna and the database meet. Each (task, method) is one Optuna study
called ``<study>/<task>/<method>`` in the same database. Whatever is finished is never run again;
whatever was broken off is taken up: a trial that Optuna still calls running keeps its number and
its hyperparameters. A study that has been extended may have another best trial: the confirming runs
of the former one are set aside before those of the new one begin.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bnnbench.budget import Spent, is_open, missing, trained
from bnnbench.catalogue import FORMER
from bnnbench.cells import Cell, cells, check
from bnnbench.errors import BnnbenchError, UsageError
from bnnbench.failures import LOST, Failure
from bnnbench.leases import ElsewhereError, Leases, LostLeaseError, told
from bnnbench.needs import Need, Wanted, builds_on
from bnnbench.runs import Part
from bnnbench.search import are_independent, optuna_study, suggest, take
from bnnbench.stopping import Stop
from bnnbench.store import (
    BASE,
    CONFIRM,
    DONE,
    ENDED,
    PENDING,
    PRUNED,
    TUNE,
    Entry,
    Store,
)
from bnnbench.trainer import Observer, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna

    from bnnbench.experiments import Workbench
    from bnnbench.leases import Claim
    from bnnbench.runs import Run


PAUSE = 0.5  #: seconds until a worker looks again at what others are at
MOST_LOST = 4  #: workers that a run may lose at one place before it fails


class StudyRunner:
    """Finishes what is missing of a study; safe to repeat, safe to kill."""

    def __init__(
        self,
        store: Store,
        name: str,
        workbench: Workbench,
        observer: Observer,
        checkpoint_every: float | None = None,
        leases: Leases | None = None,
        stop: Stop | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.store, self.name, self.workbench = store, name, workbench
        self.leases, self.stop = leases or Leases(store), stop or Stop()
        self.trainer = Trainer(
            store, name, workbench, observer, checkpoint_every, self.stop, keep=keep
        )
        self.study = store.study(name)
        self.cells = cells(name, self.study, workbench)
        self.protocol = self.study.protocol
        self._seconds: dict[int, float] = {}  # of training, of trials that have ended
        self._over: set[tuple[object, ...]] = set()  # what need not be looked at again
        self._chosen: dict[str, Mapping[str, Any] | None] = {}  # to confirm, by the cell's name

    def needs(self) -> list[Need]:
        """Return what is missing, by (task, method); runs that others build on come first."""
        ended = [e for e in self.store.entries(self.name) if e.state in ENDED]
        wanted, own = Wanted(self._base_run, self._is_ready), []
        for cell in self.cells:
            found = [e for e in ended if (e.task, e.method) == cell.place]
            cost = self._cost(found)
            trials, seeds = self._missing(cell, found, cost)
            there = [seed for seed in seeds if self._is_there(cell, seed)]
            seeds = [seed for seed in seeds if seed not in there]
            for seed in [self.protocol.seed] * bool(trials) + seeds:
                wanted.add(cell, seed)
            counts = (trials, len(seeds), cell.task.epochs, 0, len(there))
            spent = Spent(len(cost), sum(cost)) if cell.spaces else None
            is_guess = bool(trials and self.protocol.seconds)
            own.append(Need(*cell.place, *counts, builds_on(cell), spent, is_guess))
        return [*wanted.needs(), *own]

    def _is_there(self, cell: Cell, seed: int) -> bool:
        """Whether another study has the confirming run already; of a tuned one nobody knows."""
        if cell.spaces:
            return False
        key = self._run(cell, {}, seed, test=True).key
        return self.store.states([key]).get(key) == DONE

    def _is_ready(self, run: Run) -> bool:
        """Whether a run that others build on need not be trained."""
        here = self.workbench.checkpoints.has_weights(run.key)
        return here and self.store.states([run.key]).get(run.key) == DONE

    def _missing(self, cell: Cell, ended: list[Entry], cost: list[float]) -> tuple[int, list[int]]:
        """The number of trials and the seeds of confirming runs that a cell still needs."""
        tuned = [e for e in ended if e.role == TUNE]
        trials = missing(self.protocol, cost) if cell.spaces else 0
        hopeless = tuned and not trials and all(e.state != DONE for e in tuned)
        confirmed = self._confirmed(cell, ended, tuned=bool(tuned and not trials))
        return trials, [s for s in self.seeds if s not in confirmed and not hopeless]

    def _confirmed(self, cell: Cell, ended: list[Entry], *, tuned: bool) -> set[int]:
        """The seeds of confirming runs that have ended, once tuned those of the best trial."""
        mine = [e for e in ended if e.role == CONFIRM]
        best = self._best(cell) if mine and tuned else None
        if best is None:
            return {e.number for e in mine}
        mine += [e for e in ended if e.role.startswith(FORMER)]
        return {e.number for e in mine if e.run.method.hyperparameters == best}

    def check(self) -> None:
        """Load every data set and build every network and loss once, before anything is trained.

        Raises:
            BnnbenchError: in one line, what would have failed later.
        """
        check(self.cells, self.workbench)

    def run(self) -> None:
        """Tune, then confirm. A run that fails is stored with its traceback; the others go on.

        What other workers are at is left to them, and looked at again until it is over.
        """
        self._over.clear()
        while not self._gone_through():
            self.stop.obey()
            time.sleep(PAUSE)

    def _gone_through(self) -> bool:
        """Go through all that is asked for, once; return whether it is over."""
        busy = self._tuned()
        for cell in self.cells:
            if cell not in busy and not self._is_over("best", cell, self._find_best):
                busy.append(cell)
        found = [cell for cell in self.cells if cell not in busy]
        waiting = len(busy)
        for seed in self.seeds:
            for cell in found:
                values = self._chosen[cell.optuna_name]
                if values is not None:
                    confirm = partial(self._confirm, values=values, seed=seed)
                    waiting += not self._is_over(("confirm", seed), cell, confirm)
        return not waiting

    def _tuned(self) -> list[Cell]:
        """Go through all trials; return the cells that have one which another worker is at."""
        busy: list[Cell] = []
        number, asked = 0, self._asked_for(0, busy)
        while asked:
            for cell in asked:
                if not self._is_over(("trial", number), cell, partial(self._trial, number=number)):
                    busy.append(cell)
            number += 1
            asked = self._asked_for(number, busy)
        return busy

    def _asked_for(self, number: int, busy: list[Cell]) -> list[Cell]:
        """The cells that have a trial of this number which need not wait for one before it."""
        free = are_independent(self.protocol)
        return [c for c in self.cells if (free or c not in busy) and self._is_asked(c, number)]

    def _is_over(self, what: object, cell: Cell, work: Callable[[Cell], None]) -> bool:
        """Whether something is over, once this worker has done what it can of it."""
        place = (what, cell.place)
        if place not in self._over:
            self.stop.obey()
            try:
                work(cell)
            except (ElsewhereError, LostLeaseError):
                return False
            self._over.add(place)
        return True

    def _find_best(self, cell: Cell) -> None:
        """Choose what to confirm, alone: confirming runs of a former best are set aside."""
        with self.leases.claimed(f"cell {cell.optuna_name}"):
            self._chosen[cell.optuna_name] = self._best(cell)
            self._set_aside(cell, self._chosen[cell.optuna_name])

    @property
    def seeds(self) -> range:
        """The seeds of the confirming runs, the same for every method."""
        first = self.protocol.seed + 1
        return range(first, first + self.protocol.seeds)

    def _is_asked(self, cell: Cell, number: int) -> bool:
        """Whether a cell has a trial of this number; a method with nothing to tune has none."""
        if not cell.spaces:
            return False
        if self.protocol.seconds is None:
            return number < self.protocol.trials
        task, method = cell.place
        tuned = self.store.entries(self.name, task=task, method=method, role=TUNE)
        cost = self._cost([e for e in tuned if e.number < number and e.state in ENDED])
        return is_open(self.protocol, cost)

    def _cost(self, ended: list[Entry]) -> list[float]:
        """The seconds that each of the trials among some runs was trained for, in their order."""
        tuned = sorted((e for e in ended if e.role == TUNE), key=lambda e: e.number)
        unknown = [e for e in tuned if e.run_id not in self._seconds]
        self._seconds |= trained(self.store, unknown)
        return [self._seconds[e.run_id] for e in tuned]

    def _trial(self, cell: Cell, number: int) -> None:
        """Ask for a trial and train it.

        What a sampler or a pruner knows must not depend on who is faster: one trial follows the
        other, but where they do not know of each other.
        """
        alone, asking = (f"{what} {cell.optuna_name}" for what in ("trial", "cell"))
        if not are_independent(self.protocol):
            with self.leases.claimed(asking):
                self._train_trial(cell, number, *self._ask(cell, number))
            return
        with self.leases.claimed(f"{alone}/{number}"):
            with self.leases.claimed(asking):
                asked = self._ask(cell, number)
            self._train_trial(cell, number, *asked)

    def _ask(self, cell: Cell, number: int) -> tuple[optuna.Study, optuna.Trial, Any]:
        study = optuna_study(self.store, cell)
        return study, *take(study, number, cell)

    def _train_trial(
        self, cell: Cell, number: int, study: optuna.Study, trial: optuna.Trial, state: Any
    ) -> None:
        if state.is_finished():
            return
        done = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=number
        )
        values = done[0].run.method.hyperparameters if done else suggest(trial, cell)
        run = self._run(cell, values, self.protocol.seed, test=False)
        self._check_trials(cell, run)
        entry = self._enter(cell, TUNE, number, run)
        told = trial if self.protocol.pruner != "none" else None
        self._build(cell, entry, run, told)
        self._tell(study, trial, entry)

    def _tell(self, study: optuna.Study, trial: optuna.Trial, entry: Entry) -> None:
        from optuna.trial import TrialState

        state = self._state(entry)
        if state == DONE:
            study.tell(trial.number, self._objective(entry))
        else:
            ended = TrialState.PRUNED if state == PRUNED else TrialState.FAIL
            study.tell(trial.number, state=ended)

    def _objective(self, entry: Entry) -> float:
        """The accuracy on validation, in the judged mode, at the selected epoch."""
        epoch = self.store.value(entry.run_id, "selected_epoch")
        judged = self._entry(entry).facts["judged"]
        value = self.store.value(
            entry.run_id, "accuracy", split="validation", mode=judged, epoch=int(epoch or 0)
        )
        if value is None:
            raise BnnbenchError(f"run {entry.run.key} has no accuracy on validation")
        return value

    def _best(self, cell: Cell) -> Mapping[str, Any] | None:
        """What to confirm: the best trial's hyperparameters; the defaults where none was asked."""
        if not cell.spaces:
            return {}
        trials = [t for t in optuna_study(self.store, cell).trials if t.state.name == "COMPLETE"]
        if not trials:
            return None
        best = max(trials, key=lambda trial: (trial.value, -trial.number))
        entry = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=best.number
        )[0]
        return entry.run.method.hyperparameters

    def _set_aside(self, cell: Cell, values: Mapping[str, Any] | None) -> None:
        """Let no confirming run count that has other hyperparameters than the best trial.

        A study that was given more trials may have found better ones; all former runs go at once.
        """
        if not cell.spaces:
            return
        task, method = cell.place
        mine = self.store.entries(self.name, task=task, method=method)
        gone = [e for e in mine if e.role == CONFIRM and self._is_former(cell, e, values)]
        back = [
            e
            for e in mine
            if e.role.startswith(FORMER)
            and values is not None
            and _alike(e.run, self._run(cell, values, e.number, test=True))
        ]
        if gone or back:
            told = f"{cell.optuna_name}: confirming runs of the former best trial: {len(gone)}"
            again = f", of this one from before: {len(back)}" if back else ""
            self.store.set_aside(self.name, cell.place, gone, back, told + again)

    def _is_former(self, cell: Cell, entry: Entry, values: Mapping[str, Any] | None) -> bool:
        """Whether a confirming run differs from that of the best trial in hyperparameters alone."""
        now = self._run(cell, values or {}, entry.number, test=True)
        is_other = values is None or not _alike(entry.run, now)
        return is_other and _alike(replace(entry.run, method=now.method), now)

    def _confirm(self, cell: Cell, values: Mapping[str, Any], seed: int) -> None:
        run = self._run(cell, values, seed, test=True)
        self._build(cell, self._enter(cell, CONFIRM, seed, run), run, None)

    def _build(self, cell: Cell, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train what a run builds on, then the run itself, where that is not done.

        Raises:
            ElsewhereError: another worker is at one of them.
        """
        if entry.state in ENDED:
            self._mention_bases(cell, run.seed)
            return
        failures = [self._base(base, run.seed) for base in cell.bases.values()]
        with self.leases.claimed(f"run {run.key}") as claim:
            if self._state(entry) in ENDED:  # by another worker, a moment ago
                return
            found = list(filter(None, [*failures, self._lost(entry, claim)]))
            if found:
                reason = "; ".join(failure.reason for failure in found)
                self.trainer.fail(entry, found[0]._replace(reason=reason), claim)
            else:
                self.trainer.train(entry, run, trial, claim)

    def _lost(self, entry: Entry, claim: Claim) -> Failure | None:
        """Write down that a run's worker was lost; return the failure if it is the run's doing.

        A run that goes no further, whoever is at it, is one that ends its workers.
        """
        if not claim.former:
            return None
        epoch = self.store.reached(entry.run_id)
        mark = f"after epoch {epoch}"
        text = f"{entry.label}: lost {mark} with {told(claim.former)}"
        self.store.log(self.name, LOST, text, entry.run_id)
        here = [found for found in self.store.logged(entry.run_id, LOST) if mark in found]
        if len(here) < MOST_LOST:
            return None
        return Failure(
            LOST,
            f"{len(here)} workers were lost with it {mark}: killed, out of memory, or a fault in a"
            " plugin's native code; --retry lost tries it again",
        )

    def _base(self, cell: Cell, seed: int) -> Failure | None:
        """Let the run be there that others of this seed build on; return why it is not.

        Raises:
            ElsewhereError: another worker is at it.
        """
        for made in self._made(cell, seed):
            if made.state == DONE and not self._is_ready(made.run):
                self.store.end_run(made.run_id, PENDING)  # its weights were lost
        run = self._base_run(cell, seed)
        entry = self._enter(cell, BASE, run.seed, run)
        if entry.state == DONE and not self._is_ready(entry.run):
            self.store.end_run(entry.run_id, PENDING)  # another study's, whose weights were lost
        self._build(cell, self._entry(entry), run, None)
        entry = self._entry(entry)
        if entry.state == DONE:
            return None
        reason = entry.error.partition("\n")[0]
        told = f"the run {cell.method.name!r} that it builds on {entry.state}: {reason}"
        return Failure(entry.failure, told)

    def _mention_bases(self, cell: Cell, seed: int) -> None:
        """Give what a finished run, perhaps another study's, builds on its place in this study."""
        for base in cell.bases.values():
            run = self._base_run(base, seed)
            if run.key in self.store.states([run.key]):
                self._enter(base, BASE, run.seed, run)
            self._mention_bases(base, run.seed)

    def _run(self, cell: Cell, values: Mapping[str, Any], seed: int, *, test: bool) -> Run:
        """The run of a cell, building on this study's base runs as they were made."""
        keys = {
            key: self._base_run(base, cell.seed_of(seed)).key for key, base in cell.bases.items()
        }
        return cell.run(values, seed, test=test, bases=keys)

    def _base_run(self, cell: Cell, seed: int) -> Run:
        """The run that others of this seed build on; one that is done stays, whatever is new."""
        done = [made.run for made in self._made(cell, seed) if made.state == DONE]
        return done[0] if done else self._run(cell, {}, seed, test=False)

    def _made(self, cell: Cell, seed: int) -> list[Entry]:
        number = cell.seed_of(seed)
        place = {"task": cell.task.name, "method": cell.method.name, "number": number}
        return self.store.entries(self.name, role=BASE, **place)

    def _enter(self, cell: Cell, role: str, number: int, run: Run) -> Entry:
        entry = self.store.enter(self.name, cell.task.name, cell.method.name, role, number, run)
        _check_alike(cell, entry.run, run)
        return entry

    def _check_trials(self, cell: Cell, run: Run) -> None:
        """Refuse a trial that differs from the first in more than what is searched."""
        task, method = cell.place
        for first in self.store.entries(self.name, task=task, method=method, role=TUNE, number=0):
            then = first.run.method.hyperparameters
            searched = {name: then[name] for name in cell.spaces if name in then}
            part = Part(run.method.name, {**run.method.hyperparameters, **searched})
            _check_alike(cell, first.run, replace(run, method=part))

    def _entry(self, entry: Entry) -> Entry:
        place = {key: getattr(entry, key) for key in ("task", "method", "role", "number")}
        return self.store.entries(self.name, **place)[0]

    def _state(self, entry: Entry) -> str:
        return self._entry(entry).state


def _alike(then: Run, now: Run) -> bool:
    """Whether two runs have one description, but for the versions of plugins."""
    return replace(then, code=now.code).to_json() == now.to_json()


def _check_alike(cell: Cell, then: Run, now: Run) -> None:
    if not _alike(then, now):
        raise UsageError(
            f"{cell.optuna_name} was begun with {_differences(then, now)}; a study keeps to one"
            " description, create another"
        )


def _differences(then: Run, now: Run) -> str:
    old, new = then.method.hyperparameters, now.method.hyperparameters
    names = sorted(k for k in {**old, **new} if old.get(k) != new.get(k))
    told = [f"{k} = {old.get(k)!r}, now {new.get(k)!r}" for k in names]
    return "; ".join(told) or "another data set, network, loss or protocol"

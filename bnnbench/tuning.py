"""Running a study: tune on validation with an equal budget, confirm with paired seeds, test once.

The one place where torch, Optuna and the database meet. Each (task, method) is one Optuna study
called ``<study>/<task>/<method>`` in the same database. Whatever is finished is never run again;
whatever was broken off is taken up: a trial that Optuna still calls running keeps its number and
its hyperparameters.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from bnnbench.buckets import CHECKPOINTS
from bnnbench.cells import Cell, cells
from bnnbench.environment import FOREIGN, Neighbours, describe_environment
from bnnbench.errors import BnnbenchError, StoreError, UsageError
from bnnbench.experiments import weights
from bnnbench.graph import START_FROM, TEACHER
from bnnbench.needs import Need, Wanted, builds_on
from bnnbench.plugins import describe
from bnnbench.search import optuna_study, suggest, take
from bnnbench.store import (
    BASE,
    CONFIRM,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    PRUNED,
    TUNE,
    Entry,
    Store,
)

if TYPE_CHECKING:
    import optuna

    from bnnbench.experiments import Workbench
    from bnnbench.measurements import Measurement
    from bnnbench.runs import Run
    from bnnbench.training import Training


class Observer(Protocol):
    """Who watches a study run; see :mod:`bnnbench.cli.progress`."""

    def run_started(self, entry: Entry) -> None:
        """A run begins."""

    def epochs_skipped(self, entry: Entry, epochs: int) -> None:
        """A run is taken up after so many epochs."""

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """An epoch's measurements are in the database."""

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """A run is over."""


class StudyRunner:
    """Finishes what is missing of a study; safe to repeat, safe to kill."""

    def __init__(
        self,
        store: Store,
        name: str,
        workbench: Workbench,
        observer: Observer,
        checkpoint_every: float = 60.0,
    ) -> None:
        self.store, self.name, self.workbench, self.observer = store, name, workbench, observer
        self.checkpoint_every = checkpoint_every
        self.study = store.study(name)
        self.cells = cells(name, self.study, workbench)
        self.protocol = self.study.protocol

    def needs(self) -> list[Need]:
        """Return what is missing, by (task, method); runs that others build on come first."""
        ended = [e for e in self.store.entries(self.name) if e.state in ENDED]
        mine = [[e for e in ended if (e.task, e.method) == cell.place] for cell in self.cells]
        own = [self._need(cell, found) for cell, found in zip(self.cells, mine, strict=True)]
        wanted = Wanted(self._is_ready)
        for cell, found, need in zip(self.cells, mine, own, strict=True):
            there = {e.number for e in found if e.role == CONFIRM}
            seeds = [seed for seed in self.seeds if seed not in there] if need.confirmations else []
            for seed in [self.protocol.seed] * bool(need.trials) + seeds:
                wanted.add(cell, seed)
        return [*wanted.needs(), *own]

    def _is_ready(self, run: Run) -> bool:
        """Whether a run that others build on need not be trained."""
        here = self.workbench.checkpoints.has_weights(run.key)
        return here and self.store.states([run.key]).get(run.key) == DONE

    def _need(self, cell: Cell, ended: list[Entry]) -> Need:
        tuned = [e for e in ended if e.role == TUNE]
        trials = self._budget(cell) - len(tuned)
        hopeless = tuned and not trials and all(e.state != DONE for e in tuned)
        seeds = 0 if hopeless else self.protocol.seeds
        confirmed = sum(e.role == CONFIRM for e in ended)
        missing = max(0, seeds - confirmed)
        return Need(*cell.place, trials, missing, cell.task.epochs, builds_on=builds_on(cell))

    def check(self) -> None:
        """Load every data set and build every network and loss once, before anything is trained.

        Raises:
            BnnbenchError: in one line, what would have failed later.
        """
        for cell in self.cells:
            self._check(cell)

    def _check(self, cell: Cell) -> None:
        for base in cell.bases.values():
            self._check(base)
        runs = {key: base.base_run(self.protocol.seed) for key, base in cell.bases.items()}
        run = cell.run({}, self.protocol.seed, test=False)
        self.workbench.check(run, runs.get(START_FROM), runs.get(TEACHER))

    def run(self) -> None:
        """Tune, then confirm. A run that fails is stored with its traceback; the others go on."""
        for number in range(self.protocol.trials):
            for cell in self.cells:
                if number < self._budget(cell):
                    self._trial(cell, number)
        best = {cell.optuna_name: self._best(cell) for cell in self.cells}
        for seed in self.seeds:
            for cell in self.cells:
                values = best[cell.optuna_name]
                if values is not None:
                    self._confirm(cell, values, seed)

    @property
    def seeds(self) -> range:
        """The seeds of the confirming runs, the same for every method."""
        first = self.protocol.seed + 1
        return range(first, first + self.protocol.seeds)

    def _budget(self, cell: Cell) -> int:
        """Trials of a cell; a method with nothing to tune needs none."""
        return self.protocol.trials if cell.spaces else 0

    def _trial(self, cell: Cell, number: int) -> None:
        study = optuna_study(self.store, cell)
        done = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=number
        )
        trial, state = take(study, number, cell)
        if state.is_finished():
            return
        values = done[0].run.method.hyperparameters if done else suggest(trial, cell)
        run = cell.run(values, self.protocol.seed, test=False)
        entry = self._enter(cell, TUNE, number, run)
        if entry.state not in (DONE, DIVERGED, FAILED, PRUNED):
            self._build(cell, entry, run, trial if self.protocol.pruner != "none" else None)
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
        if not self._budget(cell):
            return {}
        trials = [t for t in optuna_study(self.store, cell).trials if t.state.name == "COMPLETE"]
        if not trials:
            return None
        best = max(trials, key=lambda trial: (trial.value, -trial.number))
        entry = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=best.number
        )[0]
        return entry.run.method.hyperparameters

    def _confirm(self, cell: Cell, values: Mapping[str, Any], seed: int) -> None:
        run = cell.run(values, seed, test=True)
        entry = self._enter(cell, CONFIRM, seed, run)
        if entry.state not in (DONE, DIVERGED, FAILED):
            self._build(cell, entry, run, None)

    def _build(self, cell: Cell, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train what the run builds on, then the run itself."""
        for base in cell.bases.values():
            problem = self._base(base, run.seed)
            if problem:
                self.store.end_run(entry.run_id, FAILED, error=problem)
                self.store.log(self.name, FAILED, f"{entry.label}: {problem}", entry.run_id)
                self.observer.run_started(entry)
                self.observer.run_ended(entry, FAILED, problem)
                return
        self._train(entry, run, trial)

    def _base(self, cell: Cell, seed: int) -> str:
        """Let the run be there that others of this seed build on; return what is wrong with it."""
        run = cell.base_run(seed)
        entry = self._enter(cell, BASE, run.seed, run)
        if entry.state == DONE and not self.workbench.checkpoints.has_weights(run.key):
            self.store.end_run(entry.run_id, PENDING)  # its weights were lost
            entry = self._entry(entry)
        if entry.state not in (DONE, DIVERGED, FAILED):
            self._build(cell, entry, run, None)
            entry = self._entry(entry)
        if entry.state == DONE:
            return ""
        reason = entry.error.partition("\n")[0]
        return f"the run {cell.method.name!r} that it builds on {entry.state}: {reason}"

    def _enter(self, cell: Cell, role: str, number: int, run: Run) -> Entry:
        entry = self.store.enter(self.name, cell.task.name, cell.method.name, role, number, run)
        if replace(entry.run, code=run.code).to_json() != run.to_json():
            raise UsageError(
                f"{cell.optuna_name} was begun with {_differences(entry.run, run)}; a study keeps"
                " to one description, create another"
            )
        return entry

    def _entry(self, entry: Entry) -> Entry:
        place = {key: getattr(entry, key) for key in ("task", "method", "role", "number")}
        return self.store.entries(self.name, **place)[0]

    def _state(self, entry: Entry) -> str:
        return self._entry(entry).state

    def _train(self, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train one run into the store, whatever happens on the way."""
        from bnnbench.training import DivergedError

        self.observer.run_started(entry)
        neighbours = Neighbours()
        state, message, error = DONE, "", ""
        try:
            self._written(entry, run, trial)
        except KeyboardInterrupt:
            self.store.end_run(entry.run_id, PENDING)
            raise
        except DivergedError as diverged:
            state, message = DIVERGED, str(diverged)
        except _PrunedError:
            state = PRUNED
        except StoreError:  # not the run's fault: it is taken up again
            with suppress(StoreError):
                self.store.end_run(entry.run_id, PENDING)
            raise
        except Exception as failure:  # a plugin may raise anything; the study goes on
            state, message = FAILED, describe(failure)
            error = f"{message}\n{traceback.format_exc()}"
        self.workbench.checkpoints.forget_training(run.key)
        share = neighbours.foreign_share()
        shared = share is not None and share > FOREIGN
        self.store.end_run(entry.run_id, state, error=error or message, shared=shared)
        if message:
            self.store.log(self.name, state, f"{entry.label}: {message}", entry.run_id)
        self.observer.run_ended(entry, state, message)

    def _written(self, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train from where the run stands, and write each epoch as it comes."""
        experiment = self.workbench.prepare(run)
        environment = describe_environment(self.workbench.plugins, self.workbench.device)
        training = experiment.training()
        begun = self._taken_up(entry, run, training)
        self.store.start_run(entry.run_id, experiment.facts, environment, after=begun)
        entry, kept = entry._replace(facts=experiment.facts), time.monotonic()
        self.observer.epochs_skipped(entry, begun or 0)
        for measured in training:
            self.store.write(entry.run_id, measured)
            self.observer.epoch_ended(entry, measured)
            if trial is not None:
                _prune(trial, measured, entry.facts, last=run.epochs)
            due = time.monotonic() - kept >= self.checkpoint_every
            if due and 0 < training.epoch < run.epochs:
                with training.clock.within(CHECKPOINTS):
                    self.workbench.checkpoints.save_training(run, training.state())
                kept = time.monotonic()
        if entry.role == BASE:
            self.workbench.checkpoints.save_weights(weights(run, training))

    def _taken_up(self, entry: Entry, run: Run, training: Training) -> int | None:
        """Bring a training to where it was broken off; return the epoch, None at the beginning.

        Its measurements up to there must be in the database, and it must not have come to its end.
        """
        state = self.workbench.checkpoints.training(run)
        if state is None:
            return None
        known = self.store.value(entry.run_id, "loss", split="train", epoch=state["epoch"])
        if known is None or self.store.value(entry.run_id, "selected_epoch") is not None:
            return None
        training.load(state)
        return int(state["epoch"])


class _PrunedError(Exception):
    pass


def _differences(then: Run, now: Run) -> str:
    old, new = then.method.hyperparameters, now.method.hyperparameters
    names = sorted(k for k in {**old, **new} if old.get(k) != new.get(k))
    told = [f"{k} = {old.get(k)!r}, now {new.get(k)!r}" for k in names]
    return "; ".join(told) or "another data set, network, loss or protocol"


def _prune(
    trial: optuna.Trial, measured: list[Measurement], facts: Mapping[str, Any], last: int
) -> None:
    """Tell the pruner the accuracy on validation; stop the run if it says so in time.

    Phases whose networks are not what the method is after are passed over.
    """
    for m in measured:
        told = (m.metric, m.split, m.mode) == ("accuracy", "validation", facts["judged"])
        if told and facts["phases"][m.phase]["selectable"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a resumed trial reports its epochs again
                trial.report(m.value, m.epoch)
            if m.epoch < last and trial.should_prune():
                raise _PrunedError

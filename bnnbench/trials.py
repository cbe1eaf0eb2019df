"""The trials of a study's methods: asked of Optuna, trained, told back; and the best of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnnbench.budget import is_open, trained
from bnnbench.errors import BnnbenchError
from bnnbench.places import check_alike
from bnnbench.runs import Part
from bnnbench.search import are_independent, optuna_study, suggest, take
from bnnbench.store import DONE, ENDED, PRUNED, TUNE, Entry, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from bnnbench.cells import Cell
    from bnnbench.places import Places
    from bnnbench.runs import Run
    from bnnbench.studies import Protocol


class Trials:
    """What is tuned, cell by cell, on validation alone."""

    def __init__(self, store: Store, name: str, protocol: Protocol, places: Places) -> None:
        self.store, self.name, self.protocol = store, name, protocol
        self.places, self.leases = places, places.leases
        self._seconds: dict[int, float] = {}  # of training, of trials that have ended

    def is_asked(self, cell: Cell, number: int) -> bool:
        """Return whether a cell has a trial of this number; without a space there is none."""
        if not cell.spaces:
            return False
        if self.protocol.seconds is None:
            return number < self.protocol.trials
        task, method = cell.place
        tuned = self.store.entries(self.name, task=task, method=method, role=TUNE)
        cost = self.cost([e for e in tuned if e.number < number and e.state in ENDED])
        return is_open(self.protocol, cost)

    def cost(self, ended: list[Entry]) -> list[float]:
        """Return the seconds that each trial among some runs was trained for, in their order."""
        tuned = sorted((e for e in ended if e.role == TUNE), key=lambda e: e.number)
        unknown = [e for e in tuned if e.run_id not in self._seconds]
        self._seconds |= trained(self.store, unknown)
        return [self._seconds[e.run_id] for e in tuned]

    def train(self, cell: Cell, number: int) -> None:
        """Ask for a trial and train it.

        What a sampler or a pruner knows must not depend on who is faster: one trial follows the
        other, but where they do not know of each other.
        """
        alone, asking = (f"{what} {cell.optuna_name}" for what in ("trial", "cell"))
        if not are_independent(self.protocol):
            with self.leases.claimed(asking):
                self._train(cell, number, *self._ask(cell, number))
            return
        with self.leases.claimed(f"{alone}/{number}"):
            with self.leases.claimed(asking):
                asked = self._ask(cell, number)
            self._train(cell, number, *asked)

    def _ask(self, cell: Cell, number: int) -> tuple[optuna.Study, optuna.Trial, Any]:
        study = optuna_study(self.store, cell)
        return study, *take(study, number, cell)

    def _train(
        self, cell: Cell, number: int, study: optuna.Study, trial: optuna.Trial, state: Any
    ) -> None:
        if state.is_finished():
            return
        done = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=number
        )
        values = done[0].run.method.hyperparameters if done else suggest(trial, cell)
        run = self.places.run(cell, values, self.protocol.seed, test=False)
        self._check_trials(cell, run)
        entry = self.places.enter(cell, TUNE, number, run)
        told = trial if self.protocol.pruner != "none" else None
        self.places.build(cell, entry, run, told)
        self._tell(study, trial, entry)

    def _tell(self, study: optuna.Study, trial: optuna.Trial, entry: Entry) -> None:
        from optuna.trial import TrialState

        state = self.places.state(entry)
        if state == DONE:
            study.tell(trial.number, self._objective(entry))
        else:
            ended = TrialState.PRUNED if state == PRUNED else TrialState.FAIL
            study.tell(trial.number, state=ended)

    def _objective(self, entry: Entry) -> float:
        """The accuracy on validation, in the judged mode, at the selected epoch."""
        epoch = self.store.value(entry.run_id, "selected_epoch")
        judged = self.places.entry(entry).facts["judged"]
        value = self.store.value(
            entry.run_id, "accuracy", split="validation", mode=judged, epoch=int(epoch or 0)
        )
        if value is None:
            raise BnnbenchError(f"run {entry.run.key} has no accuracy on validation")
        return value

    def best(self, cell: Cell) -> Mapping[str, Any] | None:
        """Return what to confirm: the best trial's hyperparameters, or nothing but the defaults."""
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

    def _check_trials(self, cell: Cell, run: Run) -> None:
        """Refuse a trial that differs from the first in more than what is searched."""
        task, method = cell.place
        for first in self.store.entries(self.name, task=task, method=method, role=TUNE, number=0):
            then = first.run.method.hyperparameters
            searched = {name: then[name] for name in cell.spaces if name in then}
            part = Part(run.method.name, {**run.method.hyperparameters, **searched})
            check_alike(cell, first.run, replace(run, method=part))

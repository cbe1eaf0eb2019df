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

from bnnbench.budget import Spent, missing
from bnnbench.catalogue import FORMER
from bnnbench.cells import Cell, cells, check
from bnnbench.leases import ElsewhereError, Leases, LostLeaseError
from bnnbench.needs import Need, Wanted, builds_on
from bnnbench.places import Places, alike
from bnnbench.search import are_independent
from bnnbench.stopping import Stop
from bnnbench.store import CONFIRM, DONE, ENDED, TUNE, Entry, Store
from bnnbench.trainer import Observer, Trainer
from bnnbench.trials import Trials

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.experiments import Workbench

PAUSE = 0.5  #: seconds until a worker looks again at what others are at


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
        trainer = Trainer(store, name, workbench, observer, checkpoint_every, self.stop, keep=keep)
        self.places = Places(store, name, trainer, self.leases, workbench.checkpoints)
        self.study = store.study(name)
        self.cells = cells(name, self.study, workbench)
        self.protocol = self.study.protocol
        self.trials = Trials(store, name, self.protocol, self.places)
        self._over: set[tuple[object, ...]] = set()  # what need not be looked at again
        self._chosen: dict[str, Mapping[str, Any] | None] = {}  # to confirm, by the cell's name

    def needs(self) -> list[Need]:
        """Return what is missing, by (task, method); runs that others build on come first."""
        ended = [e for e in self.store.entries(self.name) if e.state in ENDED]
        wanted, own = Wanted(self.places.base_run, self.places.is_ready), []
        for cell in self.cells:
            found = [e for e in ended if (e.task, e.method) == cell.place]
            cost = self.trials.cost(found)
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
        key = self.places.run(cell, {}, seed, test=True).key
        return self.store.states([key]).get(key) == DONE

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
        best = self.trials.best(cell) if mine and tuned else None
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
                train = partial(self.trials.train, number=number)
                if not self._is_over(("trial", number), cell, train):
                    busy.append(cell)
            number += 1
            asked = self._asked_for(number, busy)
        return busy

    def _asked_for(self, number: int, busy: list[Cell]) -> list[Cell]:
        """The cells that have a trial of this number which need not wait for one before it."""
        free = are_independent(self.protocol)
        return [
            c for c in self.cells if (free or c not in busy) and self.trials.is_asked(c, number)
        ]

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
            self._chosen[cell.optuna_name] = self.trials.best(cell)
            self._set_aside(cell, self._chosen[cell.optuna_name])

    @property
    def seeds(self) -> range:
        """The seeds of the confirming runs, the same for every method."""
        first = self.protocol.seed + 1
        return range(first, first + self.protocol.seeds)

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
            and alike(e.run, self.places.run(cell, values, e.number, test=True))
        ]
        if gone or back:
            told = f"{cell.optuna_name}: confirming runs of the former best trial: {len(gone)}"
            again = f", of this one from before: {len(back)}" if back else ""
            self.store.set_aside(self.name, cell.place, gone, back, told + again)

    def _is_former(self, cell: Cell, entry: Entry, values: Mapping[str, Any] | None) -> bool:
        """Whether a confirming run differs from that of the best trial in hyperparameters alone."""
        now = self.places.run(cell, values or {}, entry.number, test=True)
        is_other = values is None or not alike(entry.run, now)
        return is_other and alike(replace(entry.run, method=now.method), now)

    def _confirm(self, cell: Cell, values: Mapping[str, Any], seed: int) -> None:
        run = self.places.run(cell, values, seed, test=True)
        self.places.build(cell, self.places.enter(cell, CONFIRM, seed, run), run, None)

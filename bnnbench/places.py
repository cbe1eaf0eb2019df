"""The runs of a study in their places: made from cells, and trained with what they build on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnnbench.errors import UsageError
from bnnbench.failures import LOST, Failure
from bnnbench.leases import told
from bnnbench.store import BASE, DONE, ENDED, PENDING, Entry, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from bnnbench.cells import Cell
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.leases import Claim, Leases
    from bnnbench.runs import Run
    from bnnbench.trainer import Trainer

MOST_LOST = 4  #: workers that a run may lose at one place before it fails


class Places:
    """Where the runs of a study stand; what stands there is trained once."""

    def __init__(
        self, store: Store, name: str, trainer: Trainer, leases: Leases, checkpoints: Checkpoints
    ) -> None:
        self.store, self.name = store, name
        self.trainer, self.leases, self.checkpoints = trainer, leases, checkpoints

    def build(self, cell: Cell, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train what a run builds on, then the run itself, where that is not done.

        Raises:
            ElsewhereError: another worker is at one of them.
        """
        if entry.state in ENDED:
            self._mention_bases(cell, run.seed)
            return
        failures = [self._base(base, run.seed) for base in cell.bases.values()]
        with self.leases.claimed(f"run {run.key}") as claim:
            if self.state(entry) in ENDED:  # by another worker, a moment ago
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
            if made.state == DONE and not self.is_ready(made.run):
                self.store.end_run(made.run_id, PENDING)  # its weights were lost
        run = self.base_run(cell, seed)
        entry = self.enter(cell, BASE, run.seed, run)
        if entry.state == DONE and not self.is_ready(entry.run):
            self.store.end_run(entry.run_id, PENDING)  # another study's, whose weights were lost
        self.build(cell, self.entry(entry), run, None)
        entry = self.entry(entry)
        if entry.state == DONE:
            return None
        reason = entry.error.partition("\n")[0]
        told = f"the run {cell.method.name!r} that it builds on {entry.state}: {reason}"
        return Failure(entry.failure, told)

    def _mention_bases(self, cell: Cell, seed: int) -> None:
        """Give what a finished run, perhaps another study's, builds on its place in this study."""
        for base in cell.bases.values():
            run = self.base_run(base, seed)
            if run.key in self.store.states([run.key]):
                self.enter(base, BASE, run.seed, run)
            self._mention_bases(base, run.seed)

    def is_ready(self, run: Run) -> bool:
        """Return whether a run that others build on need not be trained."""
        here = self.checkpoints.has_weights(run.key)
        return here and self.store.states([run.key]).get(run.key) == DONE

    def run(self, cell: Cell, values: Mapping[str, Any], seed: int, *, test: bool) -> Run:
        """Return the run of a cell, building on this study's base runs as they were made."""
        keys = {
            key: self.base_run(base, cell.seed_of(seed)).key for key, base in cell.bases.items()
        }
        return cell.run(values, seed, test=test, bases=keys)

    def base_run(self, cell: Cell, seed: int) -> Run:
        """Return the run that others of this seed build on; one that is done stays as it is."""
        done = [made.run for made in self._made(cell, seed) if made.state == DONE]
        return done[0] if done else self.run(cell, {}, seed, test=False)

    def _made(self, cell: Cell, seed: int) -> list[Entry]:
        number = cell.seed_of(seed)
        place = {"task": cell.task.name, "method": cell.method.name, "number": number}
        return self.store.entries(self.name, role=BASE, **place)

    def enter(self, cell: Cell, role: str, number: int, run: Run) -> Entry:
        """Return what stands at a place of a cell, a run of this description.

        Raises:
            UsageError: a run of another description stands there.
        """
        entry = self.store.enter(self.name, cell.task.name, cell.method.name, role, number, run)
        check_alike(cell, entry.run, run)
        return entry

    def entry(self, entry: Entry) -> Entry:
        """Return what stands now where this stood."""
        place = {key: getattr(entry, key) for key in ("task", "method", "role", "number")}
        return self.store.entries(self.name, **place)[0]

    def state(self, entry: Entry) -> str:
        """Return how far it has come by now."""
        return self.entry(entry).state


def alike(then: Run, now: Run) -> bool:
    """Return whether two runs have one description, but for the versions of plugins."""
    return replace(then, code=now.code).to_json() == now.to_json()


def check_alike(cell: Cell, then: Run, now: Run) -> None:
    """Refuse another description than the one that a cell was begun with.

    Raises:
        UsageError: in one line, what differs.
    """
    if not alike(then, now):
        raise UsageError(
            f"{cell.optuna_name} was begun with {_differences(then, now)}; a study keeps to one"
            " description, create another"
        )


def _differences(then: Run, now: Run) -> str:
    old, new = then.method.hyperparameters, now.method.hyperparameters
    names = sorted(k for k in {**old, **new} if old.get(k) != new.get(k))
    told = [f"{k} = {old.get(k)!r}, now {new.get(k)!r}" for k in names]
    return "; ".join(told) or "another data set, network, loss or protocol"

"""What a study still needs: the runs that are missing, and those that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.budget import Spent
    from bnnbench.cells import Cell
    from bnnbench.runs import Run


class Need(NamedTuple):
    """What a study still needs of one (task, method), or of a run that others build on.

    ``bases`` counts the latter's runs that are missing, ``reused`` those runs that another study
    has already; ``builds_on`` says what it starts from or learns from. ``spent`` is what its trials
    have cost; where a budget of seconds is ``open``, those that are missing are a guess.
    """

    task: str
    method: str
    trials: int
    confirmations: int
    epochs: int
    bases: int = 0
    reused: int = 0
    builds_on: tuple[str, ...] = ()
    spent: Spent | None = None
    open: bool = False

    @property
    def runs(self) -> int:
        """How many runs are missing."""
        return self.trials + self.confirmations + self.bases


def builds_on(cell: Cell) -> tuple[str, ...]:
    """Return in words what a cell builds on: "start_from = relaxed"."""
    return tuple(f"{key} = {base.method.name}" for key, base in cell.bases.items())


class Wanted:
    """The runs that a study's missing runs build on, each once, in the order of their training."""

    def __init__(
        self, describe: Callable[[Cell, int], Run], is_ready: Callable[[Run], bool]
    ) -> None:
        self._describe, self._is_ready = describe, is_ready
        self._found: dict[str, tuple[Cell, bool]] = {}

    def add(self, cell: Cell, seed: int) -> None:
        """Add what the cell's run of this seed builds on."""
        for base in cell.bases.values():
            run = self._describe(base, seed)
            if run.key in self._found:
                continue
            ready = self._is_ready(run)
            if not ready:
                self.add(base, run.seed)
            self._found[run.key] = base, ready

    def needs(self) -> list[Need]:
        """Return a need for each of the study's named runs."""
        named: dict[tuple[str, str], list[tuple[Cell, bool]]] = {}
        for cell, ready in self._found.values():
            named.setdefault(cell.place, []).append((cell, ready))
        return [_need(runs[0][0], [ready for _, ready in runs]) for runs in named.values()]


def _need(cell: Cell, ready: list[bool]) -> Need:
    missing, there = ready.count(False), ready.count(True)
    return Need(*cell.place, 0, 0, cell.task.epochs, missing, there, builds_on(cell))

"""The tables of what differs: against the reference, to the target, across tasks, as published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.cli.comparisons import (
    across_notes,
    difference_cells,
    median,
    published_cells,
)
from bnnbench.statistics.ranks import Refusal
from bnnbench_reports.tables import NONE, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.comparisons import Comparisons


def differences_table(comparisons: Comparisons) -> Table:
    """Return the differences from the reference, of all tasks; no line where there is none."""
    columns = ["task", "method", f"− {comparisons.reference}, points", "95 % interval"]
    columns += ["p (Holm)", "effect", "better", "n"]
    found = comparisons.differences
    lines = [(each.task, each.method, *difference_cells(each)) for each in found]
    return _table(columns, lines if any(each.paired for each in found) else [])


def arrivals_table(comparisons: Comparisons) -> Table:
    """Return what it takes to reach the reference's accuracy on validation."""
    columns = ["task", "method", "target, %", "reached", "epochs", "seconds", "flips per weight"]
    lines = [
        (
            task,
            method,
            f"{way.target:.2f}",
            f"{way.epochs.reached} of {way.epochs.n}",
            *(median(each) for each in (way.epochs, way.seconds, way.flips)),
        )
        for (task, method), way in comparisons.arrivals.items()
    ]
    return _table(columns, lines)


def published_table(comparisons: Comparisons) -> Table:
    """Return published values beside measured ones, with their source."""
    columns = ["task", "method", "published, %", "measured, %", "difference", "in published sd"]
    lines = [
        (each.task, each.method, *published_cells(each), each.published.source or NONE)
        for each in comparisons.published
    ]
    return _table([*columns, "source"], lines, text=1)


def ranks_table(comparisons: Comparisons) -> Table:
    """Return the mean ranks across tasks, and the areas of the performance profiles."""
    across, areas = comparisons.across, comparisons.areas
    if across is None or isinstance(across.ranking, Refusal):
        return _table(["method"], [])
    columns = ["method", "mean rank", "not different"]
    lines = [
        [method, f"{rank:.2f}", letters]
        for method, rank, letters in zip(
            across.methods, across.ranking.ranks, across.letters, strict=True
        )
    ]
    if areas:
        columns.append(f"profile, {areas.unit}")
        lines = [[*line, f"{a:.2f}"] for line, a in zip(lines, areas.areas, strict=True)]
    return _table(columns, lines, first=1)


def ranks_said(comparisons: Comparisons) -> str:
    """Return what was tested across tasks, nothing where there is one task."""
    said = [line.removeprefix("across tasks: ") for line in across_notes(comparisons)]
    return ". ".join(line[0].upper() + line[1:] for line in said)


def _table(
    columns: Sequence[str], lines: Iterable[Sequence[str]], first: int = 2, text: int = 0
) -> Table:
    """A table whose columns from the first on are numbers, but for some at the end."""
    shown = [[cell or NONE for cell in line] for line in lines]
    return Table(columns, shown, frozenset(range(first, len(columns) - text)))

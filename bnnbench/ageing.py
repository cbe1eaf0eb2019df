"""Runs that were trained with other code than a study would use now: they stay, and it is said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bnnbench.entries import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.cells import Cell
    from bnnbench.entries import Entry


def aged(planned: Sequence[Cell], entries: Iterable[Entry]) -> list[str]:
    """Return a sentence for each distribution or plugin file that runs were trained with before."""
    now = {cell.place: cell.code for cell in planned}
    counts: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        if entry.state not in ENDED:
            continue
        code = now.get((entry.task, entry.method), {})
        for name, version in entry.run.code.items():
            if name in code and code[name] != version:
                counts[name, version, code[name]] += 1
    return [
        f"{count} {'run was' if count == 1 else 'runs were'} trained with {name} {then}, which is"
        f" now {new}; what is finished stays, create another study to compare the new code"
        for (name, then, new), count in sorted(counts.items())
    ]

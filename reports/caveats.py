"""What must be known to read a verdict: other data, shared time, other bits, head starts.

Each is a clause; :func:`bnnbench_reports.phrases.joined` makes a sentence of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench_reports.phrases import NAMED, listed, span
from bnnbench_reports.readings import noted_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results
    from bnnbench.rows import Row


def caveats(results: Results, rows: Sequence[Row]) -> list[str]:
    """Return the clauses; ``rows`` are those of the table of results."""
    entries = results.confirmed()
    synthetic = sorted({e.task for e in entries if e.facts.get("synthetic")})
    said = []
    if synthetic:
        named = listed(synthetic)
        said.append(f"the data of {named} are synthetic, so no published value compares")
    rest = {task: note for task, note in results.notes.items() if task not in synthetic}
    said += other_data(noted_tasks(rest))
    said += shared_time([entry.shared for entry in entries])
    return [*said, *other_bits(rows), *head_starts(rows)]


def other_data(noted: Sequence[tuple[str, str]]) -> list[str]:
    """Say which tasks have other data than the published ones, and what sets them apart.

    >>> other_data([("a", "fewer images"), ("b", "smaller images")])
    ['the data of a are not quite the published ones: fewer images; of b: smaller images']
    """
    if not noted:
        return []
    (tasks, note), *others = noted
    told = [f"the data of {tasks} are not quite the published ones: {note}"]
    told += [f"of {tasks}: {note}" for tasks, note in others[: NAMED - 1]]
    left = len(others) - (NAMED - 1)
    return ["; ".join([*told, *([f"and {left} more"] if left > 0 else [])])]


def shared_time(shared: Sequence[bool]) -> list[str]:
    """Say how many runs shared the machine with others, and what that means for times."""
    if not any(shared):
        return []
    if all(shared):
        return ["all runs shared the machine with others, so no time is shown; accuracies stand"]
    return [
        f"{sum(shared)} of {len(shared)} runs shared the machine with others; they count for"
        " accuracy and are left out of times"
    ]


def other_bits(rows: Sequence[Row]) -> list[str]:
    """Say which methods call weights binary that have more than one bit."""
    found = {
        row.method: f"what {row.method} calls binary has {row.weight_bits}-bit weights"
        for row in rows
        if row.done and row.mode == "binary" and row.weight_bits != "1"
    }
    return [listed(list(found.values()))] if found else []


def head_starts(rows: Sequence[Row]) -> list[str]:
    """Say which methods were trained before, where those of a task were not all alike."""
    found: dict[str, list[int]] = {}
    tasks: list[str] = []
    for task in dict.fromkeys(row.task for row in rows):
        epochs = {row.method: row.epochs_before for row in rows if row.task == task}
        if len(set(epochs.values())) > 1:
            tasks.append(task)
            for method, count in epochs.items():
                found.setdefault(method, []).extend([count] if count else [])
    told = [f"{method} ({span(counts, 'd')})" for method, counts in found.items() if counts]
    if not told:
        return []
    return [
        f"on {listed(tasks)} some methods start from a run that was trained before, and have its"
        f" epochs besides their own: {listed(told)}"
    ]

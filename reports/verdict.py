"""The verdict: a few sentences with numbers, and what must be known to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.cli.comparisons import p_value
from bnnbench.comparisons import Comparisons
from bnnbench.statistics.paired import ALPHA, Cannot
from bnnbench.statistics.signedranks import smallest
from bnnbench_reports.readings import (
    Scores,
    accuracy_name,
    differences,
    noted_tasks,
    scores,
    tasks_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.comparisons import Difference
    from bnnbench.results import Results
    from bnnbench.rows import Row

NAMED = 12  #: differences that a sentence names


def verdict(
    results: Results, rows: Sequence[Row], comparisons: Comparisons | None = None
) -> list[str]:
    """Return a sentence or two for each task, then the caveats."""
    comparisons = comparisons or Comparisons(results, rows)
    judged = [each for each in scores(results) if each.judged]
    binary = {(row.task, row.method) for row in rows if row.judged and row.weight_bits == "1"}
    sentences = [
        _task([each for each in judged if each.task == task], binary, results)
        for task in tasks_of(judged)
    ]
    sentences += [
        f"What {row.method} calls binary has {row.weight_bits}-bit weights."
        for row in rows
        if row.done and row.mode == "binary" and row.weight_bits != "1"
    ]
    return [*sentences, *head_starts(rows), *caveats(results, judged, comparisons)]


def _task(judged: Sequence[Scores], binary: set[tuple[str, str]], results: Results) -> str:
    best = _ranked(judged)[0]
    accuracy = accuracy_name(results, judged)
    first = (
        f"On {best.task}, {best.method} has the best test {accuracy}: {best.spread.format()} %"
        f" (n = {best.spread.n}, judged with {best.mode or 'unknown'} weights)."
    )
    rivals = _ranked([each for each in judged if (each.task, each.method) in binary])
    return f"{first} {lead(rivals)}".strip()


def _ranked(found: Sequence[Scores]) -> list[Scores]:
    return sorted(found, key=lambda each: -each.spread.mean)


def lead(ranked: Sequence[Scores]) -> str:
    """Say by how much the first leads the second of the methods with binary weights."""
    if not ranked:
        return "No method here was judged with binary weights."
    if len(ranked) == 1:
        return f"{ranked[0].method} is the only method judged with binary weights."
    first, second = ranked[:2]
    begin = f"Among methods judged with binary weights, {first.method}"
    begin += f" ({first.spread.format()} %)"
    lead = differences(first, second)
    if lead is None:
        return f"{begin} comes first; it has no seed in common with {second.method}, the next."
    seeds = f"{lead.n} common seed{'s' if lead.n > 1 else ''}"
    return (
        f"{begin} leads {second.method} ({second.spread.format()} %)"
        f" by {lead.format()} points (paired difference over {seeds})."
    )


def head_starts(rows: Sequence[Row]) -> list[str]:
    """Say of each task which methods were trained before, where not all were alike."""
    said = []
    for task in dict.fromkeys(row.task for row in rows):
        epochs = {row.method: row.epochs_before for row in rows if row.task == task}
        early = {method: count for method, count in epochs.items() if count}
        if early and len(set(epochs.values())) > 1:
            told = ", ".join(f"{method} ({count})" for method, count in early.items())
            said.append(
                f"On {task} some methods start from a run that was trained before, and have its"
                f" epochs besides their own: {told}."
            )
    return said


def caveats(results: Results, judged: Sequence[Scores], comparisons: Comparisons) -> list[str]:
    """Return what limits the sentences before, first what was tested."""
    n = max((each.spread.n for each in judged), default=0)
    entries = results.confirmed()
    shared = sum(entry.shared for entry in entries)
    said = [significance(n, comparisons) if judged else "No finished run has a test accuracy."]
    synthetic = sorted({e.task for e in entries if e.facts.get("synthetic")})
    if synthetic:
        said.append(
            f"The data of {', '.join(synthetic)} are synthetic, so no published value compares."
        )
    rest = {task: note for task, note in results.notes.items() if task not in synthetic}
    said += [
        f"The data of {tasks} are not quite the published ones: {note}."
        for tasks, note in noted_tasks(rest)
    ]
    if shared == len(entries):
        said.append(
            "All runs shared the machine with others, so no time is shown; accuracies stand."
        )
    elif shared:
        said.append(
            f"{shared} of {len(entries)} runs shared the machine with others; they count for"
            " accuracy and are left out of times."
        )
    return said


def significance(n: int, comparisons: Comparisons) -> str:
    """Say what differs from the reference, or what so many seeds cannot show."""
    seeds = f"n = {n} seed{'s' if n != 1 else ''}"
    if smallest(n) > ALPHA:
        return (
            f"With at most {seeds} no order of methods is claimed to be significant: at this n,"
            f" Wilcoxon's signed-rank test cannot go below p = {smallest(n):.3g}."
        )
    pairs = [each for each in comparisons.differences if each.paired]
    if not pairs:
        return "No method was compared with a reference, so no order of methods is claimed."
    return claimed(pairs, comparisons.reference)


def claimed(found: Sequence[Difference], reference: str) -> str:
    """Say which of the paired differences from the reference are significant."""
    told = [each.paired for each in found if each.paired]
    able = sum(not isinstance(paired.p, Cannot) for paired in told)
    if not able:
        why = "; ".join(dict.fromkeys(str(paired.p) for paired in told))
        return f"No difference from {reference} is claimed to be significant: {why}."
    how = f"by Wilcoxon's signed-rank test with Holm's correction over {able} comparisons"
    clear = [said for each in found if (said := _clear(each))]
    if not clear:
        return (
            f"No difference from {reference} is significant at {ALPHA} {how}; that does not show"
            " that the methods are equal."
        )
    more = f"; and {len(clear) - NAMED} more" if len(clear) > NAMED else ""
    return f"Different from {reference} {how}: {'; '.join(clear[:NAMED])}{more}."


def _clear(difference: Difference) -> str:
    """A significant difference in a few words."""
    paired = difference.paired
    if paired is None or not paired.significant:
        return ""
    return (
        f"{difference.method} on {difference.task} ({paired.mean:+.2f} points,"
        f" p = {p_value(paired.p)}, n = {paired.n})"
    )

"""The verdict: at most five sentences with numbers, and what must be known to read them.

    1  which method is best, how often and with what accuracy
    2  by how much the first of the methods with binary weights leads the next
    3  what differs from the reference, as far as it was tested
    4  what sets the data, the runs and the methods apart
    5  what sets the study apart from its source

Of several tasks a sentence counts and gives ranges; the tables have each task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.cli.comparisons import p_value
from bnnbench.comparisons import Comparisons
from bnnbench.statistics.paired import ALPHA, Cannot
from bnnbench.statistics.signedranks import smallest
from bnnbench_reports.caveats import caveats
from bnnbench_reports.phrases import NAMED, joined, listed, span
from bnnbench_reports.readings import Scores, accuracy_name, differences, scores, tasks_of
from bnnbench_reports.repeat import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.comparisons import Difference
    from bnnbench.results import Results
    from bnnbench.rows import Row


def verdict(
    results: Results, rows: Sequence[Row], comparisons: Comparisons | None = None
) -> list[str]:
    """Return the sentences, at most five."""
    comparisons = comparisons or Comparisons(results, rows)
    judged = [each for each in scores(results) if each.judged]
    by_task = [[each for each in judged if each.task == task] for task in tasks_of(judged)]
    binary = {(row.task, row.method) for row in rows if row.judged and row.weight_bits == "1"}
    rivals = [[each for each in one if (each.task, each.method) in binary] for one in by_task]
    n = max((each.spread.n for each in judged), default=0)
    said = [
        *([best(by_task, accuracy_name(results, judged)), lead(rivals)] if judged else []),
        significance(n, comparisons) if judged else "No finished run has a test accuracy.",
        joined(caveats(results, rows)),
        limits(results),
    ]
    return [sentence for sentence in said if sentence]


def best(by_task: Sequence[Sequence[Scores]], accuracy: str) -> str:
    """Say which method is best; of several tasks, on how many and from what to what.

    Args:
        by_task: the scores of each task, in the modes in which the methods are judged.
        accuracy: what people call it.
    """
    firsts = [_ranked(judged)[0] for judged in by_task]
    if len(firsts) == 1:
        (first,) = firsts
        return (
            f"On {first.task}, {first.method} has the best test {accuracy}:"
            f" {first.spread.format()} % (n = {first.spread.n}, judged with"
            f" {first.mode or 'unknown'} weights)."
        )
    told = [
        f"{method}{'' if place else f' has the best mean test {accuracy}'} on"
        f" {_counted(len(mine), len(firsts), first=not place)}"
        f" ({span([each.spread.mean for each in mine])} %)"
        for place, (method, mine) in enumerate(_by_method(firsts))
    ]
    seeds = span([each.spread.n for each in firsts], "d")
    return (
        f"{listed(told)}; each method is judged in its own mode, with n = {seeds}"
        f" seed{'s' if seeds != '1' else ''} on a task."
    )


def lead(by_task: Sequence[Sequence[Scores]]) -> str:
    """Say by how much the first leads the second of the methods with binary weights."""
    rivals = [_ranked(each) for each in by_task if each]
    methods = dict.fromkeys(each.method for ranked in rivals for each in ranked)
    if not rivals:
        return "No method here was judged with binary weights."
    if len(methods) == 1:
        return f"{next(iter(methods))} is the only method judged with binary weights."
    if len(rivals) == 1:
        return _lead(*rivals[0][:2])
    told = [
        f"{method}{'' if place else ' comes first'} on"
        f" {_counted(len(mine), len(rivals), first=not place)}"
        f"{_ahead([ranked for ranked in rivals if ranked[0].method == method])}"
        for place, (method, mine) in enumerate(_by_method([ranked[0] for ranked in rivals]))
    ]
    return f"Among methods judged with binary weights, {listed(told)}."


def _lead(first: Scores, second: Scores) -> str:
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


def _ahead(rivals: Sequence[Sequence[Scores]]) -> str:
    """By how many points the first of each task leads the next, where that is known."""
    leads = [differences(*ranked[:2]) for ranked in rivals if len(ranked) > 1]
    known = [lead.mean for lead in leads if lead]
    return f" ({span(known)} points ahead of the next, paired)" if known else ""


def _ranked(found: Sequence[Scores]) -> list[Scores]:
    return sorted(found, key=lambda each: -each.spread.mean)


def _by_method(found: Iterable[Scores]) -> list[tuple[str, list[Scores]]]:
    """The scores by method, the most frequent first."""
    groups: dict[str, list[Scores]] = {}
    for each in found:
        groups.setdefault(each.method, []).append(each)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def _counted(count: int, total: int, *, first: bool) -> str:
    """On how many tasks; the first of a list says of how many.

    >>> _counted(2, 3, first=True), _counted(1, 3, first=False), _counted(3, 3, first=True)
    ('2 of 3 tasks', '1', 'all 3 tasks')
    """
    if count == total:
        return "both tasks" if total == 2 else f"all {total} tasks"
    return f"{count} of {total} tasks" if first else str(count)


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
    clear = [each for each in found if each.paired and each.paired.significant]
    if not clear:
        return (
            f"No difference from {reference} is significant at {ALPHA} {how}; that does not show"
            " that the methods are equal."
        )
    one_by_one = len(clear) <= NAMED
    named = [_clear(each) for each in clear] if one_by_one else _clear_by_method(clear)
    return f"Different from {reference} {how}: {'; '.join(named)}."


def _clear(difference: Difference) -> str:
    """A significant difference in a few words."""
    paired = difference.paired
    assert paired  # noqa: S101  # it is significant
    return (
        f"{difference.method} on {difference.task} ({paired.mean:+.2f} points,"
        f" p = {p_value(paired.p)}, n = {paired.n})"
    )


def _clear_by_method(found: Sequence[Difference]) -> list[str]:
    """Significant differences by method: on how many tasks, and from what to what."""
    groups: dict[str, list[float]] = {}
    for each in found:
        assert each.paired  # noqa: S101  # it is significant
        groups.setdefault(each.method, []).append(each.paired.mean)
    order = sorted(groups.items(), key=lambda item: -len(item[1]))
    told = [
        f"{method} on {len(means)} task{'s' if len(means) > 1 else ''}"
        f" ({span(means, '+.2f')} points)"
        for method, means in order
    ]
    left = len(told) - NAMED
    more = [f"{left} other method{'s' if left > 1 else ''}"] if left > 0 else []
    return [*told[:NAMED], *more]

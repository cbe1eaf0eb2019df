"""Paired differences of test accuracy to the reference: every seed, and the mean's interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench.statistics.paired import Cannot
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.figures.drawing import count_of, plain, rows, upright, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import accuracy_name, tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.comparisons import Comparisons, Difference
    from bnnbench.results import Results
    from bnnbench.statistics.intervals import Interval
    from bnnbench.statistics.paired import Paired
    from bnnbench_reports.colours import Look


class Pairs(NamedTuple):
    """Differences to the reference of the same seed, in points; ``paired`` is what they say."""

    task: str
    method: str
    by_seed: dict[int, float]
    paired: Paired


def info(results: Results) -> list[Pairs]:
    """Return the differences of each (task, method) that has a seed in common with the reference.

    They are those of the table of differences.
    """
    comparisons = compared(results)
    found = [(each, each.paired) for each in comparisons.differences]
    return [
        Pairs(each.task, each.method, _by_seed(comparisons, each), paired)
        for each, paired in found
        if paired
    ]


def _by_seed(comparisons: Comparisons, each: Difference) -> dict[int, float]:
    mine = comparisons.judged[each.task, each.method]
    theirs = comparisons.judged[each.task, each.reference]
    return {seed: mine[seed] - theirs[seed] for seed in sorted(mine) if seed in theirs}


def differences_figure(results: Results) -> Figure | None:
    """Draw a line of points for each method, one panel for each task."""
    found = info(results)
    if not found:
        return None
    name, reference = accuracy_name(results, found), results.study.reference
    counts = [each.paired.n for each in found]
    most = room(counts, DOTS)
    return Figure(
        title=f"Test {name} minus that of {reference} ({count_of(counts)} seeds)",
        explanation=(
            "Each point is a seed: the method's test accuracy minus the reference's with the same"
            " seed, in points of percent, each in the mode in which it is judged. The upright mark"
            " is their mean, the bar its 95 % interval (bootstrap-t): where the mean of very many"
            " seeds would lie. With fewer than three seeds there is none. p is Wilcoxon's, with"
            " Holm's correction over the differences of all tasks. An interval that holds 0 does"
            " not show that two methods are equal, and nothing here speaks of other data or"
            f" hyperparameters.{spaced_said(most, 'seeds')}"
        ),
        drawing=draw(results, found, "difference in points of percent", most),
        summary=summary(
            f"Mean test {name} minus that of {reference}",
            [Value(called(each, found), each.paired.mean) for each in found],
            f"{count_of(counts)} seeds",
            " points",
            "+.2f",
        ),
        info=found,
    )


def draw(results: Results, found: list[Pairs], x: str, most: int = 0) -> Any:
    """Return the drawing; ``most`` are the points of a line, if not all."""
    look, tasks = looks(results.study), tasks_of(found)
    drawing = rows(found, label, x)
    for each in found:
        for trace in _traces(each, look[each.method], most):
            drawing.add_trace(trace, row=tasks.index(each.task) + 1, col=1)
    upright(drawing, 0, len(tasks))
    return drawing


def label(each: Pairs) -> str:
    """Return the name of a line: the method, p where there is one, and the number of pairs."""
    p = "" if isinstance(each.paired.p, Cannot) else f"p = {each.paired.p:.2g}, "
    return f"{wrapped(each.method)}<br>{p}n = {each.paired.n}"


def _traces(each: Pairs, look: Look, most: int) -> list[Any]:
    points = dots(each.method, each.by_seed, label(each), look, "%{x:+.2f} points", most)
    return [points, marked(each.paired.mean, each.paired.interval, label(each), look, _said(each))]


def _said(each: Pairs) -> str:
    paired = each.paired
    said = f"{plain(each.method)}: {paired.mean:+.2f} points, n = {paired.n}"
    if paired.interval:
        said += f", 95 % interval {paired.interval.low:+.2f} to {paired.interval.high:+.2f}"
    return f"{said}, {paired.p if isinstance(paired.p, Cannot) else f'p = {paired.p:.2g}'}"


def dots(
    method: str, by_seed: Mapping[int, float], line: str, look: Look, shown: str, most: int
) -> Any:
    """Return a faint point for each seed on a line; ``shown`` is plotly's format of a value."""
    from plotly.graph_objects import Scatter

    seeds, values = list(by_seed), list(by_seed.values())
    places = spaced(values, most)
    return Scatter(
        x=[values[place] for place in places],
        y=[line] * len(places),
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 8},
        opacity=0.55,
        customdata=[seeds[place] for place in places],
        hovertemplate=f"{plain(method)}, seed %{{customdata}}: {shown}<extra></extra>",
    )


def marked(mean: float, interval: Interval | None, line: str, look: Look, hover: str) -> Any:
    """Return an upright mark at a mean, with a bar where it has an interval."""
    from plotly.graph_objects import Scatter

    low, high = interval or (mean, mean)
    bar = {"array": [high - mean], "arrayminus": [mean - low], "symmetric": False}
    return Scatter(
        x=[mean],
        y=[line],
        mode="markers",
        marker={"color": look.colour, "symbol": "line-ns-open", "size": 18, "line_width": 3},
        error_x=bar | {"color": look.colour, "width": 6, "thickness": 2} if interval else {},
        hovertemplate=f"{hover}<extra></extra>",
    )

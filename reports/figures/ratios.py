"""Seconds of training per epoch as a ratio to the reference's, with its interval."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench.statistics.intervals import Interval, interval
from bnnbench_reports.colours import looks
from bnnbench_reports.figures import times
from bnnbench_reports.figures.differences import dots, marked
from bnnbench_reports.figures.drawing import count_of, plain, rows, upright, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced_said

if TYPE_CHECKING:
    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


class Ratios(NamedTuple):
    """Ratios of a run's median seconds per epoch to the reference's of the same seed."""

    task: str
    method: str
    by_seed: dict[int, float]
    mean: float
    interval: Interval | None


def info(results: Results) -> list[Ratios]:
    """Return the ratios of each (task, method), the reference's own left out."""
    return [
        Ratios(
            each.task,
            each.method,
            each.ratios,
            statistics.fmean(each.ratios.values()),
            interval(list(each.ratios.values())),
        )
        for each in times.info(results)
        if each.ratios and each.method != results.study.reference
    ]


def ratios_figure(results: Results) -> Figure | None:
    """Draw a line for each method, one panel for each task."""
    found = info(results)
    if not found:
        return None
    reference = results.study.reference
    most = room([len(each.by_seed) for each in found], DOTS)
    return Figure(
        title=(
            f"Time per epoch as a ratio to {reference}"
            f" ({count_of(len(each.by_seed) for each in found)} seeds)"
        ),
        explanation=(
            f"A run's median seconds of training per epoch, divided by those of {reference} with"
            " the same seed (no unit): 2 takes twice as long. Points are seeds, the upright mark"
            " is their mean, the bar its 95 % interval (bootstrap-t); with fewer than three seeds"
            " there is none. The interval is of the seeds of this machine: another machine,"
            " network or batch size has other ratios, and runs that were not trained side by side"
            " carry the machine's moods. Runs that shared the machine are left out."
            f"{spaced_said(most, 'seeds')}"
        ),
        drawing=draw(results, found, most),
        summary=summary(
            f"Mean time per epoch divided by that of {reference}",
            [Value(called(each, found), each.mean) for each in found],
            f"{count_of(len(each.by_seed) for each in found)} seeds",
        ),
        info=found,
    )


def draw(results: Results, found: list[Ratios], most: int = 0) -> Any:
    """Return the drawing; ``most`` are the points of a line, if not all."""
    look, tasks = looks(results.study), tasks_of(found)
    x = f"seconds per epoch ÷ those of {plain(results.study.reference)}"
    drawing = rows(found, label, x)
    for each in found:
        for trace in _traces(each, look[each.method], most):
            drawing.add_trace(trace, row=tasks.index(each.task) + 1, col=1)
    upright(drawing, 1, len(tasks))
    return drawing


def label(each: Ratios) -> str:
    """Return the name of a line: the method, its mean ratio and the number of seeds."""
    return f"{wrapped(each.method)}<br>{each.mean:.2f} ×, n = {len(each.by_seed)}"


def _traces(each: Ratios, look: Look, most: int) -> list[Any]:
    points = dots(each.method, each.by_seed, label(each), look, "%{x:.3f} ×", most)
    said = f"{plain(each.method)}: {each.mean:.3f} ×, n = {len(each.by_seed)}"
    if each.interval:
        said += f", 95 % interval {each.interval.low:.3f} to {each.interval.high:.3f}"
    return [points, marked(each.mean, each.interval, label(each), look, said)]

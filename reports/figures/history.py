"""Validation accuracy by trial number, and the best so far."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.drawing import Panel, add, count_of, panels, plain, whole
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.figures.trials import Search, left_out, searches
from bnnbench_reports.readings import accuracy_name, tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


class History(NamedTuple):
    """The completed trials of a (task, method): their numbers and accuracies in percent.

    ``best`` is the best accuracy so far by trial, from the first completed one to the last of all.
    """

    task: str
    method: str
    numbers: tuple[int, ...]
    accuracies: tuple[float, ...]
    best: dict[int, float]


def info(results: Results) -> list[History]:
    """Return the history of each (task, method) with a completed trial."""
    return [
        History(
            search.task,
            search.method,
            tuple(trial.number for trial, _ in search.completed),
            tuple(search.accuracies),
            best_so_far(search),
        )
        for search in searches(results)
        if search.completed
    ]


def best_so_far(search: Search) -> dict[int, float]:
    """Return the best accuracy of the trials up to each; what was not completed changes nothing."""
    values = (-math.inf if trial.accuracy is None else trial.accuracy for trial in search.trials)
    best = zip((trial.number for trial in search.trials), accumulate(values, max), strict=True)
    return {number: value for number, value in best if value > -math.inf}


def history_figure(results: Results) -> Figure | None:
    """Draw the trials as points and the best so far as steps, one panel for each task."""
    found = info(results)
    if not found:
        return None
    name = accuracy_name(results, found)
    most = room([len(each.numbers) for each in found], DOTS)
    return Figure(
        title=f"Tuning history ({count_of(len(each.numbers) for each in found)} completed trials)",
        explanation=(
            f"Validation {name} of each completed trial, in the mode in which the method is judged"
            " and at the epoch that was selected; the steps are the best one so far. Trial 0 has"
            " the published hyperparameters where they lie in the search space. Where the steps"
            " still rise at the end, more trials would have helped. The best of many trials is too"
            " good to be true, as it was chosen for its luck as well: the test accuracies above are"
            " of new runs."
            f"{left_out(searches(results))}{spaced_said(most, 'trials')}"
        ),
        drawing=draw(results, found, f"validation {name} in %", most),
        summary=summary(
            f"Best validation {name} of the trials",
            [Value(called(each, found), max(each.accuracies)) for each in found],
            f"{count_of(len(each.numbers) for each in found)} completed trials",
            " %",
        ),
        info=found,
    )


def draw(results: Results, found: list[History], y: str, most: int = 0) -> Any:
    """Return the drawing; ``most`` are the trials of a method that are drawn, if not all."""
    look, tasks, named = looks(results.study), tasks_of(found), set[str]()
    drawing = panels([Panel(task, 300) for task in tasks], "number of the trial", y)
    whole(drawing, max(max(each.best) for each in found))
    for each in found:
        for trace in _traces(each, look[each.method], most):
            add(drawing, trace, tasks.index(each.task) + 1, named)
    return drawing


def _traces(each: History, look: Look, most: int) -> list[Any]:
    from plotly.graph_objects import Scatter

    name, shown = plain(each.method), spaced(each.accuracies, most)
    dots = Scatter(
        x=[each.numbers[place] for place in shown],
        y=[each.accuracies[place] for place in shown],
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 7},
        opacity=0.5,
        hovertemplate=f"{name}, trial %{{x}}: %{{y:.2f}} %<extra></extra>",
    )
    steps = Scatter(
        x=list(each.best),
        y=list(each.best.values()),
        mode="lines" if len(each.best) > 1 else "markers",
        line={"shape": "hv", "color": look.colour, "dash": look.dash, "width": 2.5},
        name=name,
        hovertemplate=f"{name}, best up to trial %{{x}}: %{{y:.2f}} %<extra></extra>",
    )
    return [dots, steps]

"""Whether accuracy rises or falls with a hyperparameter: rank correlations over the trials.

r    Spearman's rank correlation of the values and the accuracies, ties share a rank
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench.statistics.signedranks import midranks
from bnnbench_reports.colours import looks
from bnnbench_reports.figures import slices
from bnnbench_reports.figures.drawing import count_of, plain, rows, upright, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look

FEWEST = 8  #: trials, of which the correlation of nothing at all has a deviation of 0.38


class Correlation(NamedTuple):
    """The rank correlation of a hyperparameter with accuracy, over n completed trials."""

    task: str
    method: str
    name: str
    r: float
    n: int


def info(results: Results) -> list[Correlation]:
    """Return the correlations of the hyperparameters that are numbers, the methods together."""
    found = [
        Correlation(each.task, one.method, each.name, r, len(one.values))
        for each in slices.info(results)
        for one in each.slices
        if each.axis != "category" and len(one.values) >= FEWEST
        if (r := correlation(one.values, one.accuracies)) is not None
    ]
    tasks = [task.name for task in results.study.tasks]
    methods = [method.name for method in results.study.methods]
    return sorted(found, key=lambda each: (tasks.index(each.task), methods.index(each.method)))


def correlation(values: Sequence[float], accuracies: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, None where either does not vary.

    >>> correlation([1, 2, 3, 4], [10.0, 20.0, 40.0, 30.0])
    0.8
    """
    ranks = [midranks(np.asarray(each, dtype=float)) for each in (values, accuracies)]
    if any(np.ptp(each) == 0 for each in ranks):
        return None
    return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 12)


def importance_figure(results: Results) -> Figure | None:
    """Draw a bar for each hyperparameter of a method, one panel for each task."""
    found = info(results)
    if not found:
        return None
    return Figure(
        title=(
            "Does accuracy rise or fall with a hyperparameter?"
            f" ({count_of(each.n for each in found)} completed trials)"
        ),
        explanation=(
            "Spearman's rank correlation of a hyperparameter's values with validation accuracy"
            " over a method's completed trials (no unit): 1 where the larger value is always the"
            " better one, -1 where it is always the worse. Near 0 a hyperparameter may still"
            " matter, if the best lies in the middle or depends on another one: look at the points"
            " above. Of n trials without any connection the correlation has a deviation of"
            " 1/√(n - 1), and trials of a sampler that learns are not independent, so there is no"
            " p. Hyperparameters that are no numbers are left out, and so are methods with fewer"
            f" than {FEWEST} completed trials."
        ),
        drawing=draw(results, found),
        summary=summary(
            "Rank correlation of a hyperparameter with validation accuracy",
            [Value(f"{each.name}, {called(each, found)}", each.r) for each in found],
            f"{count_of(each.n for each in found)} completed trials",
            form="+.2f",
        ),
        info=found,
    )


def draw(results: Results, found: list[Correlation]) -> Any:
    """Return the bars, from 0 to the left and to the right."""
    look, tasks = looks(results.study), tasks_of(found)
    drawing = rows(found, label, "rank correlation with accuracy (no unit)")
    for each in found:
        bar = _bar(each, look[each.method])
        drawing.add_trace(bar, row=tasks.index(each.task) + 1, col=1)
    upright(drawing, 0, len(tasks))
    drawing.update_xaxes(range=[-1.05, 1.05], dtick=0.5)
    return drawing


def label(each: Correlation) -> str:
    """Return the name of a bar: the method, the hyperparameter, the number of trials."""
    return f"{wrapped(each.method)}<br>{wrapped(each.name)}, n = {each.n}"


def _bar(each: Correlation, look: Look) -> Any:
    from plotly.graph_objects import Bar

    said = f"{plain(each.method)}, {plain(each.name)}: r = {each.r:+.2f}, n = {each.n}"
    return Bar(
        x=[each.r],
        y=[label(each)],
        orientation="h",
        width=0.5,
        marker={"color": look.colour},
        hovertemplate=f"{said}<extra></extra>",
    )

"""Final test accuracy: every seed, mean and deviation, in every inference mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnbench.interfaces import Figure
from bnnbench.metrics import OTHERS
from bnnbench_reports.figures.drawing import count_of, rows, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import Scores, accuracy_name, scores, tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


SHARES = {
    "accuracy": "Share of the test split that is classified rightly",
    "accuracy_top5": "Share of the test split whose class is among the five largest outputs",
    "mean_iou": "Intersection over union of true and predicted pixels, mean over the classes,",
}


def info(results: Results, metric: str = "accuracy") -> list[Scores]:
    """Return a metric of each (task, method, mode) on the test split, the judged mode first."""
    return scores(results, metric)


def scores_figure(results: Results, metric: str = "accuracy") -> Figure | None:
    """Draw a line of points for each method and mode."""
    found = info(results, metric)
    if not found:
        return None
    name = OTHERS.get(metric) or accuracy_name(results, found)
    most = room([each.spread.n for each in found], DOTS)
    return Figure(
        title=f"Test {name} ({count_of(each.spread.n for each in found)} seeds)",
        explanation=(
            f"{SHARES[metric]} by the selected network of each"
            " confirming run; the test split is looked at once a run. Points are seeds, the bar is"
            " mean ± sample standard deviation. Strong: the weights with which the method is"
            " judged (marked *). Faint: the other ways to deploy the same network."
            f"{spaced_said(most, 'seeds')}"
        ),
        drawing=draw(results, found, f"test {name} in %", most),
        summary=summary(
            f"Mean test {name}",
            [Value(f"{called(e, found)}, {e.mode or 'unknown'}", e.spread.mean) for e in found],
            f"{count_of(e.spread.n for e in found)} seeds",
            " %",
        ),
        info=found,
    )


def top5_figure(results: Results) -> Figure | None:
    """Draw the top-5 accuracies, where there are more than ten classes."""
    return scores_figure(results, "accuracy_top5")


def mean_iou_figure(results: Results) -> Figure | None:
    """Draw the mean intersections over unions of segmentations."""
    return scores_figure(results, "mean_iou")


def draw(
    results: Results, found: list[Scores], x: str = "test accuracy in %", most: int = 0
) -> Drawing:
    """Return the drawing, a panel for each task; ``most`` are the points of a line, if not all."""
    from bnnbench_reports.colours import looks

    tasks = tasks_of(found)
    look = looks(results.study)
    drawing = rows(found, label, x)
    for each in found:
        for trace in _traces(each, look[each.method], most):
            drawing.add_trace(trace, row=tasks.index(each.task) + 1, col=1)
    return drawing


def label(each: Scores) -> str:
    """Return the name of a line: the method and the mode, the judged one with a star.

    >>> label(Scores("digits", "ste", "binary", True, {1: 90.0}))
    'ste, binary*'
    """
    return wrapped(f"{each.method}, {each.mode or 'unknown'}{'*' if each.judged else ''}")


def _traces(each: Scores, look: Look, most: int) -> list[Any]:
    from plotly.graph_objects import Scatter

    spread, name = each.spread, label(each)
    seeds, values = list(each.by_seed), list(each.by_seed.values())
    shown = spaced(values, most)
    points = Scatter(
        x=[values[place] for place in shown],
        y=[name] * len(shown),
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 9},
        opacity=0.75 if each.judged else 0.3,
        customdata=[seeds[place] for place in shown],
        hovertemplate=f"{name}, seed %{{customdata}}: %{{x:.2f}} %<extra></extra>",
    )
    mean = Scatter(
        x=[spread.mean],
        y=[name],
        mode="markers",
        marker={"color": look.colour, "symbol": "line-ns-open", "size": 16, "line_width": 3},
        error_x={"type": "data", "array": [spread.sd or 0], "color": look.colour, "width": 6},
        opacity=1 if each.judged else 0.4,
        hovertemplate=f"{name}: {spread.format()} %, n = {spread.n}<extra></extra>",
    )
    return [points, mean]

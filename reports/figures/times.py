"""Seconds of training per epoch, and their ratio to the reference's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnbench.interfaces import Figure
from bnnbench.results import Spread
from bnnbench_reports.figures.drawing import Panel, height, panels, plain, wrapped
from bnnbench_reports.readings import Times, tasks_of, times
from bnnbench_reports.thinning import VALUES, room, spaced, spaced_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


def info(results: Results) -> list[Times]:
    """Return the seconds of training per epoch of each (task, method)."""
    return times(results)


def times_figure(results: Results) -> Figure | None:
    """Draw a box for each method."""
    known = info(results)
    found = [each for each in known if len(each.seconds)]
    if not found:
        return None
    left_out = sum(each.left_out for each in known)
    most = room([len(each.seconds) for each in found], VALUES)
    reference = results.study.reference
    return Figure(
        title="Training time per epoch",
        explanation=(
            "Getting the batches, forward, backward and the optimizers; without evaluation, probes"
            " and the database. A box holds all epochs of all runs but the first epoch of each,"
            f" which is warm-up. Runs that shared the machine with others are left out: {left_out}."
            + (
                f" The ratio is that of a run's median to the median of {reference!r} with the same"
                " seed, mean ± sample standard deviation over seeds."
                if reference
                else " The study has no reference method, so there is no ratio."
            )
            + spaced_said(most, "epochs")
        ),
        drawing=draw(results, found, most),
    )


def label(each: Times) -> str:
    """Return the name of a line: the method, its number of runs, and the ratio if there is one."""
    ratio = Spread.of(list(each.ratios.values()))
    shown = f"{ratio.format()} ×, " if ratio else ""
    return f"{wrapped(each.method)}<br>{shown}n = {len(each.medians)}"


def draw(results: Results, found: list[Times], most: int = 0) -> Drawing:
    """Return the drawing, a panel for each task; ``most`` are the epochs of a box, if not all."""
    from bnnbench_reports.colours import looks

    tasks = tasks_of(found)
    look = looks(results.study)
    wanted = [Panel(t, height([label(e) for e in found if e.task == t])) for t in tasks]
    drawing = panels(wanted, "seconds of training per epoch", "", shared=False, legend=False)
    drawing.update_xaxes(rangemode="tozero")
    drawing.update_yaxes(type="category", autorange="reversed")
    for each in found:
        box = _box(each, look[each.method], most)
        drawing.add_trace(box, row=tasks.index(each.task) + 1, col=1)
    return drawing


def _box(each: Times, look: Look, most: int) -> Any:
    from plotly.graph_objects import Box

    seconds = each.seconds[spaced(each.seconds, most)]
    return Box(
        x=seconds,
        y=[label(each)] * len(seconds),
        orientation="h",
        name=plain(each.method),
        boxpoints="outliers",
        marker={"color": look.colour, "size": 4},
        line={"width": 1.5},
        hovertemplate=f"{plain(each.method)}: %{{x:.3g}} s<extra></extra>",
    )

"""Seconds of training per epoch, every epoch; :mod:`ratios` has them beside the reference's."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, plain, rows, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import Times, tasks_of, times
from bnnbench_reports.thinning import VALUES, room, spaced, spaced_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


@lru_cache(maxsize=1)
def info(results: Results) -> list[Times]:
    """Return the seconds of training per epoch of each (task, method), read only once."""
    return times(results)


def times_figure(results: Results) -> Figure | None:
    """Draw a box for each method."""
    known = info(results)
    found = [each for each in known if len(each.seconds)]
    if not found:
        return None
    left_out = sum(each.left_out for each in known)
    most = room([len(each.seconds) for each in found], VALUES)
    return Figure(
        title=f"Training time per epoch ({count_of(len(each.medians) for each in found)} seeds)",
        explanation=(
            "Getting the batches, forward, backward and the optimizers; without evaluation, probes"
            " and the database. A box holds all epochs of all runs but the first epoch of each,"
            f" which is warm-up. Runs that shared the machine with others are left out: {left_out}."
            " Epochs of one run are not independent of each other, and a machine that slows down"
            " slows down whichever method it is at; the ratios compare runs of the same seed."
            + spaced_said(most, "epochs")
        ),
        drawing=draw(results, found, most),
        summary=summary(
            "Median training time of an epoch",
            [Value(called(each, found), float(np.median(each.seconds))) for each in found],
            f"{count_of(len(each.medians) for each in found)} seeds",
            " s",
            ".3g",
        ),
        info=found,
    )


def label(each: Times) -> str:
    """Return the name of a line: the method and its number of runs."""
    return f"{wrapped(each.method)}<br>n = {len(each.medians)}"


def draw(results: Results, found: list[Times], most: int = 0) -> Drawing:
    """Return the drawing, a panel for each task; ``most`` are the epochs of a box, if not all."""
    from bnnbench_reports.colours import looks

    tasks = tasks_of(found)
    look = looks(results.study)
    drawing = rows(found, label, "seconds of training per epoch")
    drawing.update_xaxes(rangemode="tozero")
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

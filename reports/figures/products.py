"""Dot products with binary against latent weights: what binarization keeps of a layer's output.

source: Anderson and Berg (ICLR 2018), figure 3
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY
from bnnbench_reports.figures.drawing import count_of, positive, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.probed import Look, left_out, looks, short

if TYPE_CHECKING:
    from bnnbench.results import Results
    from bnnbench_reports.readings import Array

#: transparent where there is next to nothing, so that it is calm on white and on black
SCALE = [[0, "rgba(47, 127, 193, 0.08)"], [1, "rgba(47, 127, 193, 1)"]]
GRID = 24  #: cells on a side
WIDTH = 6.0  #: of all cells, in standard deviations
MOST = 24  #: maps that are drawn
COLUMNS = 3
SIDE, AXIS = 170, 50  #: pixels of a map's height, and of what is below it
NAME = re.compile(r"dot_cell_(\d\d)_(\d\d)")
METRICS = ["dot_r", "dot_shuffled_r"]
METRICS += [f"dot_cell_{x:02}_{y:02}" for x in range(GRID) for y in range(GRID)]


class Plane(NamedTuple):
    """Counts of pairs of dot products, (y, x) in standard deviations, and their correlation.

    Counts are the sum over the seeds, ``r`` and ``shuffled`` the mean; that may be unknown.
    """

    look: Look
    counts: Array
    r: float
    shuffled: float | None


def info(results: Results) -> list[Plane]:
    """Return a plane for each layer of each (task, method) whose dot products were looked at."""
    if not results.series(["dot_r"], split="validation", mode=""):
        return []  # without asking a large study for hundreds of cells
    found = looks(results, METRICS, split="validation", mode="")
    return [
        Plane(look, cells(look), look.values["dot_r"], look.values.get("dot_shuffled_r"))
        for look in found
        if "dot_r" in look.values
    ]


def cells(look: Look) -> Array:
    """Return the counts of all seeds, (y, x); a seed stores no cell that is empty."""
    counts = np.zeros((GRID, GRID))
    for metric, count in look.values.items():
        if place := NAME.fullmatch(metric):
            x, y = map(int, place.groups())
            counts[y, x] = count * look.seen[metric]
    return counts


def products_figure(results: Results) -> Figure | None:
    """Draw the planes, one for each method and layer."""
    found = [plane for plane in info(results) if plane.counts.any()]
    if not found:
        return None
    shown, count = found[:MOST], count_of(plane.look.n for plane in found)
    first = f" The first {MOST} of {len(found)} are drawn." if len(found) > MOST else ""
    without = left_out(results, (plane.look.method for plane in found))
    return Figure(
        title=f"Dot products with binary and with latent weights ({count} seeds)",
        explanation=(
            "Images of the validation split, after the last epoch: for each place of a layer, the"
            " dot product of its input with the binary weights (horizontal) and with the latent"
            " ones (vertical), both in standard deviations around their means. The stronger the"
            " colour, the more often, over all seeds; what lies further out is counted at the rim."
            " On the dotted line both are alike. r is Pearson's correlation, in brackets that with"
            " the input in a random order: what the weights alone give. A high r says that"
            " binarization keeps most of what a layer computes, not that the network is accurate."
            f"{first} {without}"
        ).rstrip(),
        drawing=draw(results, shown),
        summary=summary(
            "Correlation r of dot products with binary and with latent weights",
            [
                Value(f"{short(p.look.layer)}, {called(p.look, [x.look for x in found])}", p.r)
                for p in found
            ],
            f"{count} seeds",
        ),
        info=found,
    )


def draw(results: Results, found: list[Plane]) -> Any:
    """Return heat maps in rows of three."""
    from plotly.subplots import make_subplots

    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    titles = [_title(results, plane) for plane in found]
    head = 15 * (max(title.count("<br>") for title in titles) + 1)
    height = SIDE * rows + (head + AXIS) * (rows - 1)
    drawing = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.05,
        vertical_spacing=(head + AXIS) / height if rows > 1 else 0,
    )
    for number, plane in enumerate(found):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        drawing.add_trace(_map(plane), **place)
        drawing.add_trace(_diagonal(), **place)
    drawing.update_annotations(font_size=11)
    drawing.update_xaxes(title={"text": "binary, sd", "font": {"size": 10}})
    drawing.update_yaxes(title={"text": "latent, sd", "font": {"size": 10}})
    drawing.update_xaxes(range=[-WIDTH / 2, WIDTH / 2], showgrid=False, zeroline=False)
    drawing.update_yaxes(range=[-WIDTH / 2, WIDTH / 2], showgrid=False, zeroline=False)
    margin = {"l": 50, "r": 10, "t": head + 15, "b": AXIS}
    drawing.update_layout(height=height + head + 15 + AXIS, margin=margin, showlegend=False)
    return drawing


def _map(plane: Plane) -> Any:
    from plotly.graph_objects import Heatmap

    centres = (np.arange(GRID) + 0.5) * WIDTH / GRID - WIDTH / 2
    share = plane.counts / plane.counts.sum()
    return Heatmap(
        x=centres,
        y=centres,
        z=np.sqrt(positive(share)),  # so that what is rare is seen beside what is frequent
        customdata=100 * share,
        colorscale=SCALE,
        zmin=0,
        hoverongaps=False,
        showscale=False,
        hovertemplate="%{x:.2f} sd, %{y:.2f} sd: %{customdata:.2f} %<extra></extra>",
    )


def _diagonal() -> Any:
    from plotly.graph_objects import Scatter

    ends = [-WIDTH / 2, WIDTH / 2]
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip")


def _title(results: Results, plane: Plane) -> str:
    look = plane.look
    task = f"{look.task}: " if len(results.study.tasks) > 1 else ""
    name = wrapped(f"{task}{look.method}, {short(look.layer)}", 24)
    shuffled = "" if plane.shuffled is None else f" ({plane.shuffled:.2f})"
    return f"{name}<br>r = {plane.r:.2f}{shuffled}"

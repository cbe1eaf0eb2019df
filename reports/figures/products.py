"""Dot products with binary against latent weights: what binarization keeps of a layer's output.

source: Anderson and Berg (ICLR 2018), figure 3
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, plain, wrapped
from bnnbench_reports.probed import Look, looks, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.results import Results
    from bnnbench_reports.readings import Array

GRID = 24  #: cells on a side
WIDTH = 6.0  #: of all cells, in standard deviations
MOST = 24  #: maps that are drawn
COLUMNS = 4
NAME = re.compile(r"dot_cell_(\d\d)_(\d\d)")
METRICS = ["dot_r", "dot_shuffled_r"]
METRICS += [f"dot_cell_{x:02}_{y:02}" for x in range(GRID) for y in range(GRID)]


class Plane(NamedTuple):
    """Counts of pairs of dot products, (y, x) in standard deviations, and their correlation."""

    look: Look
    counts: Array
    r: float
    shuffled: float


def info(results: Results) -> list[Plane]:
    """Return a plane for each layer of each (task, method) whose dot products were looked at."""
    found = looks(results, METRICS, split="validation", mode="")
    return [
        Plane(
            look, cells(look.values), look.values["dot_r"], look.values.get("dot_shuffled_r", 0.0)
        )
        for look in found
        if "dot_r" in look.values
    ]


def cells(values: Mapping[str, float]) -> Array:
    """Return the counts, (y, x); what was not stored is 0."""
    counts = np.zeros((GRID, GRID))
    for metric, count in values.items():
        if place := NAME.fullmatch(metric):
            x, y = map(int, place.groups())
            counts[y, x] = count
    return counts


def products_figure(results: Results) -> Figure | None:
    """Draw the planes, one for each method and layer."""
    found = [plane for plane in info(results) if plane.counts.any()]
    if not found:
        return None
    shown, count = found[:MOST], count_of(plane.look.n for plane in found)
    left = f" The first {MOST} of {len(found)} are drawn." if len(found) > MOST else ""
    return Figure(
        title=f"Dot products with binary and with latent weights ({count} seeds)",
        explanation=(
            "Images of the validation split, after the last epoch: for each place of a layer, the"
            " dot product of its input with the binary weights (horizontal) and with the latent"
            " ones (vertical), both in standard deviations around their means; darker is more"
            " often, counts of all seeds. r is Pearson's correlation, in brackets that with the"
            " input in a random order: what the weights alone give. What lies further out is"
            f" counted at the rim.{left}"
        ),
        drawing=draw(results, shown),
    )


def draw(results: Results, found: list[Plane]) -> Any:
    """Return heat maps in rows of four."""
    from plotly.graph_objects import Heatmap
    from plotly.subplots import make_subplots

    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    drawing = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_title(results, plane) for plane in found],
        horizontal_spacing=0.05,
        vertical_spacing=90 / (250 * rows) if rows > 1 else 0,
    )
    centres = (np.arange(GRID) + 0.5) * WIDTH / GRID - WIDTH / 2
    for number, plane in enumerate(found):
        share = plane.counts / plane.counts.sum()
        drawing.add_trace(
            Heatmap(
                x=centres,
                y=centres,
                z=np.sqrt(share),
                customdata=100 * share,
                colorscale="Cividis",
                reversescale=True,
                showscale=False,
                hovertemplate="%{x:.2f} sd, %{y:.2f} sd: %{customdata:.2f} %<extra></extra>",
            ),
            row=number // columns + 1,
            col=number % columns + 1,
        )
    drawing.update_annotations(font_size=11)
    drawing.update_xaxes(title={"text": "binary, sd", "font": {"size": 10}})
    drawing.update_yaxes(title={"text": "latent, sd", "font": {"size": 10}})
    drawing.update_layout(height=250 * rows + 80, margin={"l": 50, "r": 10, "t": 60, "b": 50})
    return drawing


def _title(results: Results, plane: Plane) -> str:
    look = plane.look
    task = f"{look.task}: " if len(results.study.tasks) > 1 else ""
    name = wrapped(f"{task}{look.method}, {short(look.layer)}", 24)
    return f"{name}<br>{plain(f'r = {plane.r:.2f} ({plane.shuffled:.2f})')}"

"""Flip rate per layer and epoch: which layers still move, and when they come to rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import (
    Panel,
    count_of,
    panels,
    plain,
    positive,
    whole,
    wrapped,
)
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import Array, aligned, in_order
from bnnbench_reports.thinning import CELLS, epochs_said, every

if TYPE_CHECKING:
    from bnnbench.results import Curve, Results


class Map(NamedTuple):
    """``flip_step`` of a (task, method): ``values`` is (layers, epochs), mean over n seeds."""

    task: str
    method: str
    layers: tuple[str, ...]
    epochs: Array
    values: Array
    n: int


def info(results: Results) -> list[Map]:
    """Return a map for each (task, method) whose flips were counted per layer."""
    curves = [curve for curve in results.curves("flip_step") if curve.layer]
    found = []
    for (task, method), mine in in_order(results, curves, lambda curve: curve.entry):
        layers = tuple(dict.fromkeys(parameters(mine)))
        epochs, values = aligned(mine)
        means = [values[[curve.layer == layer for curve in mine]].mean(axis=0) for layer in layers]
        n = len({curve.entry.number for curve in mine})
        found.append(Map(task, method, layers, epochs, np.stack(means), n))
    return [found_map for found_map in found if len(found_map.epochs)]


def parameters(curves: list[Curve]) -> list[str]:
    """Return the measured layers from the network's input to its output, as far as is known."""
    roles = curves[0].entry.facts.get("roles", [])
    known = [str(role["parameter"]) for role in roles]
    measured = {curve.layer for curve in curves}
    return [name for name in known if name in measured] + sorted(measured - set(known))


def layers_figure(results: Results) -> Figure | None:
    """Draw a heat map for each method, layers over epochs, on one scale of colours."""
    found = info(results)
    if not found:
        return None
    step = math.ceil(sum(each.values.size for each in found) / CELLS)
    said = epochs_said([each.epochs for each in found], step)
    return Figure(
        title=f"Flip rate per layer ({count_of(each.n for each in found)} seeds)",
        explanation=(
            "The same flip rate for each layer, mean over seeds; one panel for each method, layers"
            " from the input (top) to the output, one scale of colours for all. Where a layer had"
            f" no flip in an epoch nothing is drawn. {said}"
        ).rstrip(),
        drawing=draw([thin(each, step) for each in found]),
        summary=summary(
            "Flip rate per step, mean over the epochs",
            [
                Value(f"{layer.removesuffix('.weight')}, {called(each, found)}", float(rate))
                for each in found
                for layer, rate in zip(each.layers, each.values.mean(axis=1), strict=True)
            ],
            f"{count_of(each.n for each in found)} seeds",
            form=".3g",
        ),
        info=found,
    )


def thin(each: Map, step: int) -> Map:
    """Return a map with one in so many epochs."""
    columns = every(each.epochs, step)
    return each._replace(epochs=each.epochs[columns], values=each.values[:, columns])


def draw(found: list[Map]) -> Any:
    """Return the heat maps, one above the other."""
    from plotly.graph_objects import Heatmap

    several = len({each.task for each in found}) > 1
    titles = [f"{each.task}: {each.method}" if several else each.method for each in found]
    heights = [60 + 22 * len(each.layers) for each in found]
    drawing = panels([Panel(*pair) for pair in zip(titles, heights, strict=True)], "epoch", "")
    scale = _scale(found)
    for row, each in enumerate(found, start=1):
        drawing.add_trace(
            Heatmap(
                x=each.epochs,
                y=[wrapped(layer.removesuffix(".weight")) for layer in each.layers],
                z=_log(each.values),
                customdata=each.values,
                coloraxis="coloraxis",
                hovertemplate="%{y}, epoch %{x}: %{customdata:.3g}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    drawing.update_yaxes(autorange="reversed", type="category")
    whole(drawing, max(int(each.epochs[-1]) for each in found))
    drawing.update_layout(coloraxis=scale)
    if len(found) == 1:
        drawing.update_layout(title={"text": plain(titles[0]), "font": {"size": 14}, "x": 0.5})
    return drawing


def _log(values: Array) -> Array:
    return np.log10(positive(values))


def _scale(found: list[Map]) -> dict[str, Any]:
    logs = np.concatenate([_log(each.values).ravel() for each in found])
    logs = logs[np.isfinite(logs)]
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (-6.0, 0.0)
    decades = range(math.ceil(low), math.floor(high) + 1)
    ticks = [float(tick) for tick in decades] if len(decades) > 1 else [low, high]
    return {
        "colorscale": "Cividis",
        "cmin": low,
        "cmax": high if high > low else low + 1,
        "colorbar": {
            "title": {"text": "flip rate: share of weights per step", "side": "top"},
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.0e}" for tick in ticks],
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "thickness": 12,
        },
    }

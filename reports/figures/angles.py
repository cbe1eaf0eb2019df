"""Angles between latent and binary weights, by layer and by dimension, beside the theory's.

source: Anderson and Berg (ICLR 2018), figures 1 and 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain, wrapped
from bnnbench_reports.probed import (
    APART_SD,
    GAUSSIAN,
    GAUSSIAN_SD,
    TERNARY,
    UNIFORM,
    Look,
    left_out,
    looks,
    short,
)
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from bnnbench.results import Results
    from bnnbench_reports.readings import Array

METRICS = ("angle_mean", "angle_sd", "angle_apart_mean", "angle_apart_sd", "fan_in")
DEGREES = "angle in degrees"
THEORY = {"Gaussian": GAUSSIAN, "ternary": TERNARY, "uniform": UNIFORM}


def info(results: Results) -> list[Look]:
    """Return the angles in degrees of each layer's latents to its binary weights."""
    found = looks(results, METRICS, mode="")
    return [look for look in found if "angle_mean" in look.values]


def angles_figure(results: Results) -> Figure | None:
    """Draw the angles by layer, one panel for each task."""
    found = info(results)
    if not found:
        return None
    return Figure(
        title=f"Angle between latent and binary weights ({count_of(x.n for x in found)} seeds)",
        explanation=(
            "For each filter, the angle between what the method remembers and the signs that it"
            " deploys; mean over a layer's filters and over seeds at the last look, bars are the"
            " deviation over filters. Dashed lines: what independent weights give in high"
            f" dimension, Gaussian {GAUSSIAN:.2f}, ternary {TERNARY:.1f}, uniform {UNIFORM:.0f}"
            " degrees. An angle near 37 says that latents are spread like a Gaussian, not that"
            f" they were learned; near 0, that they lie at their bounds. {left_out(results, found)}"
        ).rstrip(),
        drawing=draw_layers(results, found),
    )


def draw_layers(results: Results, found: list[Look]) -> Any:
    """Return a point with a bar for each layer and method."""
    tasks, named = tasks_of(found), set[str]()
    drawing = panels([Panel(task, 320) for task in tasks], "layer", DEGREES, shared=False)
    for row, task in enumerate(tasks, start=1):
        for method in dict.fromkeys(x.method for x in found if x.task == task):
            mine = [x for x in found if (x.task, x.method) == (task, method)]
            labels = [wrapped(short(x.layer), 14) for x in mine]
            trace = _points(results, mine, labels, "angle").update(
                showlegend=method not in named,
                offsetgroup=method,
                hovertemplate=f"{plain(method)}, %{{x}}: %{{y:.2f}} degrees<extra></extra>",
            )
            drawing.add_trace(trace, row=row, col=1)
            named.add(method)
        for name, degrees in THEORY.items():
            line = {"color": GREY, "dash": "dash", "width": 1}
            said = {"text": name, "font": {"size": 10}}
            where = {"annotation_position": "top right", "row": row, "col": 1}
            drawing.add_hline(degrees, line=line, annotation=said, **where)
    drawing.update_yaxes(range=[0, 45])
    drawing.update_xaxes(type="category")
    drawing.update_layout(scattermode="group")
    return drawing


def dimension_figure(results: Results) -> Figure | None:
    """Draw the angles against the dimension, with those of unrelated vectors."""
    found = [look for look in info(results) if "fan_in" in look.values]
    if not found:
        return None
    return Figure(
        title=f"Angles as the dimension grows ({count_of(x.n for x in found)} seeds)",
        explanation=(
            "Each point is a layer, at the number of weights of a filter: below, the angle between"
            " latent and binary weights; above, faint, between the latents and the same binary"
            " weights in a random order. Bars are the deviation over filters. Bands: mean and"
            f" deviation in theory, of unrelated vectors (90 degrees, {APART_SD:.1f}/√d) and of"
            f" Gaussian weights and their signs ({GAUSSIAN:.2f} degrees, {GAUSSIAN_SD:.1f}/√d). In"
            " high dimension unrelated vectors are nearly orthogonal: 37 degrees is close."
        ),
        drawing=draw_dimension(results, found),
    )


def draw_dimension(results: Results, found: list[Look]) -> Any:
    """Return the bands of the theory and a point for each layer."""
    drawing = panels([Panel("", 420)], "weights of a filter (dimension d)", DEGREES)
    sizes = [x.values["fan_in"] for x in found]
    d = np.geomspace(max(3, min(sizes) / 2), 2 * max(sizes), 40)
    drawing.add_trace(_band("unrelated", d, 90.0, APART_SD))
    drawing.add_trace(_band("Gaussian", d, GAUSSIAN, GAUSSIAN_SD))
    for method in dict.fromkeys(x.method for x in found):
        for metric in ("angle", "angle_apart"):
            mine = [x for x in found if x.method == method and f"{metric}_mean" in x.values]
            trace = _points(results, mine, [x.values["fan_in"] for x in mine], metric).update(
                showlegend=metric == "angle",
                opacity=1.0 if metric == "angle" else 0.5,
                text=[plain(f"{x.task}, {short(x.layer)}") for x in mine],
                hovertemplate=(
                    f"{plain(method)}, %{{text}}<br>d = %{{x}}: %{{y:.2f}} degrees<extra></extra>"
                ),
            )
            drawing.add_trace(trace)
    drawing.update_xaxes(type="log")
    drawing.update_yaxes(range=[0, 125])
    return drawing


def _points(results: Results, mine: list[Look], x: list[Any], metric: str) -> Any:
    """A method's angles with their deviation over filters."""
    from plotly.graph_objects import Scatter

    method = mine[0].method if mine else ""
    look = colours(results.study).get(method)
    return Scatter(
        x=x,
        y=[each.values[f"{metric}_mean"] for each in mine],
        error_y={"array": [each.values.get(f"{metric}_sd", 0.0) for each in mine], "thickness": 1},
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 9} if look else {},
        name=plain(method),
        legendgroup=method,
    )


def _band(name: str, d: Array, middle: float, sd: float) -> Any:
    """One deviation on both sides of an angle, which shrinks with the root of the dimension."""
    from plotly.graph_objects import Scatter

    half = sd / np.sqrt(d)
    return Scatter(
        x=np.concatenate([d, d[::-1]]),
        y=np.concatenate([middle + half, (middle - half)[::-1]]),
        fill="toself",
        mode="lines",
        line={"color": GREY, "width": 0.5},
        opacity=0.5,
        name=f"theory: {name}",
        hoverinfo="skip",
    )

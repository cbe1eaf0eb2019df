"""Angles between latent and binary weights by layer, beside the theory's.

source: Anderson and Berg (ICLR 2018), figure 2
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.probed import (
    GAUSSIAN,
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

METRICS = ("angle_mean", "angle_sd")
DEGREES = "angle in degrees"
SLANTED = 100  #: pixels below a panel for names that are slanted on a narrow screen
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
    left = left_out(results, (x.method for x in found))
    return Figure(
        title=f"Angle between latent and binary weights ({count_of(x.n for x in found)} seeds)",
        explanation=(
            "For each filter, the angle between what the method remembers and the signs that it"
            " deploys; mean over a layer's filters and over seeds at the last look, bars are the"
            " deviation over filters. Dashed lines: what independent weights give in high"
            f" dimension, Gaussian {GAUSSIAN:.2f}, ternary {TERNARY:.1f}, uniform {UNIFORM:.0f}"
            " degrees. An angle near 37 says that latents are spread like a Gaussian, not that"
            f" they were learned; near 0, that they lie at their bounds. {left}"
        ).rstrip(),
        drawing=draw(results, found),
        summary=summary(
            "Angle in degrees, mean over a layer’s filters",
            [Value(f"{short(x.layer)}, {called(x, found)}", x.values["angle_mean"]) for x in found],
            f"{count_of(x.n for x in found)} seeds",
        ),
        info=found,
    )


def draw(results: Results, found: list[Look]) -> Any:
    """Return a point with a bar for each layer and method."""
    tasks, named = tasks_of(found), set[str]()
    wanted = [Panel(task, 320) for task in tasks]
    drawing = panels(wanted, "layer", DEGREES, shared=False, gap=SLANTED)
    for row, task in enumerate(tasks, start=1):
        for method in dict.fromkeys(x.method for x in found if x.task == task):
            mine = [x for x in found if (x.task, x.method) == (task, method)]
            labels = [wrapped(short(x.layer), 14) for x in mine]
            trace = _points(results, mine, labels).update(
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
    largest = max(x.values["angle_mean"] + x.values.get("angle_sd", 0.0) for x in found)
    drawing.update_yaxes(range=[0, max(45, 5 * math.ceil((largest + 1) / 5))])
    drawing.update_xaxes(type="category")
    drawing.update_layout(scattermode="group")
    return drawing


def _points(results: Results, mine: list[Look], x: list[str]) -> Any:
    """A method's angles with their deviation over filters."""
    from plotly.graph_objects import Scatter

    method = mine[0].method if mine else ""
    look = colours(results.study).get(method)
    return Scatter(
        x=x,
        y=[each.values["angle_mean"] for each in mine],
        error_y={"array": [each.values.get("angle_sd", 0.0) for each in mine], "thickness": 1},
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 9} if look else {},
        name=plain(method),
        legendgroup=method,
    )

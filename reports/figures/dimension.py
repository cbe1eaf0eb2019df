"""The distribution of the angles as the dimension grows, beside those of random vectors.

    unrelated     density proportional to sin(theta)^(d - 2): 90 degrees, narrower as d grows
    binarized     a Gaussian vector and its signs: towards arccos sqrt(2/pi) = 37.07 degrees

Of both and of what the probe measured there are the median, a thick bar from 25 to 75 % and a thin
one from 5 to 95 %. Layers stand side by side, the smallest dimension first: many networks have
several of the same dimension, which would hide each other on an axis of numbers.

source: Anderson and Berg (ICLR 2018), figure 1
departs from it: its curves are densities at a few dimensions; these are quantiles at the layers'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY
from bnnbench_reports.colours import Look as Style
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import (
    Panel,
    Seen,
    chosen_epochs,
    count_of,
    panels,
    plain,
    slider,
    wrapped,
)
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.probed import (
    GAUSSIAN,
    QUANTILES,
    Look,
    every_look,
    gaussian_angle,
    left_out,
    short,
    unrelated_angle,
)
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench_reports.readings import Array

    Law = Callable[[float, Array], Array]

KINDS = ("angle", "angle_apart")  #: latent and binary weights; the same in a random order
METRICS = ["fan_in", *(f"{kind}_q{q:02}" for kind in KINDS for q in QUANTILES)]
LAWS: dict[str, Law] = {"two random vectors": unrelated_angle, "Gaussian weights": gaussian_angle}
THEORY = {
    "two random vectors": Style(GREY, "solid", "diamond-open"),
    "Gaussian weights": Style(GREY, "solid", "star-triangle-up-open"),
}
LAYER = "layer, d weights in a filter"
BARS = ((5, 95, 1.5), (25, 75, 5))  #: quantiles in percent, and pixels


def info(results: Results) -> list[Look]:
    """Return the quantiles of the angles in degrees at each layer and epoch, with its dimension."""
    found = every_look(results, METRICS, split="", mode="")
    return [x for x in found if "fan_in" in x.values and "angle_q50" in x.values]


def dimension_figure(results: Results) -> Figure | None:
    """Draw the angles against the dimension, with those of random vectors."""
    found = info(results)
    if not found:
        return None
    count = f"{count_of(look.n for look in found)} seeds"
    several = len({look.epoch for look in found}) > 1
    slid = " The slider chooses the epoch, or the last look before it; 0 is before training."
    last = list({(x.task, x.method, x.layer): x for x in found}.values())
    return Figure(
        title=f"Distribution of the angles as the dimension grows ({count})",
        explanation=(
            "Layers by the number d of weights of a filter, methods side by side. Below: the angle"
            " between the latent and the binary weights of a layer's filters. Above, where it was"
            " measured: between the latents and the same binary weights in a random order. The mark"
            " is the median over the filters, the thick bar holds the middle half of them, the thin"
            " one 5 to 95 %; means over seeds. In grey as much in theory: of two random vectors"
            " (density proportional to sin(θ)^(d−2), 90 degrees in the middle) and, about, of"
            f" Gaussian weights and their signs (towards {GAUSSIAN:.2f} degrees). In high dimension"
            " unrelated vectors are nearly orthogonal: 37 degrees is close."
            f"{slid * several} {left_out(results, (x.method for x in found))}"
        ).rstrip(),
        drawing=draw(results, found),
        summary=summary(
            "Median angle in degrees over a layer’s filters, last looks",
            [
                Value(
                    f"{short(x.layer)}, {called(x, last)}, d = {x.values['fan_in']:.0f}",
                    x.values["angle_q50"],
                )
                for x in last
            ],
            count,
        ),
        info=found,
    )


def draw(results: Results, found: Sequence[Look]) -> Any:
    """Return the bars of the theory and of the methods, side by side, an epoch at a time."""
    tasks = tasks_of(found)
    wanted = [Panel(task, 380) for task in tasks]
    drawing = panels(wanted, LAYER, "angle in degrees", shared=False, gap=100)
    seen: list[Seen | None] = []
    for row, task in enumerate(tasks, start=1):
        here = sorted((x for x in found if x.task == task), key=lambda x: x.values["fan_in"])
        sizes = {_label(x): x.values["fan_in"] for x in here}
        for name, law in LAWS.items():
            for trace in _law(name, law, sizes):
                drawing.add_trace(trace.update(showlegend=trace.showlegend and row == 1), row, 1)
                seen.append(None)
        order = {"categoryorder": "array", "categoryarray": list(sizes)}
        drawing.update_xaxes(type="category", **order, row=row, col=1)
    last = {(look.task, look.method): look.epoch for look in found}
    named: set[str] = set()
    for (epoch, task, method), mine in _groups(found).items():
        name = method if epoch == last[task, method] else f"{method}, epoch {epoch}"
        for trace in _marks(name, mine, colours(results.study)[method]):
            trace.update(showlegend=trace.showlegend and name not in named)
            drawing.add_trace(trace, row=tasks.index(task) + 1, col=1)
            seen.append(Seen(f"{task} {method}", epoch))
        named.add(name)
    drawing.update_yaxes(rangemode="tozero", dtick=30)
    drawing.update_layout(scattermode="group", scattergap=0.25)
    slider(drawing, seen)
    return drawing


def _label(look: Look) -> str:
    """The layer with its dimension, as it stands below the axis."""
    return f"{wrapped(short(look.layer), 14)}<br>d = {look.values['fan_in']:,.0f}"


def _groups(found: Sequence[Look]) -> dict[tuple[int, str, str], list[Look]]:
    """The looks that are drawn, by epoch, task and method."""
    groups: dict[tuple[int, str, str], list[Look]] = {}
    for epoch in chosen_epochs(found):
        for look in found:
            if look.epoch == epoch:
                groups.setdefault((epoch, look.task, look.method), []).append(look)
    return groups


def _marks(name: str, mine: Sequence[Look], look: Style) -> list[Any]:
    """The bars and the medians of a method's layers at an epoch."""
    seen = [(x, kind) for x in mine for kind in KINDS if f"{kind}_q50" in x.values]
    quantiles = [{q: x.values[f"{kind}_q{q:02}"] for q in QUANTILES} for x, kind in seen]
    said = f"{mine[0].method}, {mine[0].task}, epoch {mine[0].epoch}"
    traces = _bars(name, said, look, [_label(x) for x, _ in seen], quantiles)
    group = mine[0].method
    return [trace.update(legendgroup=group, offsetgroup=group) for trace in traces]


def _law(name: str, law: Law, sizes: Mapping[str, float]) -> list[Any]:
    """The bars and the medians of random vectors of the layers' dimensions."""
    d = np.array(list(sizes.values()))
    rows = {q: law(q / 100, d) for q in QUANTILES}
    quantiles = [{q: float(rows[q][place]) for q in QUANTILES} for place in range(len(d))]
    told = f"theory: {name}"
    traces = _bars(told, told, THEORY[name], list(sizes), quantiles)
    return [trace.update(legendgroup=told, offsetgroup=told) for trace in traces]


def _bars(
    name: str,
    said: str,
    look: Style,
    labels: Sequence[str],
    quantiles: Sequence[Mapping[int, float]],
) -> list[Any]:
    """A thin bar, a thick one and the median at each label; the medians are in the legend."""
    from plotly.graph_objects import Scatter

    bars = [
        Scatter(
            x=[x for label in labels for x in (label, label, None)],
            y=[y for each in quantiles for y in (each[low], each[high], None)],
            mode="lines",
            line={"color": look.colour, "width": width},
            name=plain(f"{name}, {low} to {high} %"),
            showlegend=False,
            hoverinfo="skip",
        )
        for low, high, width in BARS
    ]
    medians = Scatter(
        x=labels,
        y=[each[50] for each in quantiles],
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 7},
        name=plain(name),
        showlegend=True,
        hovertemplate=f"{plain(said)}<br>%{{x}}: median %{{y:.2f}} degrees<extra></extra>",
    )
    return [*bars, medians]

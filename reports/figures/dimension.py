"""The distribution of the angles as the dimension grows, beside those of random vectors.

    unrelated     density proportional to sin(theta)^(d - 2): 90 degrees, narrower as d grows
    binarized     a Gaussian vector and its signs: towards arccos sqrt(2/pi) = 37.07 degrees

Both bands hold 5 to 95 %, the darker ones 25 to 75 %; so do the thin and the thick bars of what the
probe measured.

source: Anderson and Berg (ICLR 2018), figure 1
departs from it: its curves are densities at a few dimensions; these are quantiles over all
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import (
    Panel,
    Seen,
    chosen_epochs,
    count_of,
    panels,
    plain,
    slider,
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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnbench.results import Results
    from bnnbench_reports.readings import Array

    Law = Callable[[float, Array], Array]

KINDS = ("angle", "angle_apart")  #: latent and binary weights; the same in a random order
METRICS = ["fan_in", *(f"{kind}_q{q:02}" for kind in KINDS for q in QUANTILES)]
LAWS: dict[str, Law] = {"unrelated": unrelated_angle, "Gaussian": gaussian_angle}
BANDS = ((5, 95, 0.18), (25, 75, 0.3))  #: quantiles in percent, and how opaque
BARS = ((5, 95, 1.5), (25, 75, 5))  #: quantiles in percent, and pixels
APART = 1.04  #: times the dimension: from a method to the next, so that all are seen


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
            "Each mark is a layer, at the number d of weights of a filter; methods stand side by"
            " side. Below: the angle between the latent and the binary weights of its filters."
            " Above, where it was measured: between the latents and the same binary weights in a"
            " random order. The mark is the median over the filters, the thick bar holds the middle"
            " half of them, the thin one 5 to 95 %; means over seeds. Bands hold as much in theory:"
            " of two random vectors (density proportional to sin(θ)^(d−2), 90 degrees in the"
            f" middle) and of Gaussian weights and their signs (towards {GAUSSIAN:.2f} degrees). In"
            " high dimension unrelated vectors are nearly orthogonal: 37 degrees is close."
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
    """Return the bands of the theory and the marks of the layers, an epoch at a time."""
    drawing = panels([Panel("", 420)], "weights of a filter (dimension d)", "angle in degrees")
    sizes = [look.values["fan_in"] for look in found]
    d = np.geomspace(max(3, min(sizes) / 2), 2 * max(sizes), 40)
    seen: list[Seen | None] = []
    for name, law in LAWS.items():
        for low, high, opacity in BANDS:
            drawing.add_trace(_band(name, law, d, (low, high), opacity))
            seen.append(None)
    methods = list(dict.fromkeys(look.method for look in found))
    last = {(look.task, look.method): look.epoch for look in found}
    named: set[str] = set()
    for (epoch, task, method), mine in _groups(found).items():
        name = method if epoch == last[task, method] else f"{method}, epoch {epoch}"
        aside = APART ** (methods.index(method) - (len(methods) - 1) / 2)
        for trace in _marks(mine, aside, colours(results.study)[method]):
            shown = trace.mode == "markers" and name not in named
            trace.update(name=plain(name), legendgroup=method, showlegend=shown)
            drawing.add_trace(trace)
            seen.append(Seen(f"{task} {method}", epoch))
        named.add(name)
    drawing.update_xaxes(type="log", exponentformat="none")
    drawing.update_yaxes(range=[0, 150])
    slider(drawing, seen)
    return drawing


def _groups(found: Sequence[Look]) -> dict[tuple[int, str, str], list[Look]]:
    """The looks that are drawn, by epoch, task and method."""
    groups: dict[tuple[int, str, str], list[Look]] = {}
    for epoch in chosen_epochs(found):
        for look in found:
            if look.epoch == epoch:
                groups.setdefault((epoch, look.task, look.method), []).append(look)
    return groups


def _marks(mine: Sequence[Look], aside: float, look: Any) -> list[Any]:
    """The bars and the medians of a method's layers at an epoch."""
    from plotly.graph_objects import Scatter

    seen = [(x, kind) for x in mine for kind in KINDS if f"{kind}_q50" in x.values]
    bars = []
    for low, high, width in BARS:
        ends = [[x.values[f"{kind}_q{q:02}"] for q in (low, high)] for x, kind in seen]
        trace = Scatter(
            x=[place for x, _ in seen for place in (*[x.values["fan_in"] * aside] * 2, None)],
            y=[value for pair in ends for value in (*pair, None)],
            mode="lines",
            line={"color": look.colour, "width": width},
            hoverinfo="skip",
        )
        bars.append(trace)
    medians = Scatter(
        x=[x.values["fan_in"] * aside for x, _ in seen],
        y=[x.values[f"{kind}_q50"] for x, kind in seen],
        customdata=[
            [plain(f"{x.method}, {x.task}, {short(x.layer)}"), x.values["fan_in"], x.epoch]
            for x, _ in seen
        ],
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 9},
        hovertemplate=(
            "%{customdata[0]}<br>d = %{customdata[1]}, epoch %{customdata[2]}:"
            " median %{y:.2f} degrees<extra></extra>"
        ),
    )
    return [*bars, medians]


def _band(name: str, law: Law, d: Array, ends: tuple[int, int], opacity: float) -> Any:
    """What lies between two quantiles of the theory, over the dimensions."""
    from plotly.graph_objects import Scatter

    low, high = (law(end / 100, d) for end in ends)
    return Scatter(
        x=np.concatenate([d, d[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        mode="lines",
        line={"color": GREY, "width": 0},
        fillcolor=GREY,
        opacity=opacity,
        name=f"theory: {name}, {ends[0]} to {ends[1]} %",
        showlegend=False,
        hoverinfo="skip",
    )

"""Histograms of latent weights: where a method leaves the weights that it remembers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
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
from bnnbench_reports.probed import Look, every_look
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.results import Results

BINS = 40  #: of equal width from -1 to 1; one more on each side holds what is outside
METRICS = [f"latent_bin_{number:02}" for number in range(BINS + 2)]
SATURATED = "latent_saturated"


class Histogram(NamedTuple):
    """The shares of a layer's latents by bin, in percent, at the last look and at every epoch.

    ``before`` are those before training, if that was looked at.
    """

    look: Look
    before: tuple[float, ...]
    after: tuple[float, ...]
    by_epoch: Mapping[int, tuple[float, ...]]

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.look.task

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.look.method


def info(results: Results) -> list[Histogram]:
    """Return the histogram of the first binary layer of each (task, method) that has one."""
    found: dict[tuple[str, str], list[Look]] = {}
    for look in every_look(results, [*METRICS, SATURATED]):
        mine = found.setdefault((look.task, look.method), [])
        if not mine or mine[0].layer == look.layer:
            mine.append(look)
    return [_histogram(mine) for mine in found.values()]


def _histogram(mine: list[Look]) -> Histogram:
    by_epoch = {look.epoch: _shares(look) for look in mine}
    return Histogram(mine[-1], by_epoch.get(0, ()), by_epoch[mine[-1].epoch], by_epoch)


def _shares(look: Look) -> tuple[float, ...]:
    return tuple(100 * look.values.get(metric, 0.0) for metric in METRICS)


def histograms_figure(results: Results) -> Figure | None:
    """Draw the histograms, one panel for each task."""
    found = info(results)
    if not found:
        return None
    count = count_of(each.look.n for each in found)
    return Figure(
        title=f"Latent weights of the first binary layer ({count} seeds)",
        explanation=(
            "Share of the layer's latents in bins of 0.05, mean over seeds: strong lines at the"
            f" {_when(found)}, dotted ones before training. What is beyond ±1 is in the outermost"
            " bins."
            " A latent near ±1 has to go a long way before its sign changes; one near 0 flips"
            " easily. Where a method's latent is its binary weight (Bop) all"
            " are in the two bins at ±1. The scale of a latent is the method's own: that one"
            " spreads further than another does not say that it is surer of its signs."
        ),
        drawing=draw(results, found),
        summary=summary(
            "Latents within 0.001 of their bound or beyond it",
            [
                Value(called(each, found), 100 * each.look.values.get(SATURATED, math.nan))
                for each in found
            ],
            f"{count} seeds",
            " %",
            ".1f",
        ),
        info=found,
    )


def _when(found: list[Histogram]) -> str:
    """Say when the strong lines are."""
    several = len({epoch for each in found for epoch in each.by_epoch}) > 1
    return "epoch that the slider names, or the last one before it" if several else "last epoch"


def draw(results: Results, found: list[Histogram]) -> Any:
    """Return step lines in the methods' colours: those before training, and those of an epoch."""
    tasks, look = tasks_of(found), colours(results.study)
    drawing = panels(
        [Panel(task, 320) for task in tasks], "latent weight ÷ its bound", "share of weights in %"
    )
    seen: list[Seen | None] = []
    for each in found:
        if each.before:
            line = {"color": look[each.method].colour, "width": 1, "dash": "dot"}
            drawing.add_trace(_steps(each, 0, line), row=tasks.index(each.task) + 1, col=1)
            seen.append(None)
    named: set[str] = set()
    for epoch, each in _wanted(found):
        line = {"color": look[each.method].colour, "width": 2.5, "dash": look[each.method].dash}
        name = each.method if epoch == each.look.epoch else f"{each.method}, epoch {epoch}"
        trace = _steps(each, epoch, line).update(name=plain(name), showlegend=name not in named)
        named.add(name)
        drawing.add_trace(trace, row=tasks.index(each.task) + 1, col=1)
        seen.append(Seen(f"{each.task} {each.method}", epoch))
    drawing.update_yaxes(rangemode="tozero")
    slider(drawing, seen)
    return drawing


def _wanted(found: list[Histogram]) -> list[tuple[int, Histogram]]:
    """The histograms that are drawn, by epoch."""
    looks = [each.look._replace(epoch=epoch) for each in found for epoch in each.by_epoch]
    chosen = chosen_epochs(looks)
    return [(epoch, each) for epoch in chosen for each in found if epoch in each.by_epoch]


def _steps(each: Histogram, epoch: int, line: dict[str, Any]) -> Any:
    """The histogram of an epoch as a line of steps."""
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[-1 + (2 * number - 1) / BINS for number in range(BINS + 2)],
        y=each.by_epoch[epoch],
        mode="lines",
        line={"shape": "hvh", **line},
        legendgroup=each.method,
        showlegend=False,
        hovertemplate=(
            f"{plain(each.method)}, epoch {epoch}<br>around %{{x:.3f}}: %{{y:.2f}} %<extra></extra>"
        ),
    )

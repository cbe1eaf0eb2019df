"""Histograms of latent weights: where a method leaves the weights that it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain
from bnnbench_reports.probed import Look, looks
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from bnnbench.results import Results

BINS = 40  #: of equal width from -1 to 1; one more on each side holds what is outside
METRICS = [f"latent_bin_{number:02}" for number in range(BINS + 2)]
SATURATED = "latent_saturated"


class Histogram(NamedTuple):
    """The shares of a layer's latents by bin, in percent, before training and at the last look."""

    look: Look
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.look.task


def info(results: Results) -> list[Histogram]:
    """Return the histogram of the first binary layer of each (task, method) that has one."""
    metrics = [*METRICS, SATURATED]
    starts = {(s.task, s.method, s.layer): s for s in looks(results, metrics, first=True)}
    found: dict[tuple[str, str], Histogram] = {}
    for look in looks(results, metrics):
        start = starts[look.task, look.method, look.layer]
        histogram = Histogram(look, _shares(start) if not start.epoch else (), _shares(look))
        found.setdefault((look.task, look.method), histogram)
    return list(found.values())


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
            " last epoch, dotted ones before training. What is beyond ±1 is in the outermost bins."
            " A latent near ±1 has to go a long way before its sign changes; one near 0 flips"
            f" easily. {_saturation(found)} Where a method's latent is its binary weight (Bop) all"
            " are in the two bins at ±1. The scale of a latent is the method's own: that one"
            " spreads further than another does not say that it is surer of its signs."
        ),
        drawing=draw(results, found),
    )


def _saturation(found: list[Histogram]) -> str:
    several = len(tasks_of(found)) > 1
    said = [
        f"{each.look.method}{f' on {each.task}' if several else ''}"
        f" {100 * each.look.values[SATURATED]:.1f} %"
        for each in found
        if SATURATED in each.look.values
    ]
    return f"Within 0.001 of the bound or beyond it: {', '.join(said)}." if said else ""


def draw(results: Results, found: list[Histogram]) -> Any:
    """Return step lines in the methods' colours."""
    from plotly.graph_objects import Scatter

    look, tasks = colours(results.study), tasks_of(found)
    drawing = panels(
        [Panel(task, 320) for task in tasks], "latent weight ÷ its bound", "share of weights in %"
    )
    centres = [-1 + (2 * number - 1) / BINS for number in range(BINS + 2)]
    named: set[str] = set()
    for each in found:
        method = each.look.method
        after = {"width": 2.5, "dash": look[method].dash}
        for shares, epoch, line in (
            (each.before, 0, {"width": 1, "dash": "dot"}),
            (each.after, each.look.epoch, after),
        ):
            trace = Scatter(
                x=centres if shares else [],
                y=shares,
                mode="lines",
                line={"color": look[method].colour, "shape": "hvh", **line},
                name=plain(method),
                legendgroup=method,
                showlegend=line is after and method not in named,
                hovertemplate=(
                    f"{plain(method)}, epoch {epoch}"
                    "<br>around %{x:.3f}: %{y:.2f} %<extra></extra>"
                ),
            )
            drawing.add_trace(trace, row=tasks.index(each.task) + 1, col=1)
        named.add(method)
    drawing.update_yaxes(rangemode="tozero")
    return drawing

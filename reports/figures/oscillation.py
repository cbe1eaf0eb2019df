"""Oscillation: how many of the flips were undone again.

    F    flips per weight: sum over the epochs of flip_step times steps
    D    share of weights that differ from those before training, flip_init of the last epoch
    u    (F - D) / F, the share of the flips that were undone

A weight that differs from its first sign flipped an odd number of times, one that does not an even
number of times. One flip of the former was needed, all others cancel in pairs.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY, looks
from bnnbench_reports.figures.drawing import Panel, add, count_of, panels, plain
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import in_order, tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from bnnbench.results import Curve, Results
    from bnnbench.store import Entry
    from bnnbench_reports.colours import Look


class Walk(NamedTuple):
    """Flips per weight of a run, and the share of weights that differ in the end."""

    flips: float
    changed: float

    @property
    def undone(self) -> float:
        """The share of the flips that were undone.

        >>> Walk(2.0, 0.5).undone
        0.75
        """
        return (self.flips - self.changed) / self.flips if self.flips else 0.0


class Walks(NamedTuple):
    """The runs of a (task, method) by seed."""

    task: str
    method: str
    by_seed: dict[int, Walk]

    @property
    def mean(self) -> Walk:
        """The means of both over the seeds."""
        return Walk(*map(statistics.fmean, zip(*self.by_seed.values(), strict=True)))


def info(results: Results) -> list[Walks]:
    """Return the walks of each (task, method) whose flips were counted."""
    rates = results.curves("flip_step", layer="")
    ends = {c.entry.run_id: float(c.values[-1]) for c in results.curves("flip_init", layer="")}
    kept = [c for c in rates if c.entry.run_id in ends and steps(c.entry)]
    return [
        Walks(*cell, {c.entry.number: _walk(c, ends[c.entry.run_id]) for c in mine})
        for cell, mine in in_order(results, kept, lambda curve: curve.entry)
    ]


def steps(entry: Entry) -> int:
    """Return the steps of a run's epoch, 0 where they are not known."""
    examples: int = entry.facts.get("examples", {}).get("train", 0)
    return examples // entry.run.batch_size


def _walk(rate: Curve, changed: float) -> Walk:
    return Walk(float(rate.values.sum()) * steps(rate.entry), changed)


def oscillation_figure(results: Results) -> Figure | None:
    """Draw the runs and the methods' means, one panel for each task."""
    found = info(results)
    if not found:
        return None
    most = room([len(each.by_seed) for each in found], DOTS)
    over = ", least and most of the tasks" if len(tasks_of(found)) > 1 else ""
    return Figure(
        title=f"Oscillation ({count_of(len(each.by_seed) for each in found)} seeds)",
        explanation=(
            "Along: how often a weight flipped, summed over all steps, mean over the binary"
            " weights. Up: the share of the weights whose sign differs in the end from the one"
            " before training. Faint points are runs, strong ones a method's mean. On the line no"
            " weight flipped twice; the further to the right of it, the more flips were undone."
            f" Share of the flips that were undone{over}: {undone(found)}. An undone flip need not"
            " be wasted: a search that turns back has looked somewhere. Methods that saw another"
            " number of steps do not compare."
            f"{spaced_said(most, 'seeds')}"
        ),
        drawing=draw(results, found, most),
        summary=summary(
            "Share of the flips that were undone",
            [Value(called(each, found), 100 * each.mean.undone) for each in found],
            f"{count_of(len(each.by_seed) for each in found)} seeds",
            " %",
            ".1f",
        ),
        info=found,
    )


def undone(found: list[Walks]) -> str:
    """Return the share of undone flips of each method's mean, from the least of a task on.

    >>> one, two = Walks("t", "ste", {1: Walk(2, 0.5)}), Walks("u", "ste", {1: Walk(1, 0.5)})
    >>> undone([one, two])
    'ste 50 to 75 %'
    """
    shares: dict[str, list[str]] = {}
    for each in sorted(found, key=lambda each: each.mean.undone):
        shares.setdefault(each.method, []).append(f"{100 * each.mean.undone:.0f}")
    ends = {method: dict.fromkeys((told[0], told[-1])) for method, told in shares.items()}
    methods = dict.fromkeys(each.method for each in found)
    return ", ".join(f"{method} {' to '.join(ends[method])} %" for method in methods)


def draw(results: Results, found: list[Walks], most: int = 0) -> Any:
    """Return the drawing; ``most`` are the runs of a method that are drawn, if not all."""
    look, tasks, named = looks(results.study), tasks_of(found), set[str]()
    wanted = [Panel(task, 320) for task in tasks]
    drawing = panels(wanted, "flips per weight", "weights changed since the start in %")
    flips = [walk.flips for each in found for walk in each.by_seed.values() if walk.flips]
    for row, task in enumerate(tasks, start=1):
        add(drawing, _limit(min(flips, default=1.0)), row, named)
        for each in [each for each in found if each.task == task]:
            for trace in _traces(each, look[each.method], most):
                add(drawing, trace, row, named)
    drawing.update_xaxes(type="log", exponentformat="power")
    drawing.update_yaxes(rangemode="tozero")
    return drawing


def _limit(least: float) -> Any:
    """Where as many weights differ as there were flips, up to half of them."""
    from plotly.graph_objects import Scatter

    flips = np.geomspace(min(least, 0.1) / 1.5, 0.6, 40)
    return Scatter(
        x=flips,
        y=100 * flips,
        mode="lines",
        line={"color": GREY, "dash": "dash", "width": 1.5},
        name="no flip undone",
        hoverinfo="skip",
    )


def _traces(each: Walks, look: Look, most: int) -> list[Any]:
    """The runs, and their mean; a run without a flip has no place on a logarithmic axis."""
    from plotly.graph_objects import Scatter

    name, seeds = plain(each.method), list(each.by_seed)
    walks = [each.by_seed[seed] for seed in seeds]
    shown = spaced([walk.flips for walk in walks], most)
    hover = "%{x:.3g} flips per weight, %{y:.2f} % changed"
    marker = {"color": look.colour, "symbol": look.symbol}
    runs = Scatter(
        x=[walks[place].flips or None for place in shown],
        y=[100 * walks[place].changed for place in shown],
        mode="markers",
        marker=marker | {"size": 7},
        opacity=0.4,
        customdata=[(seeds[place], 100 * walks[place].undone) for place in shown],
        hovertemplate=(
            f"{name}, seed %{{customdata[0]}}: {hover},"
            " %{customdata[1]:.0f} % of flips undone<extra></extra>"
        ),
    )
    mean = Scatter(
        x=[each.mean.flips or None],
        y=[100 * each.mean.changed],
        mode="markers",
        marker=marker | {"size": 13},
        name=name,
        hovertemplate=f"{name}, mean of n = {len(seeds)}: {hover}<extra></extra>",
    )
    return [runs, mean]

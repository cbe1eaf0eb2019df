"""Relaxed and binary accuracy per epoch: what a network in training says of the deployed one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY, looks
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain, whole
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import Array, Bundle, Cell, bundled
from bnnbench_reports.thinning import Thinned, thinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.results import Results

RELAXED, REAL, BINARY = "relaxed", "real", "binary"
DASHES = {BINARY: "solid", RELAXED: "dot", REAL: "dash"}


class Start(NamedTuple):
    """The first epoch of a phase, and its name."""

    epoch: int
    name: str


class Pair(NamedTuple):
    """Validation accuracies of a (task, method) in percent, and where phases but the first begin.

    ``relaxed`` are those with weights that are not binary yet: relaxed ones, or real ones where the
    method is judged with them, as stochastic BinaryConnect is. The two modes need not have the same
    epochs: some phases have no relaxed weights.
    """

    relaxed: Bundle
    binary: Bundle
    starts: tuple[Start, ...]


def info(results: Results) -> list[Pair]:
    """Return a pair for each method that computes with other weights than it is deployed with."""
    relaxed, binary = _by_cell(results, RELAXED), _by_cell(results, BINARY)
    judged = {
        cell: bundle
        for cell, bundle in _by_cell(results, REAL).items()
        if _facts(results, *cell).get("judged") == REAL
    }
    return [
        Pair(other, binary[cell], phase_starts(_facts(results, *cell)))
        for cell, other in (judged | relaxed).items()
        if cell in binary
    ]


def _by_cell(results: Results, mode: str) -> dict[Cell, Bundle]:
    curves = results.curves("accuracy", split="validation", mode=mode, layer="")
    return {(each.task, each.method): each for each in bundled(results, curves)}


def _facts(results: Results, task: str, method: str) -> Mapping[str, Any]:
    """What is known of the first seed's run."""
    return min(results.confirmed(task, method), key=lambda entry: entry.number).facts


def phase_starts(facts: Mapping[str, Any]) -> tuple[Start, ...]:
    """Return where the phases of a run begin, but for the first.

    >>> phase_starts({"phases": [{"name": "a", "first": 1}, {"name": "", "first": 6}]})
    (Start(epoch=6, name='phase 2'),)
    """
    return tuple(
        Start(phase["first"], phase["name"] or f"phase {number}")
        for number, phase in enumerate(facts.get("phases", []), start=1)
        if number > 1
    )


def relaxation_figure(results: Results) -> Figure | None:
    """Draw both accuracies over the epochs, a panel for each method that has them."""
    found = info(results)
    if not found:
        return None
    count = count_of(len(pair.binary.seeds) for pair in found)
    binary = [pair.binary for pair in found]
    drawn = thinned([bundle for pair in found for bundle in (pair.relaxed, pair.binary)])
    shown = drawn.explained("Faint lines are seeds, strong lines their mean.")
    return Figure(
        title=f"Relaxed and binary ({count} seeds)",
        explanation=(
            "Share of the validation split that is classified rightly after each epoch by the"
            " network with weights that are not binary: relaxed ones, as it computes in training"
            " (dotted), or real ones, where the published method is judged with them (dashed); and"
            " by the same network with every weight replaced by its binary value (solid)."
            " Vertical lines say where a phase begins. While the two are far apart, the accuracy"
            " seen in training says little of the network that is deployed; they meet where the"
            f" weights have become, or are locked to, their binary values. {shown}"
        ),
        drawing=draw(results, found, drawn),
        summary=summary(
            "Validation accuracy at the last epoch of both, less with binary weights",
            [Value(called(pair.binary, binary), lost(pair)) for pair in found],
            f"{count} seeds",
            " points",
        ),
        info=found,
    )


def lost(pair: Pair) -> float:
    """Return how many points the mean loses by binary weights, where both were last judged."""
    epochs = np.intersect1d(pair.relaxed.epochs, pair.binary.epochs)
    if not len(epochs):
        return math.nan
    before, after = (
        float(bundle.mean[bundle.epochs == epochs[-1]][0]) for bundle in (pair.relaxed, pair.binary)
    )
    return before - after


def draw(results: Results, found: Sequence[Pair], drawn: Thinned) -> Any:
    """Return the panels, one above the other; ``drawn`` has the bundles of all pairs."""
    look = looks(results.study)
    several = len({pair.binary.task for pair in found}) > 1
    names = [
        f"{pair.binary.task}: {pair.binary.method}" if several else pair.binary.method
        for pair in found
    ]
    drawing = panels(
        [Panel(name, 260) for name in names], "epoch", "validation accuracy in %", shared=False
    )
    whole(drawing, max(int(bundle.epochs[-1]) for bundle in drawn.bundles))
    shown = {bundle.mode for bundle in drawn.bundles}
    drawing.add_traces([_key(mode) for mode in DASHES if mode in shown])
    for number, bundle in enumerate(drawn.bundles):
        for trace in _traces(bundle, drawn.faint(bundle), look[bundle.method].colour):
            drawing.add_trace(trace, row=number // 2 + 1, col=1)
    for row, pair in enumerate(found, start=1):
        for start in pair.starts:
            _mark(drawing, start, row)
    if len(found) == 1:
        drawing.update_layout(title={"text": plain(names[0]), "font": {"size": 14}, "x": 0.5})
    return drawing


def _key(mode: str) -> Any:
    """A line of the legend: in a mode's dash, but in no method's colour."""
    from plotly.graph_objects import Scatter

    line = {"color": GREY, "dash": DASHES[mode], "width": 2.5}
    return Scatter(x=[None], y=[None], mode="lines", line=line, name=f"{mode} weights")


def _traces(bundle: Bundle, faint: Sequence[tuple[str, Array]], colour: str) -> list[Any]:
    """The faint lines, if there are any, and the mean of the seeds."""
    from plotly.graph_objects import Scatter

    kind = "lines" if len(bundle.epochs) > 1 else "markers"
    lines = [(values, 1.0, 0.3, told) for told, values in faint]
    lines.append((bundle.mean, 2.5, 1.0, f"mean of n = {len(bundle.seeds)}"))
    return [
        Scatter(
            x=bundle.epochs,
            y=values,
            mode=kind,
            line={"color": colour, "dash": DASHES[bundle.mode], "width": width},
            opacity=opacity,
            showlegend=False,
            hovertemplate=(
                f"{plain(bundle.method)}, {bundle.mode} weights, {told}<br>"
                "epoch %{x}: %{y:.2f} %<extra></extra>"
            ),
        )
        for values, width, opacity, told in lines
    ]


def _mark(drawing: Any, start: Start, row: int) -> None:
    """A line between the last epoch before the phase and its first, with the phase's name."""
    drawing.add_vline(
        x=start.epoch - 0.5,
        row=row,
        col=1,
        line={"color": GREY, "width": 1},
        annotation={"text": plain(start.name), "font": {"size": 11}, "textangle": -90},
        annotation_position="bottom left",
    )

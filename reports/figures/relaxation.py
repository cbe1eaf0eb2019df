"""Relaxed and binary accuracy per epoch: what a network in training says of the deployed one.

The relaxed weights of a method are those of its mode "relaxed"; a method without one has those that
it is judged with, where these are not the binary ones. Modes that are measured once a run, for the
selected network alone, are points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY, looks
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain, whole
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import Array, Bundle, Cell, bundled, in_order, judged_mode
from bnnbench_reports.thinning import Thinned, thinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.results import Curve, Results

RELAXED, BINARY = "relaxed", "binary"
DASHES = {BINARY: "solid", RELAXED: "dot"}
OTHER = "dash"  #: of other weights with which a method is judged
SYMBOLS = ("diamond", "square", "cross", "x")  #: of modes that are measured once a run


class Start(NamedTuple):
    """The first epoch of a phase, and its name."""

    epoch: int
    name: str


class Once(NamedTuple):
    """Accuracies in percent of a mode that is measured once a run: each seed's, and its epoch."""

    mode: str
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    values: tuple[float, ...]


class Pair(NamedTuple):
    """Validation accuracies of a (task, method) in percent, and where phases but the first begin.

    The two modes need not have the same epochs: some phases have no relaxed weights. ``once`` are
    the modes beside them.
    """

    relaxed: Bundle
    binary: Bundle
    once: tuple[Once, ...]
    starts: tuple[Start, ...]

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.binary.task

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.binary.method


def info(results: Results) -> list[Pair]:
    """Return a pair for each method that was judged with binary weights and with relaxed ones."""
    curves = results.curves("accuracy", split="validation", layer="")
    cells = in_order(results, curves, lambda curve: curve.entry)
    pairs = (_pair(results, cell, mine) for cell, mine in cells)
    return [pair for pair in pairs if pair]


def _pair(results: Results, cell: Cell, curves: Sequence[Curve]) -> Pair | None:
    """The pair of a (task, method), if it has both modes."""
    by_mode: dict[str, list[Curve]] = {}
    for curve in curves:
        by_mode.setdefault(curve.mode, []).append(curve)
    relaxed = RELAXED if RELAXED in by_mode else judged_mode(curves[0].entry)
    found = [bundled(results, by_mode.get(mode, [])) for mode in (relaxed, BINARY)]
    if relaxed == BINARY or not all(found):
        return None
    rest = [each for mode, each in sorted(by_mode.items()) if mode not in (relaxed, BINARY)]
    once = tuple(_once(each) for each in rest if all(len(curve.epochs) == 1 for curve in each))
    return Pair(found[0][0], found[1][0], once, _starts(results, *cell))


def _once(curves: Sequence[Curve]) -> Once:
    return Once(
        curves[0].mode,
        tuple(curve.entry.number for curve in curves),
        tuple(int(curve.epochs[0]) for curve in curves),
        tuple(float(curve.values[0]) for curve in curves),
    )


def _starts(results: Results, task: str, method: str) -> tuple[Start, ...]:
    runs = results.confirmed(task, method)
    return phase_starts(min(runs, key=lambda entry: entry.number).facts)


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
    drawn = thinned([bundle for pair in found for bundle in (pair.relaxed, pair.binary)])
    shown = drawn.explained("Faint lines are seeds, strong lines their mean.")
    return Figure(
        title=f"Relaxed and binary ({count} seeds)",
        explanation=(
            "Share of the validation split that is classified rightly after each epoch by the"
            " network with weights that are not binary: those that it computes with in training"
            " (dotted) or, where it has none of its own, those with which the method is judged"
            " (dashed); and by the same network with every weight replaced by its binary value"
            f" (solid).{_once_said(found)} Vertical lines say where a phase begins. While the two"
            " are far apart, the accuracy seen in training says little of the network that is"
            " deployed; they meet where the weights have become, or are locked to, their binary"
            f" values. {shown}"
        ),
        drawing=draw(results, found, drawn),
        summary=summary(
            "Validation accuracy with relaxed weights minus that with binary ones, last epochs",
            [
                Value(called(pair, found), float(pair.relaxed.mean[-1] - pair.binary.mean[-1]))
                for pair in found
            ],
            f"{count} seeds",
            " points",
            "+.2f",
        ),
        info=found,
    )


def _once_said(found: Sequence[Pair]) -> str:
    """Say which modes are points, nothing where there is none."""
    modes = ", ".join(sorted({once.mode for pair in found for once in pair.once}))
    said = f" Points, one for each seed: {modes}, measured for the selected network alone."
    return said if modes else ""


def draw(results: Results, found: Sequence[Pair], drawn: Thinned) -> Any:
    """Return the panels, one above the other; ``drawn`` has the bundles of all pairs."""
    look = looks(results.study)
    several = len({pair.task for pair in found}) > 1
    names = [f"{pair.task}: {pair.method}" if several else pair.method for pair in found]
    modes = _modes_once(found)
    drawing = panels(
        [Panel(name, 260) for name in names], "epoch", "validation accuracy in %", shared=False
    )
    whole(drawing, max(int(bundle.epochs[-1]) for bundle in drawn.bundles))
    drawing.add_traces(_legend(found))
    for number, bundle in enumerate(drawn.bundles):
        for trace in _traces(bundle, drawn.faint(bundle), look[bundle.method].colour):
            drawing.add_trace(trace, row=number // 2 + 1, col=1)
    for row, pair in enumerate(found, start=1):
        for trace in _points(pair, modes, look[pair.method].colour):
            drawing.add_trace(trace, row=row, col=1)
        for start in pair.starts:
            _mark(drawing, start, row)
    if len(found) == 1:
        drawing.update_layout(title={"text": plain(names[0]), "font": {"size": 14}, "x": 0.5})
    return drawing


def _modes_once(found: Sequence[Pair]) -> dict[str, str]:
    """The symbol of each mode that is measured once a run."""
    modes = sorted({once.mode for pair in found for once in pair.once})
    return {mode: SYMBOLS[place % len(SYMBOLS)] for place, mode in enumerate(modes)}


def _legend(found: Sequence[Pair]) -> list[Any]:
    """An entry for each mode: in its dash or with its symbol, but in no method's colour."""
    from plotly.graph_objects import Scatter

    dashes = {mode: DASHES.get(mode, OTHER) for pair in found for mode in _both(pair)}
    entries: list[tuple[str, dict[str, Any]]] = [
        (mode, {"mode": "lines", "line": {"color": GREY, "dash": dash, "width": 2.5}})
        for mode, dash in sorted(dashes.items())
    ]
    entries += [
        (mode, {"mode": "markers", "marker": {"color": GREY, "symbol": symbol, "size": 9}})
        for mode, symbol in _modes_once(found).items()
    ]
    return [
        Scatter(x=[None], y=[None], name=f"{plain(mode)} weights", **look) for mode, look in entries
    ]


def _both(pair: Pair) -> tuple[str, str]:
    return pair.binary.mode, pair.relaxed.mode


def _points(pair: Pair, symbols: Mapping[str, str], colour: str) -> list[Any]:
    """The seeds' points of the modes that are measured once a run."""
    from plotly.graph_objects import Scatter

    return [
        Scatter(
            x=once.epochs,
            y=once.values,
            customdata=once.seeds,
            mode="markers",
            marker={"color": colour, "symbol": symbols[once.mode], "size": 9},
            opacity=0.7,
            showlegend=False,
            hovertemplate=(
                f"{plain(pair.method)}, {plain(once.mode)} weights<br>"
                "seed %{customdata}, epoch %{x}: %{y:.2f} %<extra></extra>"
            ),
        )
        for once in pair.once
    ]


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
            line={"color": colour, "dash": DASHES.get(bundle.mode, OTHER), "width": width},
            opacity=opacity,
            showlegend=False,
            hovertemplate=(
                f"{plain(bundle.method)}, {plain(bundle.mode)} weights, {told}<br>"
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

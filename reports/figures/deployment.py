"""How long a network takes to answer: packed, and as PyTorch computes it in other ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.deployments import BATCHES, PACKED, WAYS, Timing
from bnnbench.interfaces import Figure
from bnnbench_reports.colours import GREY, SYMBOLS
from bnnbench_reports.deployed import conditions, deployed
from bnnbench_reports.figures.drawing import Panel, add, count_of, height, panels, plain, wrapped
from bnnbench_reports.figures.summaries import Value, summary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results

OURS = "#8250df"  #: no method has it, for colours stand for methods


class Line(NamedTuple):
    """A network's times for a batch, by way."""

    name: str
    batch: int
    timings: tuple[Timing, ...]


def info(results: Results) -> list[Line]:
    """Return a line for each packed network and size of a batch."""
    several = len(results.study.tasks) > 1
    return [
        Line(
            f"{each.entry.method}, {each.entry.task}" if several else each.entry.method,
            batch,
            tuple(t for t in each.found.timings if t.batch == batch),
        )
        for batch in BATCHES
        for each in deployed(results)
    ]


def deployment_figure(results: Results) -> Figure | None:
    """Draw a line for each network, a panel for each size of a batch."""
    found = [line for line in info(results) if line.timings]
    if not found:
        return None
    said = ", ".join(f"{way}: {text}" for way, text in WAYS.items())
    rounds = count_of(each.found.rounds for each in deployed(results))
    return Figure(
        title=f"Time to answer, packed and otherwise ({rounds} rounds)",
        explanation=(
            "Milliseconds of a whole network for a batch, on a logarithmic axis; to the left is"
            " faster. Points are medians over the rounds in which all ways took turns, bars go from"
            f" the first to the third quartile. {said}. One network of each method: its first seed."
            " What is not binary (first layers on real inputs, normalizations, pooling) takes its"
            f" time in every way. Measured on: {conditions(deployed(results))}."
        ),
        drawing=draw(found),
        summary=summary(
            "Median milliseconds for a batch",
            [
                Value(f"{line.name}, {each.way}, batch of {line.batch}", each.median)
                for line in found
                for each in line.timings
            ],
            f"{rounds} rounds",
            " ms",
            ".3g",
        ),
        info=found,
    )


def draw(found: list[Line]) -> Drawing:
    """Return the drawing."""
    batches = [batch for batch in BATCHES if any(line.batch == batch for line in found)]
    names = {b: [wrapped(line.name, 28) for line in found if line.batch == b] for b in batches}
    wanted = [Panel(f"batch of {b}", height(names[b])) for b in batches]
    drawing = panels(wanted, "milliseconds for a batch", "", shared=False)
    drawing.update_xaxes(type="log")
    drawing.update_yaxes(type="category", autorange="reversed")
    named: set[str] = set()
    for place, way in enumerate(WAYS):
        for row, batch in enumerate(batches, start=1):
            lines = [line for line in found if line.batch == batch]
            add(drawing, _points(lines, way, place), row, named)
    return drawing


def _points(lines: list[Line], way: str, place: int) -> Any:
    from plotly.graph_objects import Scatter

    pairs = [(line, t) for line in lines for t in line.timings if t.way == way]
    return Scatter(
        x=[t.median for _, t in pairs],
        y=[wrapped(line.name, 28) for line, _ in pairs],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [t.high - t.median for _, t in pairs],
            "arrayminus": [t.median - t.low for _, t in pairs],
            "thickness": 1.5,
        },
        mode="markers",
        name=way,
        marker={"color": OURS if way == PACKED else GREY, "symbol": SYMBOLS[place], "size": 10},
        hovertemplate=f"{plain(way)}: %{{x:.3g}} ms<extra></extra>",
    )

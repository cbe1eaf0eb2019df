"""Mean ranks over tasks with the critical difference, as Demšar (2006) draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench.statistics.paired import ALPHA
from bnnbench.statistics.ranks import Refusal
from bnnbench_reports.colours import GREY, looks
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.figures.drawing import FEW, Panel, panels, plain, wrapped
from bnnbench_reports.figures.summaries import Value, summary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results


class Group(NamedTuple):
    """Methods of which no two are told apart: the letter of the table, best and worst rank."""

    letter: str
    best: float
    worst: float


class Diagram(NamedTuple):
    """The methods' mean ranks, the best first, and what lies between them."""

    ranks: dict[str, float]
    groups: tuple[Group, ...]
    critical: float
    p: float
    tasks: int


def info(results: Results) -> Diagram | None:
    """Return the diagram, None where the methods cannot be ranked."""
    across = compared(results).across
    if across is None or isinstance(across.ranking, Refusal):
        return None
    found = across.ranking
    by_method = dict(zip(across.methods, found.ranks, strict=True))
    groups = [
        Group(_letter(across.letters, group), *(found.ranks[end] for end in (group[0], group[-1])))
        for group in found.groups
    ]
    order = sorted(by_method, key=lambda method: by_method[method])
    ranks = {method: by_method[method] for method in order}
    return Diagram(ranks, tuple(groups), found.critical, found.p, found.tasks)


def _letter(letters: tuple[str, ...], group: tuple[int, ...]) -> str:
    """The letter that all methods of a group have, and not all of any other group."""
    return min(set.intersection(*(set(letters[method]) for method in group)), default="")


def ranks_figure(results: Results) -> Figure | None:
    """Draw a line for each method, and one for each group of methods that are not told apart."""
    found = info(results)
    if found is None:
        return None
    told = (
        "Bars below join methods that are not told apart: their mean ranks are less than the"
        " critical difference apart (Nemenyi's test)."
        if found.p <= ALPHA
        else f"Friedman's p is above {ALPHA}, so that no methods are told apart: one bar joins all."
    )
    return Figure(
        title=f"Mean ranks over tasks (n = {found.tasks} tasks)",
        explanation=(
            "Methods ranked on each task by mean test accuracy, 1 is the best, and the mean of"
            f" the ranks over the tasks (no unit); Friedman's p = {found.p:.2g}. {told} The"
            f" critical difference, {found.critical:.2f} ranks, is drawn above. A rank does not"
            " say by how many points a method is better; methods that are not told apart are not"
            " shown to be equal; more seeds make no more tasks."
        ),
        drawing=draw(results, found),
        summary=summary(
            "Mean ranks, 1 is the best",
            [Value(method, rank) for method, rank in found.ranks.items()],
            f"n = {found.tasks} tasks",
        ),
        info=found,
    )


def draw(results: Results, found: Diagram) -> Drawing:
    """Return the diagram: the methods one below the other, ranks along."""
    lines = len(found.ranks) + len(found.groups)
    drawing = panels([Panel("", 90 + 34 * lines)], "mean rank, 1 is the best", "", legend=False)
    _critical(drawing, found)
    for place, method in enumerate(found.ranks, start=1):
        _method(drawing, results, found, method, place)
    for place, group in enumerate(found.groups, start=len(found.ranks) + 1):
        _bar(drawing, (group.best, group.worst), place, f"not told apart: {group.letter}")
    names = ["critical difference", *map(wrapped, found.ranks)]
    names += [f"not told apart: {group.letter}" for group in found.groups]
    axis = {"tickvals": list(range(lines + 1)), "ticktext": names, "range": [lines + 0.5, -0.5]}
    drawing.update_yaxes(axis | {"showgrid": False, "zeroline": False})
    last = max(len(found.ranks), 1 + found.critical)
    drawing.update_xaxes(range=[0.8, last + 0.2], tick0=1, dtick=1 if last <= FEW else 2)
    return drawing


def _critical(drawing: Drawing, found: Diagram) -> None:
    said = f"critical difference: {found.critical:.2f} ranks"
    _bar(drawing, (1.0, 1 + found.critical), 0, said, width=3)


def _bar(
    drawing: Drawing, ends: tuple[float, float], place: int, said: str, width: int = 8
) -> None:
    from plotly.graph_objects import Scatter

    drawing.add_trace(
        Scatter(
            x=list(ends),
            y=[place] * 2,
            mode="lines+markers",
            line={"color": GREY, "width": width},
            marker={"symbol": "line-ns-open", "size": 14, "color": GREY, "line_width": 2},
            hovertemplate=f"{said}<extra></extra>",
        )
    )


def _method(drawing: Drawing, results: Results, found: Diagram, method: str, place: int) -> None:
    """A method's mark at its mean rank, and a thin line down to the bars."""
    from plotly.graph_objects import Scatter

    look, rank = looks(results.study)[method], found.ranks[method]
    down = len(found.ranks) + len(found.groups) + 0.5
    line = {"color": look.colour, "width": 1, "dash": "dot"}
    drawing.add_shape(type="line", x0=rank, x1=rank, y0=place, y1=down, line=line, opacity=0.6)
    drawing.add_trace(
        Scatter(
            x=[rank],
            y=[place],
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 12},
            hovertemplate=(
                f"{plain(method)}: mean rank {rank:.2f}, n = {found.tasks} tasks<extra></extra>"
            ),
        )
    )

"""The figures as cards of the page: drawn, made safe for it, and told to who does not see them."""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from bnnbench.interfaces import Figure
from bnnbench.plugins import describe
from bnnbench_reports.figures.summaries import drawn
from bnnbench_reports.readings import noted_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bnnbench.results import Results

    Draw = Callable[[Results], Figure | None]

LINE, NAME = 15, 21  #: pixels of a line of a panel's title, and of a line of a legend
SEEN = (None, True)  #: what a trace's visibility is if it is drawn
#: what JSON in a script element must not hold as it is
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


class Card(NamedTuple):
    """A figure on the page: its title, how to read it, what is seen; or why it is not there.

    ``summary`` says in a sentence what is seen, ``data`` is the drawing as JSON.
    ``curve`` names the metric of the page's own curves that the figure is drawn from instead; where
    script runs, the curves replace it on screen.
    """

    name: str
    title: str
    explanation: str
    data: Markup
    height: int
    error: str = ""
    curve: str = ""
    summary: str = ""
    figure: Figure | None = None


def cards_of(results: Results, figures: Iterable[tuple[str, Draw]]) -> list[Card]:
    """Return a card for each figure that has something to show, or fails."""
    note = "; ".join(f"{tasks}: {said}" for tasks, said in noted_tasks(results.notes))
    found = (make_card(name, draw, results, note) for name, draw in figures)
    return [card for card in found if card]


def make_card(name: str, draw: Draw, results: Results, note: str = "") -> Card | None:
    """Return the card of a figure, None where the figure has nothing to show.

    ``note`` says what sets the data apart; it stands in the drawing, so that a picture taken of it
    has it too.
    """
    try:
        figure = draw(results)
        if figure is None:
            return None
        if not isinstance(figure, Figure):
            raise TypeError(f"a figure must be a bnnbench.interfaces.Figure, got {type(figure)}")
        if note:
            annotate(figure.drawing, note)
        make_room(figure.drawing)
        data, height = serialized(figure.drawing)
        summary = str(figure.summary) or drawn(figure.drawing)
    except Exception as error:  # whatever a plugin's figure may raise
        return Card(name, f"Figure {name!r} could not be drawn", "", Markup(), 0, describe(error))
    said = str(figure.title), str(figure.explanation)
    return Card(name, *said, data, height, summary=summary, figure=figure)


def from_curves(cards: Iterable[Card], known: Mapping[str, Any]) -> list[Card]:
    """Return the cards; those that the page's curves show as well are drawn from these."""
    held = {known["curve_metrics"][curve["metric"]]["figure"] for curve in known["curves"]}
    names = {each["figure"]: each["name"] for each in known["curve_metrics"]}
    return [
        card._replace(data=Markup(), curve=names[card.name])
        if card.name in held and not card.error
        else card
        for card in cards
    ]


def annotate(drawing: Any, note: str) -> None:
    """Write a note of plain text above a drawing, and above the titles of its panels."""
    titles = [each.text for each in drawing.layout.annotations if math.isclose(each.y or 0, 1)]
    above = 22 + LINE * max((title.count("<br>") for title in titles if title), default=0)
    drawing.update_layout(margin_t=max(above + 28, drawing.layout.margin.t or 0))
    drawing.add_annotation(
        text=html.escape(note, quote=False),
        xref="paper",
        yref="paper",
        x=0,
        y=1,
        yshift=above,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font_size=12,
    )


def make_room(drawing: Any) -> None:
    """Let a legend below a drawing be as high as its names need on a narrow screen, one a line.

    plotly would cut it at half of the height and let it scroll.
    """
    shown = [each for each in drawing.data if each.showlegend is not False and each.visible in SEEN]
    needed = NAME * len({each.name for each in shown if each.name})
    layout = drawing.layout
    if layout.showlegend is False or layout.legend.orientation != "h" or not layout.height:
        return
    if needed > layout.height / 2:
        drawing.update_layout(height=layout.height / 2 + needed, legend_maxheight=needed)


def serialized(drawing: Any) -> tuple[Markup, int]:
    """Return a drawing as JSON that is safe inside a script element, and its height in pixels.

    The template is left out: the page has one for light and one for dark.
    """
    spec = json.loads(drawing.to_json(engine="json"))
    layout = spec.get("layout", {})
    layout.pop("template", None)
    text = json.dumps({"data": spec.get("data", []), "layout": layout}, separators=(",", ":"))
    return safe(text), int(layout.get("height") or 450)


def safe(text: str) -> Markup:
    """Return JSON that ends no script element and reads as it did."""
    return Markup(text.translate(ESCAPES))  # noqa: S704  # escaped

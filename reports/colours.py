"""One look for each method, the same in every figure: a colour and, if they run out, a dash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bnnbench.studies import Study

GREY = "#7d8590"  #: the method that others are compared with
#: three of Okabe and Ito's that are seen on white and on black alike, and three more that are;
#: the colour-blind tell all of them from each other and from grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E050D8", "#A05848", "#A88848")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "x")


class Look(NamedTuple):
    """How a method is drawn, in plotly's words."""

    colour: str
    dash: str
    symbol: str


def looks(study: Study) -> dict[str, Look]:
    """Return the look of each method, by the order of the methods in the study."""
    others = [method.name for method in study.methods if method.name != study.reference]
    found = {name: _look(number) for number, name in enumerate(others)}
    if study.reference:
        found[study.reference] = Look(GREY, "solid", "circle-open")
    return found


def _look(number: int) -> Look:
    turn, place = divmod(number, len(COLOURS))
    return Look(COLOURS[place], DASHES[turn % len(DASHES)], SYMBOLS[(place + turn) % len(SYMBOLS)])

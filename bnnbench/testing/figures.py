"""The promises of a figure: a function from a study's results to a Figure, or to None."""

from __future__ import annotations

from functools import cache
from typing import Any

from bnnbench.interfaces import Figure
from bnnbench.results import Results
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.study import EMPTY, SMALL, database
from bnnbench.testing.surroundings import untouched

KIND = "figures"
CARTESIAN = ("scatter", "scattergl", "bar", "box", "violin", "histogram", "heatmap", "contour")


def results(name: str = SMALL) -> Results:
    """Return the results of a small study, or of one that has not begun."""
    return Results(_store(), name)


@cache
def _store() -> Any:
    return database()


def drawn(subject: Subject) -> Figure:
    """Return the figure of the small study.

    Raises:
        Skipped: it has nothing to show there.
    """
    figure = subject.target(results())
    if figure is None:
        raise Skipped("the checks' study has nothing that it would show")
    return figure  # type: ignore[no-any-return]


@check(KIND, "loads")
def is_called(subject: Subject) -> None:
    """It is a function that can be called.

    If not: register the function, or "package.module:function".
    """
    if not callable(subject.target):
        raise Failure(f"it is a {type(subject.target).__name__}, which cannot be called")


@check(KIND, "works")
def is_drawn(subject: Subject) -> None:
    """Of a study's results it makes a bnnbench.interfaces.Figure, or None if they say nothing.

    If not: return Figure(title, explanation, drawing), with a plotly Figure for drawing.
    """
    from plotly.graph_objects import Figure as Drawing

    figure = subject.target(results())
    if figure is None:
        return
    if not isinstance(figure, Figure):
        raise Failure(f"it makes a {type(figure).__name__}, which is no bnnbench Figure")
    if not isinstance(figure.drawing, Drawing):
        raise Failure(f"its drawing is a {type(figure.drawing).__name__}, and no plotly Figure")
    figure.drawing.to_json(engine="json")


@check(KIND, "works")
def before_it_began(subject: Subject) -> None:
    """Of a study without a single run it makes None, or a figure without data.

    If not: return None where results.confirmed() is empty.
    """
    figure = subject.target(results(EMPTY))
    if not (figure is None or isinstance(figure, Figure)):
        raise Failure(f"it makes a {type(figure).__name__}, which is no bnnbench Figure")


@check(KIND, "conforms")
def is_explained(subject: Subject) -> None:
    """It has a title, a sentence that says how to read it, and axes with titles.

    If not: fill in Figure.title and Figure.explanation, and let an axis say what it shows and in
    which unit: drawing.update_yaxes(title_text="seconds per epoch").
    """
    figure = drawn(subject)
    if not str(figure.title).strip():
        raise Failure("it has no title")
    if len(str(figure.explanation).split()) < 3:
        raise Failure(f"its explanation is {figure.explanation!r}, which explains nothing")
    layout = figure.drawing.to_plotly_json()["layout"]
    kinds = {trace.type for trace in figure.drawing.data}
    axes = [value for name, value in layout.items() if name.startswith(("xaxis", "yaxis"))]
    titled = [axis for axis in axes if (axis.get("title") or {}).get("text")]
    if kinds & set(CARTESIAN) and not titled:
        raise Failure("none of its axes has a title")


@check(KIND, "conforms")
def equal_results(subject: Subject) -> None:
    """Equal results give an equal drawing, to the last byte.

    If not: draw no random numbers, show no time of day, and go through no set without sorting it.
    """
    once, again = (drawn(subject) for _ in range(2))
    texts = [f"{f.title} {f.explanation} {f.drawing.to_json(engine='json')}" for f in (once, again)]
    if texts[0] != texts[1]:
        raise Failure("drawn twice from the same results, it is not the same figure")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It leaves all generators, and what holds for the whole process, as they are.

    If not: draw no random numbers, and hand a template to the drawing, not to plotly.io.
    """
    import plotly.io

    template = plotly.io.templates.default
    with untouched(may_draw=False):
        subject.target(results())
    if plotly.io.templates.default != template:
        raise Failure("it changes plotly.io.templates.default")

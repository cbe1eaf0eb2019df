"""Figures in a sentence, with their main numbers, for who does not see them; and their points."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure as Drawing

    from bnnbench_reports.readings import Array, Bundle


class Value(NamedTuple):
    """A line or a point of a figure: its name, and the number that it stands for."""

    name: str
    value: float


def summary(
    what: str, found: Iterable[Value], count: str, unit: str = "", form: str = ".2f"
) -> str:
    """Return a sentence with the highest and the lowest of some values.

    ``count`` says of how many things they are, ``unit`` follows a number.

    >>> summary("Loss", [Value("ste", 0.5), Value("real", 0.25)], "n = 2 seeds")
    'Loss, n = 2 seeds: of 2 values the highest is 0.50 (ste), the lowest 0.25 (real).'
    >>> summary("Test accuracy", [Value("ste", 85.5)], "n = 2 seeds", " %")
    'Test accuracy, n = 2 seeds: 85.50 % (ste).'
    >>> summary("Test accuracy", [Value("ste", float("nan"))], "n = 2 seeds")
    'Test accuracy, n = 2 seeds: no value.'
    """
    known = [each for each in found if math.isfinite(each.value)]
    begin = f"{what}, {count}:" if count else f"{what}:"
    if not known:
        return f"{begin} no value."
    high, low = (pick(known, key=lambda each: each.value) for pick in (max, min))
    if len(known) == 1:
        return f"{begin} {high.value:{form}}{unit} ({high.name})."
    if f"{high.value:{form}}" == f"{low.value:{form}}":
        return f"{begin} all {len(known):,} values are {high.value:{form}}{unit}."
    return (
        f"{begin} of {len(known):,} values the highest is {high.value:{form}}{unit} ({high.name}),"
        f" the lowest {low.value:{form}}{unit} ({low.name})."
    )


def called(each: Any, found: Sequence[Any]) -> str:
    """Return what a thing of a (task, method) is called; the task, where there are several."""
    several = len(tasks_of(found)) > 1
    return f"{each.method} on {each.task}" if several else str(each.method)


def of_curves(
    what: str, found: Sequence[Bundle], count: str, unit: str = "", form: str = ".2f"
) -> str:
    """Return a sentence with the means of the last epoch, and all that the curves go through."""
    last = [Value(called(each, found), float(each.mean[-1])) for each in found]
    values = np.concatenate([each.values.ravel() for each in found])
    values = values[np.isfinite(values)]
    epochs = sorted({int(each.epochs[-1]) for each in found})
    at = " to ".join(f"{epoch:,}" for epoch in dict.fromkeys((epochs[0], epochs[-1])))
    said = summary(f"{what} after epoch {at}, means", last, count, unit, form)
    if not len(values):
        return said
    span = f"{values.min():{form}} to {values.max():{form}}{unit}"
    return f"{said[:-1]}; all seeds and epochs go from {span}."


def drawn(drawing: Drawing) -> str:
    """Return a sentence made from a drawing alone: its axis, and the ends of what it shows.

    The values are those of the vertical axis, or of the horizontal one where only that has numbers.
    """
    for axis in "yx":
        found = [
            Value(_name(trace), float(value))
            for trace in drawing.data
            for value in _numbers(getattr(trace, axis, None))
        ]
        if found:
            title = drawing.layout[f"{axis}axis"].title.text or "values"
            count = f"{len(drawing.data)} line{'s' if len(drawing.data) > 1 else ''}"
            return summary(_plain(title), found, count, form=".4g")
    return "A figure without numbers."


def points(drawing: Drawing) -> list[dict[str, Any]]:
    """Return what a drawing shows, line by line: its name, and where its points are."""
    return [
        {"line": _name(trace)}
        | {
            axis: list(values)
            for axis in "xyz"
            if (values := getattr(trace, axis, None)) is not None
        }
        for trace in drawing.data
    ]


def _name(trace: Any) -> str:
    """A trace's name, or what its hover text begins with."""
    hover = re.split(r"<br>|: %\{", str(trace.hovertemplate or ""))[0]
    return _plain(trace.name or ("" if "%{" in hover else hover) or trace.legendgroup or trace.type)


def _plain(text: str) -> str:
    """A text as it is read: plotly's has a little HTML."""
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def _numbers(values: Any) -> Array:
    """The finite numbers of an axis; none where it has names or dates."""
    found = np.asarray([] if values is None else values)
    if found.dtype == object:
        found = np.asarray([math.nan if each is None else each for each in found.tolist()])
    numeric = np.issubdtype(found.dtype, np.number)
    return found[np.isfinite(found)].ravel() if numeric else np.zeros(0)

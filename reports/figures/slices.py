"""Validation accuracy against each hyperparameter that was tuned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.drawing import FEW, Panel, add, count_of, panels, plain
from bnnbench_reports.figures.summaries import Value, summary
from bnnbench_reports.figures.trials import Search, left_out, searches
from bnnbench_reports.readings import accuracy_name
from bnnbench_reports.tables import value
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look

MOST = 24  #: panels that are drawn


class Slice(NamedTuple):
    """A hyperparameter's values in a method's completed trials, and their accuracies in percent."""

    method: str
    values: tuple[Any, ...]
    accuracies: tuple[float, ...]


class Slices(NamedTuple):
    """A hyperparameter on a task: the slices of the methods that tune it, and its axis."""

    task: str
    name: str
    axis: str
    slices: tuple[Slice, ...]


def info(results: Results) -> list[Slices]:
    """Return the slices of each hyperparameter that was tuned; "log", "linear" or "category"."""
    found: dict[tuple[str, str], list[Slice]] = {}
    for search in searches(results):
        for name in search.varied if search.completed else ():
            found.setdefault((search.task, name), []).append(_slice(search, name))
    return [
        Slices(task, name, _axis(results, name, slices), tuple(slices))
        for (task, name), slices in found.items()
    ]


def _slice(search: Search, name: str) -> Slice:
    values = tuple(trial.hyperparameters.get(name) for trial, _ in search.completed)
    return Slice(search.method, values, tuple(search.accuracies))


def _axis(results: Results, name: str, slices: Sequence[Slice]) -> str:
    """Logarithmic where the study's search is, or where that spreads the values more evenly."""
    values = [value for each in slices for value in each.values]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return "category"
    if min(values) <= 0:
        return "linear"
    ranges = [(results.study.method(each.method).search or {}).get(name) for each in slices]
    said = [bool(getattr(each, "log", False)) for each in ranges if each is not None]
    return "log" if (any(said) if said else is_even_on_log(values)) else "linear"


def is_even_on_log(values: Sequence[float]) -> bool:
    """Whether positive values span a decade and lie more evenly on a logarithmic axis.

    >>> is_even_on_log([1e-4, 1e-3, 1e-2]), is_even_on_log([1.0, 8.0, 15.0])
    (True, False)
    """
    sorted_ = np.unique(np.asarray(values, dtype=float))
    wide = len(sorted_) > 2 and sorted_[-1] >= 10 * sorted_[0]
    return bool(wide) and _unevenness(np.log(sorted_)) < _unevenness(sorted_)


def _unevenness(places: Any) -> float:
    """The largest distance of sorted values, on a scale from 0 to 1, from evenly spaced ones."""
    scaled = (places - places[0]) / (places[-1] - places[0])
    return float(np.abs(scaled - np.linspace(0, 1, len(places))).max())


def slices_figure(results: Results) -> Figure | None:
    """Draw a panel for each hyperparameter."""
    found = info(results)
    if not found:
        return None
    shown, name = found[:MOST], accuracy_name(results, found)
    counts = [len(each.values) for panel in shown for each in panel.slices]
    most = room(counts, DOTS)
    left = f" The first {MOST} of {len(found)} panels are drawn." if len(found) > MOST else ""
    return Figure(
        title=f"Accuracy by hyperparameter ({count_of(counts)} completed trials)",
        explanation=(
            f"Validation {name} of each completed trial, at each value of a hyperparameter; all"
            " other tuned ones differ between the points as well. An axis is logarithmic where the"
            " study file's search is; where the file leaves the search to the method, where that"
            " spreads the values that were tried more evenly. Points that crowd at the edge of"
            " what was searched say that the range was too narrow. A sampler that learns looks"
            " more often where it was good before, so that dense regions are not better because"
            f" they are dense.{left_out(searches(results))}{left}{spaced_said(most, 'trials')}"
        ),
        drawing=draw(results, shown, f"validation {name}, %", most),
        summary=summary(
            f"Validation {name} of the trials, {len(found)} hyperparameters",
            [
                Value(f"{one.method}, {each.name} = {value(setting)}", accuracy)
                for each in found
                for one in each.slices
                for setting, accuracy in zip(one.values, one.accuracies, strict=True)
            ],
            f"{count_of(counts)} completed trials",
            " %",
        ),
        info=found,
    )


def draw(results: Results, found: list[Slices], y: str, most: int = 0) -> Any:
    """Return the drawing; ``most`` are the trials of a method in a panel, if not all."""
    look, named = looks(results.study), set[str]()
    several = len({each.task for each in found}) > 1
    titles = [f"{each.task}: {each.name}" if several else each.name for each in found]
    drawing = panels([Panel(title, 170) for title in titles], "", y, shared=False)
    for row, each in enumerate(found, start=1):
        for one in each.slices:
            add(drawing, _dots(one, each, look[one.method], most), row, named)
        title = plain(each.name) if len(found) == 1 else ""  # else it stands above the panel
        drawing.update_xaxes(type=each.axis, title_text=title, row=row, col=1)
        drawing.update_xaxes(exponentformat="power", dtick=_ticks(each), row=row, col=1)
    return drawing


def _ticks(each: Slices) -> int | None:
    """At each power of ten or at each whole number, where there are enough, but not too many."""
    values = [value for one in each.slices for value in one.values]
    if each.axis == "log" and math.log10(max(values) / min(values)) >= 2:
        return 1
    few = all(isinstance(v, int) for v in values) and max(values) - min(values) <= FEW
    return 1 if few and each.axis == "linear" else None


def _dots(one: Slice, each: Slices, look: Look, most: int) -> Any:
    from plotly.graph_objects import Scatter

    shown = spaced(one.accuracies, most)
    texts = [plain(value(one.values[place])) for place in shown]
    return Scatter(
        x=texts if each.axis == "category" else [one.values[place] for place in shown],
        y=[one.accuracies[place] for place in shown],
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 8},
        opacity=0.7,
        name=plain(one.method),
        customdata=texts,
        hovertemplate=(
            f"{plain(one.method)}, {plain(each.name)} = %{{customdata}}:"
            " %{y:.2f} %<extra></extra>"
        ),
    )

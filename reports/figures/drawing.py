"""What the drawings share: panels one above the other, one for each task, and lines in them."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench_reports.colours import GREY
from bnnbench_reports.readings import tasks_of
from bnnbench_reports.thinning import spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results
    from bnnbench_reports.readings import Array, Bundle
    from bnnbench_reports.thinning import Thinned

HEAD, FOOT, LEGEND = 50, 60, 50  #: pixels above and below the panels, and for a legend
GAP = 50  #: pixels between two panels
FEW = 12  #: whole numbers that all have a tick
STEPS, SLIDER = 12, 90  #: epochs that a slider offers, and its pixels


class Panel(NamedTuple):
    """A panel's title and its height in pixels."""

    title: str
    height: int


def panels(
    wanted: Sequence[Panel],
    x: str,
    y: str,
    *,
    shared: bool = True,
    legend: bool = True,
    gap: int = GAP,
) -> Drawing:
    """Return an empty drawing with one panel in each row; the titles of the axes bear the units.

    ``shared`` panels have the same range on the x axis; between two there are ``gap`` pixels.
    """
    from plotly.subplots import make_subplots

    foot = FOOT + LEGEND if legend else FOOT
    total = sum(panel.height for panel in wanted) + gap * (len(wanted) - 1)
    drawing = make_subplots(
        rows=len(wanted),
        cols=1,
        shared_xaxes="all" if shared else False,
        vertical_spacing=gap / total if len(wanted) > 1 else 0,
        row_heights=[panel.height for panel in wanted],
        subplot_titles=[plain(panel.title) for panel in wanted] if len(wanted) > 1 else None,
    )
    drawing.update_yaxes(title_text=y, automargin=True)
    drawing.update_xaxes(title_text=x, row=len(wanted), col=1)
    drawing.update_xaxes(showticklabels=True)
    drawing.update_annotations(font_size=12)
    drawing.update_layout(
        height=total + HEAD + foot,
        showlegend=legend,
        margin={"l": 60, "r": 15, "t": HEAD, "b": foot},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    return drawing


def rows(
    found: Sequence[Any], label: Callable[[Any], str], x: str, *, legend: bool = False
) -> Drawing:
    """Return an empty panel for each task, with a line for each thing, named beside its axis."""
    tasks = tasks_of(found)
    wanted = [Panel(t, height([label(each) for each in found if each.task == t])) for t in tasks]
    drawing = panels(wanted, x, "", shared=False, legend=legend)
    drawing.update_yaxes(type="category", autorange="reversed")
    return drawing


def whole(drawing: Drawing, largest: int) -> None:
    """Let no tick of the horizontal axes lie between two whole numbers."""
    drawing.update_xaxes(dtick=1 if largest <= FEW else None)


def add(drawing: Drawing, trace: Any, row: int, named: set[str]) -> None:
    """Draw a trace in a panel; its name, if it has one, stands in the legend once."""
    trace.update(legendgroup=trace.name, showlegend=bool(trace.name) and trace.name not in named)
    named.add(trace.name)
    drawing.add_trace(trace, row=row, col=1)


def upright(drawing: Drawing, x: float, panels: int) -> None:
    """Draw a line from the top to the bottom of each panel, once something is drawn in them."""
    for row in range(1, panels + 1):
        drawing.add_vline(x, line={"color": GREY, "width": 1}, row=row, col=1)


class Seen(NamedTuple):
    """A trace of an epoch, one of those of its ``group``, of which one epoch is seen at a time."""

    group: str
    epoch: int


def chosen_epochs(found: Iterable[Any], most: int = STEPS) -> list[int]:
    """Return the epochs of looks that a slider offers: so many at most, the first among them.

    The last one of every task is among them too, even if there are more then.

    >>> from types import SimpleNamespace as Some
    >>> chosen_epochs([Some(task=t, epoch=e) for t, last in (("a", 7), ("b", 100))
    ...                for e in range(last + 1)], 3)
    [0, 7, 50, 100]
    """
    last: dict[str, int] = {}
    known: set[int] = set()
    for look in found:
        last[look.task] = max(look.epoch, last.get(look.task, 0))
        known.add(look.epoch)
    epochs = sorted(known)
    return sorted({*(epochs[place] for place in spaced(epochs, most)), *last.values()})


def slider(drawing: Drawing, seen: Sequence[Seen | None]) -> None:
    """Let the reader choose among epochs; ``seen`` says of each trace when it is, None: always.

    Of each group the last epoch up to the chosen one is seen, at first the last of all. Where there
    is one epoch there is nothing to choose.
    """
    known = sorted({each.epoch for each in seen if each})
    for trace, shown in zip(drawing.data, visible(seen, known[-1]), strict=True):
        trace.visible = shown
    if len(known) < 2:
        return
    steps = [
        {"method": "restyle", "label": f"{epoch:,}", "args": [{"visible": visible(seen, epoch)}]}
        for epoch in known
    ]
    shape = {"x": 0, "len": 1, "y": 0, "yanchor": "top", "pad": {"t": 70, "b": 0}, "ticklen": 4}
    said = {"prefix": "epoch ", "font": {"size": 12}, "offset": 10}
    look = {"font": {"size": 10}, "bgcolor": GREY, "activebgcolor": GREY, "bordercolor": GREY}
    drawing.update_layout(
        sliders=[{"steps": steps, "active": len(known) - 1, "currentvalue": said, **shape, **look}],
        height=drawing.layout.height + SLIDER,
        margin_b=drawing.layout.margin.b + SLIDER,
    )


def visible(seen: Sequence[Seen | None], epoch: int) -> list[bool]:
    """Return which traces are seen when an epoch is chosen.

    >>> visible([None, Seen("a", 1), Seen("a", 5), Seen("b", 3), Seen("b", 4)], 4)
    [True, True, False, False, True]
    """
    last: dict[str, int] = {}
    for each in filter(None, seen):
        if each.epoch <= epoch:
            last[each.group] = max(each.epoch, last.get(each.group, 0))
    return [each is None or last.get(each.group) == each.epoch for each in seen]


def plain(text: str) -> str:
    """Return text that plotly shows as it is, though it reads a little HTML."""
    return html.escape(text, quote=False)


def wrapped(text: str, width: int = 20) -> str:
    """Return plain text in lines of at most so many characters, for a label beside an axis.

    >>> wrapped("binaryconnect-stochastic, binary")
    'binaryconnect-<br>stochastic, binary'
    """
    return "<br>".join(plain(line) for line in textwrap.wrap(text, width))


def height(labels: Sequence[str]) -> int:
    """Return the pixels that a panel needs for wrapped labels beside its vertical axis."""
    deepest = max(label.count("<br>") for label in labels) + 1
    return 40 + (14 + 17 * deepest) * len(labels)


def count_of(numbers: Iterable[int]) -> str:
    """Return "n = 5", or "n = 3 to 5" where not all numbers are equal."""
    low, high = min(found := list(numbers)), max(found)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def positive(values: Array) -> Array:
    """Return the values with gaps (NaN) where they are not positive."""
    return np.where(values > 0, values, np.nan)


def lines(results: Results, drawn: Thinned, y: str, hover: str, *, log: bool = False) -> Drawing:
    """Return the bundles over the epochs: the seeds faintly, and the mean over the seeds.

    ``hover`` is plotly's format of a value with its unit. On a logarithmic axis a value that is
    not positive leaves a gap.
    """
    from bnnbench_reports.colours import looks

    look = looks(results.study)
    tasks = tasks_of(drawn.bundles)
    drawing = panels([Panel(task, 340) for task in tasks], "epoch", y)
    drawing.update_yaxes(type="log" if log else "linear")
    whole(drawing, max(int(bundle.epochs[-1]) for bundle in drawn.bundles))
    named: set[str] = set()
    for bundle in drawn.bundles:
        for trace in _traces(bundle, drawn.faint(bundle), look[bundle.method], hover, log=log):
            trace.showlegend = trace.name is not None and bundle.method not in named
            drawing.add_trace(trace, row=tasks.index(bundle.task) + 1, col=1)
        named.add(bundle.method)
    return drawing


def _traces(
    bundle: Bundle, faint: Sequence[tuple[str, Array]], look: Any, hover: str, *, log: bool
) -> list[Any]:
    from plotly.graph_objects import Scatter

    marks = "lines" if len(bundle.epochs) > 1 else "markers"
    common: dict[str, Any] = {"x": bundle.epochs, "legendgroup": bundle.method, "mode": marks}
    name, line = plain(bundle.method), {"color": look.colour, "dash": look.dash}
    each = [
        Scatter(
            **common,
            y=positive(values) if log else values,
            line=line | {"width": 1},
            opacity=0.3,
            hovertemplate=f"{name}, {told}<br>epoch %{{x}}: {hover}<extra></extra>",
        )
        for told, values in faint
    ]
    mean = Scatter(
        **common,
        y=positive(bundle.mean) if log else bundle.mean,
        line=line | {"width": 2.5},
        name=name,
        hovertemplate=(
            f"{name}, mean of n = {len(bundle.seeds)}<br>epoch %{{x}}: {hover}<extra></extra>"
        ),
    )
    return [*each, mean]

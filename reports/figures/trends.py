"""What probes saw of each layer over the epochs: latents at their bounds, angles, dot products.

Panels in rows, one for each layer of each task, and a column for each metric; lines are methods.
The epochs of the looks stand side by side as they follow each other, for they go 1, 2, 5, 10, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures.drawing import count_of, plain, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.probed import Look, every_look, left_out, short
from bnnbench_reports.thinning import spaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results

ROWS = 12  #: layers of tasks that are drawn
PIXELS = 170  #: of a panel's height
HEAD, FOOT, GAP = 60, 110, 90  #: pixels above, below and between the panels


class Trend(NamedTuple):
    """A metric over the epochs: its place in the database, the title of its axis, and its scale."""

    metric: str
    axis: str
    hover: str
    split: str = ""
    scale: float = 1.0


SATURATED = Trend("latent_saturated", "saturated, %", "%{y:.1f} %", scale=100)
DISTANCE = Trend("latent_distance", "distance to ±1, bounds", "%{y:.3f} bounds")
ANGLE = Trend("angle_mean", "angle, degrees", "%{y:.2f} degrees")
CORRELATION = Trend("dot_r", "r (no unit)", "r = %{y:.3f}", split="validation")


class Course(NamedTuple):
    """A metric of a layer of a (task, method) over the looks: the mean over n seeds at each."""

    task: str
    method: str
    layer: str
    metric: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    n: int


def info(results: Results, trends: Sequence[Trend]) -> list[Course]:
    """Return the course of each metric in each layer that it was measured of."""
    return [course for trend in trends for course in _courses(results, trend)]


def _courses(results: Results, trend: Trend) -> list[Course]:
    found: dict[tuple[str, str, str], list[Look]] = {}
    for look in every_look(results, [trend.metric], split=trend.split, mode=""):
        if trend.metric in look.values:
            found.setdefault((look.task, look.method, look.layer), []).append(look)
    return [
        Course(
            *key,
            trend.metric,
            tuple(look.epoch for look in mine),
            tuple(trend.scale * look.values[trend.metric] for look in mine),
            max(look.n for look in mine),
        )
        for key, mine in found.items()
    ]


def saturation_figure(results: Results) -> Figure | None:
    """Draw how many latents are at their bounds, and how far the others are from them."""
    return _figure(
        results,
        (SATURATED, DISTANCE),
        "Latent weights on their way to ±1",
        "Left: the share of a layer’s latents that are within 0.001 of their bound or beyond"
        " it. Right: the mean distance of a latent to the nearer of -1 and +1, in bounds: 0 where"
        " all have arrived, 1 where all are 0, about 0.5 where they are spread evenly. Means over"
        " seeds at the epochs at which the probe looked, 0 is before training. A method that clips"
        " its latents ends with many at the bound; one that does not may pass it, and its distance"
        " grows again. Latents at their bounds say that their signs have settled, not that they"
        " are right. Where the latent is the binary weight, all are at the bound.",
    )


def geometry_figure(results: Results) -> Figure | None:
    """Draw the angles and the correlations of dot products over the epochs."""
    return _figure(
        results,
        (ANGLE, CORRELATION),
        "Angles and dot products over the epochs",
        "Left: the angle between latent and binary weights, mean over a layer’s filters."
        " Right: Pearson’s correlation r of dot products with both, on images of the validation"
        " split. Means over seeds at the epochs of the looks, 0 is before training. The"
        " smaller the angle and the nearer r is to 1, the less binarization changes; a line that"
        " ends early had no latent any more.",
        needed=True,
    )


def _figure(
    results: Results, trends: Sequence[Trend], title: str, explanation: str, *, needed: bool = False
) -> Figure | None:
    """A figure of some trends; ``needed``: say who has none."""
    found = info(results, trends)
    if not found:
        return None
    places = list(dict.fromkeys((course.task, course.layer) for course in found))
    kept = sorted(spaced(range(len(places)), ROWS))
    first = f" {ROWS} of {len(places)} layers are drawn, evenly spaced." * (len(places) > ROWS)
    without = f" {left_out(results, (course.method for course in found))}" if needed else ""
    count = count_of(course.n for course in found)
    return Figure(
        title=f"{title} ({count} seeds)",
        explanation=f"{explanation}{first}{without}".rstrip(),
        drawing=draw(results, found, trends, [places[place] for place in kept]),
        summary=" ".join(
            _summary([course for course in found if course.metric == trend.metric], trend)
            for trend in trends
            if any(course.metric == trend.metric for course in found)
        ),
        info=found,
    )


def _summary(found: Sequence[Course], trend: Trend) -> str:
    last = [Value(f"{short(c.layer)}, {called(c, found)}", c.values[-1]) for c in found]
    return summary(f"Last {trend.axis}", last, f"{count_of(c.n for c in found)} seeds", form=".3g")


def draw(
    results: Results,
    found: Sequence[Course],
    trends: Sequence[Trend],
    places: Sequence[tuple[str, str]],
) -> Any:
    """Return a panel for each place and trend."""
    drawing = _panels(results, trends, places)
    columns = {trend.metric: number for number, trend in enumerate(trends, start=1)}
    rows = {place: number for number, place in enumerate(places, start=1)}
    look, named = colours(results.study), set[str]()
    for course in found:
        if row := rows.get((course.task, course.layer)):
            trend = trends[columns[course.metric] - 1]
            trace = _line(course, trend, look[course.method])
            trace.showlegend = course.method not in named
            named.add(course.method)
            drawing.add_trace(trace, row=row, col=columns[course.metric])
    epochs = sorted({epoch for course in found for epoch in course.epochs})
    drawing.update_xaxes(
        type="category", categoryorder="array", categoryarray=[str(epoch) for epoch in epochs]
    )
    return drawing


def _panels(results: Results, trends: Sequence[Trend], places: Sequence[tuple[str, str]]) -> Any:
    """Empty panels, with the names of the layers above them."""
    from plotly.subplots import make_subplots

    several = len(results.study.tasks) > 1
    names = [
        wrapped(f"{task}: {short(layer)}" if several else short(layer), 24)
        for task, layer in places
    ]
    height = PIXELS * len(places) + GAP * (len(places) - 1)
    drawing = make_subplots(
        rows=len(places),
        cols=len(trends),
        subplot_titles=[name for name in names for _ in trends],
        horizontal_spacing=0.16,
        vertical_spacing=GAP / height if len(places) > 1 else 0,
    )
    for column, trend in enumerate(trends, start=1):
        drawing.update_yaxes(title={"text": trend.axis, "font": {"size": 11}}, col=column)
    drawing.update_yaxes(rangemode="tozero")
    drawing.update_xaxes(title={"text": "epoch", "font": {"size": 11}, "standoff": 4})
    drawing.update_annotations(font_size=12)
    drawing.update_layout(
        height=height + HEAD + FOOT,
        margin={"l": 60, "r": 15, "t": HEAD, "b": FOOT},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    return drawing


def _line(course: Course, trend: Trend, look: Any) -> Any:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[str(epoch) for epoch in course.epochs],
        y=course.values,
        mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"symbol": look.symbol, "size": 7},
        name=plain(course.method),
        legendgroup=course.method,
        hovertemplate=(
            f"{plain(course.method)}, mean of n = {course.n}<br>epoch %{{x}}: {trend.hover}"
            "<extra></extra>"
        ),
    )

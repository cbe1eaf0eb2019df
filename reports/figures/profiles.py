"""Performance profiles: on what share of the tasks a method is nearly as quick as the quickest.

source: Dolan and Moré (2002); see :mod:`bnnbench.statistics.profiles`
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench.statistics.profiles import END, Profile, profiles
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.figures.drawing import Panel, panels, plain
from bnnbench_reports.figures.summaries import Value, summary

if TYPE_CHECKING:
    from bnnbench.results import Results


class Profiles(NamedTuple):
    """The profiles of all methods, of costs in a unit, over so many tasks."""

    by_method: dict[str, Profile]
    unit: str
    tasks: int


def info(results: Results) -> Profiles | None:
    """Return the profiles whose areas stand in the table of ranks, None where there are none."""
    comparisons = compared(results)
    areas = comparisons.areas
    if areas is None:
        return None
    tasks = [task.name for task in results.study.tasks]
    medians = [
        [getattr(comparisons.arrivals[task, method], areas.unit).median for task in tasks]
        for method in areas.methods
    ]
    costs = [[math.inf if cost is None else cost for cost in row] for row in medians]
    return Profiles(dict(zip(areas.methods, profiles(costs), strict=True)), areas.unit, len(tasks))


def profiles_figure(results: Results) -> Figure | None:
    """Draw a step line for each method."""
    found = info(results)
    if found is None:
        return None
    return Figure(
        title=f"Performance profiles: {found.unit} to the target (n = {found.tasks} tasks)",
        explanation=(
            f"For each method, the share of the tasks on which its median {found.unit} to the"
            " target are at most t times those of the quickest method there. The target is the"
            " median of the reference's best accuracies on validation. At t = 1: how often it is"
            " the quickest; the height at the right: how often it comes to the target within"
            f" {END:g} times the cost. In the legend: the area, the mean of the line from 1 to"
            f" {END:g}. Without one of the methods the lines of the others would be different"
            " ones, so do not compare profiles of different studies."
        ),
        drawing=draw(results, found),
        summary=summary(
            "Areas under the performance profiles, 1 is the best",
            [Value(method, profile.area) for method, profile in found.by_method.items()],
            f"n = {found.tasks} tasks",
        ),
        info=found,
    )


def draw(results: Results, found: Profiles) -> Any:
    """Return the step lines."""
    from plotly.graph_objects import Scatter

    look = looks(results.study)
    x = f"t: times the {found.unit} of the quickest method"
    drawing = panels([Panel("", 320)], x, "share of the tasks")
    for method, profile in found.by_method.items():
        steps = corners(profile)
        trace = Scatter(
            x=steps,
            y=[profile.share(t) for t in steps],
            mode="lines",
            line={"shape": "hv", "width": 2.5} | _line(look[method]),
            name=f"{plain(method)} ({profile.area:.2f})",
            hovertemplate=f"{plain(method)}: %{{y:.0%}} of tasks at t = %{{x:.2f}}<extra></extra>",
        )
        drawing.add_trace(trace)
    drawing.update_xaxes(range=[0.95, END + 0.05])
    drawing.update_yaxes(range=[-0.03, 1.03], tickformat=".0%")
    return drawing


def corners(profile: Profile) -> list[float]:
    """Return where a profile rises, with both its ends.

    >>> corners(Profile((1.0, 2.5, 9.0)))
    [1.0, 2.5, 4.0]
    """
    return sorted({1.0, *(ratio for ratio in profile.ratios if ratio < END), END})


def _line(look: Any) -> dict[str, str]:
    return {"color": look.colour, "dash": look.dash}

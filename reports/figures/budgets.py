"""What tuning took: trials by how they ended, and the seconds of each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.cli.comparisons import budget
from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.figures.drawing import count_of, plain, rows, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import tasks_of

if TYPE_CHECKING:
    from bnnbench.comparisons import Budget
    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


class Spent(NamedTuple):
    """What tuning a (task, method) took."""

    task: str
    method: str
    budget: Budget


def info(results: Results) -> list[Spent]:
    """Return what was spent on each (task, method) that has trials, as the tables have it."""
    found = {(c.task, c.method): c.tuning for c in compared(results).cells.values()}
    return [Spent(*cell, tuning) for cell, tuning in found.items() if tuning.trials]


def budgets_figure(results: Results) -> Figure | None:
    """Draw a bar for each method, one panel for each task."""
    found = info(results)
    if not found:
        return None
    return Figure(
        title=f"What tuning took, in seconds ({count_of(e.budget.trials for e in found)} trials)",
        explanation=(
            "Seconds from the start to the end of each trial, whatever its end was, added up; the"
            " pause of a trial that was broken off and taken up is among them. Beside the name:"
            " how many trials there were, and how many of them were pruned, failed or diverged. An"
            " equal number of trials is not an equal time, and trials beside other work take"
            " longer: this is what was spent, not how fast a method is."
        ),
        drawing=draw(results, found),
        summary=summary(
            "Seconds of all trials of a method",
            [Value(called(each, found), each.budget.seconds) for each in found],
            f"{count_of(e.budget.trials for e in found)} trials",
            " s",
            ",.0f",
        ),
        info=found,
    )


def draw(results: Results, found: list[Spent]) -> Any:
    """Return the bars."""
    look, tasks = looks(results.study), tasks_of(found)
    drawing = rows(found, label, "seconds of all trials together")
    for each in found:
        bar = _bar(each, look[each.method])
        drawing.add_trace(bar, row=tasks.index(each.task) + 1, col=1)
    return drawing


def label(each: Spent) -> str:
    """Return the name of a bar: the method, and its trials by how they ended."""
    trials, _, _ = budget(each.budget).rpartition(", ")
    return f"{wrapped(each.method)}<br>{wrapped(trials, 24)}"


def _bar(each: Spent, look: Look) -> Any:
    from plotly.graph_objects import Bar

    return Bar(
        x=[each.budget.seconds],
        y=[label(each)],
        orientation="h",
        width=0.5,
        marker={"color": look.colour},
        hovertemplate=f"{plain(each.method)}: {budget(each.budget)}<extra></extra>",
    )

"""How the confirming runs ended, methods by tasks, where not all are done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.entries import CONFIRM, DIVERGED, DONE, FAILED, PRUNED, TUNE
from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import Panel, count_of, panels, plain, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import tasks_of
from bnnbench_reports.tables import ended, reasons

if TYPE_CHECKING:
    from bnnbench.results import Results

BAD = (FAILED, DIVERGED, PRUNED)
#: from nothing done to all done: the colour-blind tell them apart, and dark text is read on all
SCALE = [[0, "#E9A76B"], [0.5, "#DDD6C8"], [1, "#A9CDE6"]]
INK = "#14171b"


class Covered(NamedTuple):
    """How the runs of a (task, method) ended: confirming ones, and trials that are not done."""

    task: str
    method: str
    asked: int
    done: int
    failed: int
    diverged: int
    missing: int
    trials: dict[str, int]
    reasons: tuple[str, ...]


def info(results: Results) -> list[Covered]:
    """Return a cell for each (task, method); none where all is done but for trials pruned early."""
    found = [_covered(results, *cell, asked) for cell, asked in results.asked.items()]
    return found if any(map(_is_flawed, found)) else []


def _is_flawed(each: Covered) -> bool:
    return each.done < each.asked or any(state != PRUNED for state in each.trials)


def _covered(results: Results, task: str, method: str, asked: int) -> Covered:
    mine = results.cell(task, method)
    ends = Counter(entry.state for entry in mine if entry.role == CONFIRM)
    trials = Counter(entry.state for entry in mine if entry.role == TUNE)
    return Covered(
        task=task,
        method=method,
        asked=asked,
        done=ends[DONE],
        failed=ends[FAILED],
        diverged=ends[DIVERGED],
        missing=asked - ended(entry for entry in mine if entry.role == CONFIRM),
        trials={state: trials[state] for state in BAD if trials[state]},
        reasons=tuple(reasons(mine, asked)),
    )


def coverage_figure(results: Results) -> Figure | None:
    """Draw a map of methods by tasks; the reasons are seen on hover."""
    found = info(results)
    if not found:
        return None
    return Figure(
        title=f"Runs that are done ({count_of(each.asked for each in found)} asked for in a cell)",
        explanation=(
            "Confirming runs that are done, of those that were asked for; below, how the others"
            " ended, and trials that were pruned, failed or diverged. Hover for the reasons; the"
            " table of coverage has them too. A mean is over the runs that are done alone: where"
            " runs are missing because they failed or diverged, it flatters the method."
        ),
        drawing=draw(found),
        summary=summary(
            f"Share of the {sum(each.asked for each in found):,} confirming runs that are done",
            [Value(called(each, found), 100 * each.done / each.asked) for each in found],
            f"{count_of(each.asked for each in found)} in a cell",
            " %",
            ".0f",
        ),
        info=found,
    )


def draw(found: list[Covered]) -> Any:
    """Return the map, blue where all is done and orange where nothing is."""
    from plotly.graph_objects import Heatmap

    tasks = tasks_of(found)
    methods = list(dict.fromkeys(each.method for each in found))
    cells = {(each.task, each.method): each for each in found}
    table = [[cells.get((task, method)) for task in tasks] for method in methods]
    drawing = panels([Panel("", 60 + 46 * len(methods))], "task", "", legend=False)
    drawing.add_trace(
        Heatmap(
            x=[wrapped(task, 16) for task in tasks],
            y=[wrapped(method) for method in methods],
            z=[[each and each.done / each.asked for each in row] for row in table],
            text=[[each and said(each) for each in row] for row in table],
            texttemplate="%{text}",
            textfont={"color": INK},
            customdata=[[each and hovered(each) for each in row] for row in table],
            hoverongaps=False,
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=3,
            ygap=3,
        )
    )
    drawing.update_yaxes(autorange="reversed", type="category", showgrid=False)
    drawing.update_xaxes(type="category", showgrid=False)
    return drawing


def said(each: Covered) -> str:
    """Return what stands in a cell.

    >>> said(Covered("t", "m", 5, 3, 1, 0, 1, {"pruned": 2}, ()))
    '3 of 5<br>1 failed, 1 missing<br>trials: 2 pruned'
    """
    counts = {FAILED: each.failed, DIVERGED: each.diverged, "missing": each.missing}
    lines = [f"{each.done} of {each.asked}", _counts(counts)]
    lines.append(f"trials: {_counts(each.trials)}" if each.trials else "")
    return "<br>".join(filter(None, lines))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def hovered(each: Covered) -> str:
    """Return what is said on hover: where, and why runs are not done."""
    told = each.reasons or ("all runs are done",)
    return "<br>".join([plain(f"{each.task}: {each.method}"), *(wrapped(why, 60) for why in told)])

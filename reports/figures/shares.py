"""Where the wall time of the confirming runs went: the share of each bucket of the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.buckets import TRAIN
from bnnbench.interfaces import Figure
from bnnbench_reports.colours import COLOURS, GREY
from bnnbench_reports.figures.drawing import add, count_of, plain, rows, wrapped
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import tasks_of
from bnnbench_reports.records import COLUMNS, seconds_by_bucket

if TYPE_CHECKING:
    from bnnbench.results import Results

LOOKS = dict(zip(COLUMNS, (COLOURS[n] for n in (0, 5, 4, 3, 2, 1)), strict=False))


class Shares(NamedTuple):
    """The seconds of a (task, method) by bucket, summed over its n finished confirming runs."""

    task: str
    method: str
    seconds: dict[str, float]
    n: int

    def share(self, bucket: str) -> float:
        """Return a bucket's share of all seconds, in percent."""
        return 100 * self.seconds.get(bucket, 0.0) / (sum(self.seconds.values()) or 1)


def info(results: Results) -> list[Shares]:
    """Return the seconds of each (task, method), as the table of times has them."""
    found = seconds_by_bucket(results)
    study = results.study
    cells = [(task.name, method.name) for task in study.tasks for method in study.methods]
    return [
        Shares(*cell, found[cell], len(results.confirmed(*cell))) for cell in cells if cell in found
    ]


def shares_figure(results: Results) -> Figure | None:
    """Draw a bar for each method, as long as all the others."""
    found = info(results)
    if not found:
        return None
    return Figure(
        title=f"Where the time went, percent ({count_of(each.n for each in found)} runs)",
        explanation=(
            "Seconds of each kind over all finished confirming runs, as a share of their sum."
            " train: getting the batches, forward, backward and the optimizers; warmup: the same in"
            " a run's first epoch. The rest is the harness's and no part of training time. Bars of"
            " equal length are not equal times: hover for the seconds. Runs that shared the machine"
            " are among them."
        ),
        drawing=draw(found),
        summary=summary(
            "Share of the wall time that is training, first epochs left out",
            [Value(called(each, found), each.share(TRAIN)) for each in found],
            f"{count_of(each.n for each in found)} runs",
            " %",
            ".1f",
        ),
        info=found,
    )


def draw(found: list[Shares]) -> Any:
    """Return the bars, buckets one after the other in the order of the table."""
    tasks, named = tasks_of(found), set[str]()
    drawing = rows(found, label, "share of the wall time in %", legend=True)
    for bucket in COLUMNS:
        for row, task in enumerate(tasks, start=1):
            mine = [each for each in found if each.task == task]
            if any(each.share(bucket) for each in mine):
                add(drawing, _bar(bucket, mine), row, named)
    drawing.update_xaxes(range=[0, 100])
    drawing.update_layout(barmode="stack", legend_traceorder="normal")
    return drawing


def label(each: Shares) -> str:
    """Return the name of a bar."""
    return f"{wrapped(each.method)}<br>n = {each.n}"


def _bar(bucket: str, mine: list[Shares]) -> Any:
    from plotly.graph_objects import Bar

    return Bar(
        x=[each.share(bucket) for each in mine],
        y=[label(each) for each in mine],
        orientation="h",
        name=bucket,
        marker={"color": LOOKS.get(bucket, GREY)},
        customdata=[(plain(each.method), each.seconds.get(bucket, 0.0)) for each in mine],
        hovertemplate=(
            f"%{{customdata[0]}}, {bucket}: %{{x:.1f}} %, %{{customdata[1]:.3g}} s<extra></extra>"
        ),
    )

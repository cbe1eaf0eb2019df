"""Test accuracy against training time: every run, the methods' means, and the Pareto front."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.buckets import TRAIN, WARMUP
from bnnbench.interfaces import Figure
from bnnbench.results import points
from bnnbench_reports.colours import GREY, looks
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.figures.drawing import Panel, add, count_of, panels, plain
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.readings import accuracy_name, tasks_of
from bnnbench_reports.thinning import DOTS, room, spaced, spaced_said

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look


class Spot(NamedTuple):
    """Seconds of training and test accuracy in percent."""

    seconds: float
    accuracy: float


class Cloud(NamedTuple):
    """The runs of a (task, method) by seed, those that had the machine to themselves."""

    task: str
    method: str
    by_seed: dict[int, Spot]

    @property
    def mean(self) -> Spot:
        """The means of both over the seeds."""
        return Spot(*map(statistics.fmean, zip(*self.by_seed.values(), strict=True)))


def info(results: Results) -> list[Cloud]:
    """Return the runs of each (task, method) whose training was timed."""
    seconds, entries = trained(results), results.confirmed()
    alone = {(e.task, e.method, e.number): e.run_id for e in entries if not e.shared}
    found = []
    for (task, method), scores in compared(results).judged.items():
        runs = {seed: alone.get((task, method, seed)) for seed in sorted(scores)}
        spots = {
            seed: Spot(seconds[run], scores[seed])
            for seed, run in runs.items()
            if run is not None and run in seconds
        }
        found += [Cloud(task, method, spots)] if spots else []
    return found


def trained(results: Results) -> dict[int, float]:
    """Return each finished run's seconds of training, the first epoch's included, by run."""
    last = {entry.run_id: entry.run.epochs for entry in results.confirmed()}
    found: dict[int, float] = {}
    for series in results.series([f"seconds.{TRAIN}", f"seconds.{WARMUP}"], layer=""):
        epochs, values = points(series)
        spent = float(values[epochs <= last[series.run_id]].sum())  # what follows is judging
        found[series.run_id] = found.get(series.run_id, 0.0) + spent
    return found


def front(spots: Iterable[Spot]) -> list[Spot]:
    """Return those that no other one beats in time without losing accuracy, the quickest first.

    >>> front([Spot(3, 90.0), Spot(1, 80.0), Spot(2, 70.0), Spot(3, 85.0)])
    [Spot(seconds=1, accuracy=80.0), Spot(seconds=3, accuracy=90.0)]
    """
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.seconds, -spot.accuracy)):
        if not kept or spot.accuracy > kept[-1].accuracy:
            kept.append(spot)
    return kept


def pareto_figure(results: Results) -> Figure | None:
    """Draw the runs and the front, one panel for each task."""
    found = info(results)
    if not found:
        return None
    name = accuracy_name(results, found)
    most = room([len(cloud.by_seed) for cloud in found], DOTS)
    return Figure(
        title=(
            f"Test {name} against seconds of training"
            f" ({count_of(len(cloud.by_seed) for cloud in found)} seeds)"
        ),
        explanation=(
            "Faint points are runs, strong ones a method's mean. Seconds are those of training in"
            " all epochs, without evaluation and without tuning; what a run starts from is not"
            " among them. The dashed steps are the Pareto front of the means: the best accuracy"
            " for at most so much time. A method below it is slower or less accurate than another"
            " one; whether by more than chance the front does not say. All methods were trained"
            " for the epochs of the task, so a shorter training of a slow method may lie above."
            f"{spaced_said(most, 'seeds')}"
        ),
        drawing=draw(results, found, f"test {name} in %", most),
        summary=summary(
            f"Mean test {name}, and the seconds of training that it took",
            [
                Value(f"{called(each, found)} in {each.mean.seconds:.3g} s", each.mean.accuracy)
                for each in found
            ],
            f"{count_of(len(each.by_seed) for each in found)} seeds",
            " %",
        ),
        info=found,
    )


def draw(results: Results, found: list[Cloud], y: str, most: int = 0) -> Any:
    """Return the drawing; ``most`` are the runs of a method that are drawn, if not all."""
    look, tasks, named = looks(results.study), tasks_of(found), set[str]()
    drawing = panels([Panel(task, 320) for task in tasks], "seconds of training", y, shared=False)
    for row, task in enumerate(tasks, start=1):
        mine = [cloud for cloud in found if cloud.task == task]
        widest = max(spot.seconds for cloud in mine for spot in cloud.by_seed.values())
        add(drawing, _steps([cloud.mean for cloud in mine], widest), row, named)
        for cloud in mine:
            for trace in _traces(cloud, look[cloud.method], most):
                add(drawing, trace, row, named)
    return drawing


def _steps(means: list[Spot], widest: float) -> Any:
    from plotly.graph_objects import Scatter

    best = front(means)
    return Scatter(
        x=[*(spot.seconds for spot in best), widest],
        y=[*(spot.accuracy for spot in best), best[-1].accuracy],
        mode="lines",
        line={"shape": "hv", "color": GREY, "dash": "dash", "width": 1.5},
        name="Pareto front of the means",
        hoverinfo="skip",
    )


def _traces(cloud: Cloud, look: Look, most: int) -> list[Any]:
    """The runs, and their mean."""
    from plotly.graph_objects import Scatter

    name, seeds = plain(cloud.method), list(cloud.by_seed)
    shown = [seeds[n] for n in spaced([cloud.by_seed[seed].accuracy for seed in seeds], most)]
    hover = "%{y:.2f} % after %{x:.3g} s<extra></extra>"
    marker = {"color": look.colour, "symbol": look.symbol}
    runs = Scatter(
        x=[cloud.by_seed[seed].seconds for seed in shown],
        y=[cloud.by_seed[seed].accuracy for seed in shown],
        mode="markers",
        marker=marker | {"size": 7},
        opacity=0.4,
        customdata=shown,
        hovertemplate=f"{name}, seed %{{customdata}}: {hover}",
    )
    mean = Scatter(
        x=[cloud.mean.seconds],
        y=[cloud.mean.accuracy],
        mode="markers",
        marker=marker | {"size": 13},
        name=name,
        hovertemplate=f"{name}, mean of n = {len(seeds)}: {hover}",
    )
    return [runs, mean]

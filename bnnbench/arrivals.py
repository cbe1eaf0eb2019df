"""What it takes the runs of a study to come as far as the reference, on validation.

    target   median over the reference's runs of their best validation accuracy
    epochs   the first whose validation accuracy is at least the target
    seconds  of training until the end of that epoch, the first epoch's included
    flips    of a binary weight until then: sum over the epochs of flip_step times steps

Each method is judged in its own mode. Epochs of a phase by which no network is selected do not
count. A run that ended without reaching the target is censored at its last epoch; its seconds and
flips count as more than anybody's, because it was epochs that it ran out of. A run that failed or
diverged never would have reached the target. Runs that shared the machine have epochs and flips, no
seconds. What a run starts from is not counted.

source: the target is AlgoPerf's (Dahl et al., 2023)
departs from AlgoPerf: misses are censored, there they are infinite from the start
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.buckets import TRAIN, WARMUP
from bnnbench.entries import CONFIRM, DIVERGED, FAILED
from bnnbench.statistics.targets import Arrival, Arrivals, first_at, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnnbench.entries import Entry
    from bnnbench.results import Results
    from bnnbench.series import Series

Curve = dict[int, float]  #: a value by epoch
NEVER = Arrival(math.inf, reached=False)
SECONDS = (f"seconds.{TRAIN}", f"seconds.{WARMUP}")
FLIPS = ("flip_step",)


@dataclass(frozen=True)
class Way:
    """The way of a method's runs on a task to the target, which is in percent."""

    target: float
    epochs: Arrivals
    seconds: Arrivals
    flips: Arrivals


class _Course(NamedTuple):
    """A finished run: accuracies of the epochs that count; seconds and flips where they count."""

    epochs: int
    accuracy: Curve
    seconds: Curve
    flips: Curve


def ways(results: Results) -> dict[tuple[str, str], Way]:
    """Return the way of each method on each task where the reference has one to go by."""
    reference, courses = results.study.reference, _courses(results)
    found = {}
    for task in results.study.tasks:
        theirs = [c.accuracy for c in courses.get((task.name, reference), []) if c.accuracy]
        for method in results.study.methods if theirs else ():
            cell = task.name, method.name
            mine, lost = courses.get(cell, []), _lost(results, *cell)
            if mine or lost:
                found[cell] = _way(target([max(a.values()) for a in theirs]), mine, lost)
    return found


def _lost(results: Results, task: str, method: str) -> int:
    """How many confirming runs failed or diverged."""
    ends = [entry.state for entry in results.cell(task, method) if entry.role == CONFIRM]
    return ends.count(FAILED) + ends.count(DIVERGED)


def _courses(results: Results) -> dict[tuple[str, str], list[_Course]]:
    """The courses of the finished confirming runs by task and method; none without a reference."""
    if not results.study.reference:
        return {}
    others = (_by_run(results.series(metrics, layer="")) for metrics in (SECONDS, FLIPS))
    curves = _accuracies(results), *others
    found: dict[tuple[str, str], list[_Course]] = {}
    for entry in results.confirmed():
        accuracy, seconds, flips = (curve.get(entry.run_id, {}) for curve in curves)
        course = _Course(
            epochs=entry.run.epochs,
            accuracy=_selectable(accuracy, entry.facts.get("phases", ())),
            seconds={} if entry.shared else seconds,
            flips=_of_all_steps(flips, entry),
        )
        found.setdefault((entry.task, entry.method), []).append(course)
    return found


def _accuracies(results: Results) -> dict[int, Curve]:
    """The validation accuracies in the judged mode, by run."""
    judged = {entry.run_id: entry.facts.get("judged", "") for entry in results.confirmed()}
    found = results.series(["accuracy"], split="validation", layer="")
    return _by_run(each for each in found if each.mode == judged.get(each.run_id))


def _by_run(found: Iterable[Series]) -> dict[int, Curve]:
    """The values of series by epoch, by run."""
    curves: dict[int, Curve] = {}
    for series in found:
        curves.setdefault(series.run_id, {}).update(series.values())
    return curves


def _selectable(accuracy: Curve, phases: Iterable[Mapping[str, Any]]) -> Curve:
    """The accuracies of the epochs by which a network may be selected."""
    left_out = [(p["first"], p["last"]) for p in phases if not p.get("selectable", True)]
    return {
        epoch: value
        for epoch, value in accuracy.items()
        if not math.isnan(value) and not any(a <= epoch <= b for a, b in left_out)
    }


def _of_all_steps(flips: Curve, entry: Entry) -> Curve:
    """The flips of a weight in each epoch, where it is known how many steps that has."""
    steps = entry.facts.get("examples", {}).get("train", 0) // entry.run.batch_size
    return {epoch: share * steps for epoch, share in flips.items()} if steps else {}


def _way(wanted: float, courses: Sequence[_Course], lost: int) -> Way:
    """The way of finished runs and of so many that were lost."""
    ends = [first_at(course.accuracy, wanted) for course in courses]
    found = {}
    for unit in ("seconds", "flips"):
        curves = [getattr(course, unit) for course in courses]
        known = [_arrival(c, at) for c, at in zip(curves, ends, strict=True) if c]
        found[unit] = Arrivals((*known, *([NEVER] * lost if known or not courses else [])))
    watched = [
        Arrival(at or course.epochs, reached=at is not None)
        for course, at in zip(courses, ends, strict=True)
    ]
    return Way(wanted, Arrivals((*watched, *[NEVER] * lost)), **found)


def _arrival(amounts: Curve, at: int | None) -> Arrival:
    """The sum of the amounts until an epoch."""
    if at is None:
        return NEVER
    return Arrival(math.fsum(amounts[epoch] for epoch in amounts if epoch <= at), reached=True)

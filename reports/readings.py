"""What figures and tables read from the results, in the order of the study; numpy, no plotly."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from bnnbench.metrics import accuracy_of
from bnnbench.results import Curve
from bnnbench.rows import Spread, ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.store import Entry

Array = np.ndarray[Any, Any]
Cell = tuple[str, str]  #: (task, method)
T = TypeVar("T")


class Bundle(NamedTuple):
    """One metric of a (task, method): ``values`` is (seeds, epochs), with no epoch missing."""

    task: str
    method: str
    mode: str
    seeds: tuple[int, ...]
    epochs: Array
    values: Array

    @property
    def mean(self) -> Array:
        """The mean over the seeds, (epochs,)."""
        mean: Array = self.values.mean(axis=0)
        return mean


class Scores(NamedTuple):
    """A metric of the test split of a (task, method) in one mode, in percent, by seed."""

    task: str
    method: str
    mode: str
    judged: bool
    by_seed: dict[int, float]

    @property
    def spread(self) -> Spread:
        """Mean, deviation and number of the accuracies."""
        spread = Spread.of(list(self.by_seed.values()))
        assert spread  # noqa: S101  # there are no scores without a seed
        return spread


class Times(NamedTuple):
    """Training times of a (task, method): ``seconds`` of all epochs, in seconds.

    Warm-up epochs and the ``left_out`` runs that shared the machine are not among them.
    ``medians`` are the runs' medians by seed; ``ratios`` are those to the reference's median of
    the same seed.
    """

    task: str
    method: str
    seconds: Array
    medians: dict[int, float]
    ratios: dict[int, float]
    left_out: int


def judged_mode(entry: Entry) -> str:
    """Return the inference mode in which a run's method is judged."""
    return str(entry.facts.get("judged", ""))


def bundles(
    results: Results, metric: str, *, split: str = "", layer: str = "", judged: bool = False
) -> list[Bundle]:
    """Return a metric of the finished confirming runs over the epochs, seeds put together.

    With ``judged`` the metric is that of the mode in which the method is judged, else that of no
    mode. Epochs that not all seeds have are left out.
    """
    curves = [
        curve
        for curve in results.curves(metric, split=split, layer=layer)
        if curve.mode == (judged_mode(curve.entry) if judged else "")
    ]
    return bundled(results, curves)


def bundled(results: Results, curves: Iterable[Curve]) -> list[Bundle]:
    """Return curves put together by task and method, in the order of the study."""
    found = []
    for (task, method), mine in in_order(results, curves, lambda curve: curve.entry):
        epochs, values = aligned(mine)
        seeds = tuple(curve.entry.number for curve in mine)
        if len(epochs):
            found.append(Bundle(task, method, mine[0].mode, seeds, epochs, values))
    return found


def aligned(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Return the epochs that all curves have, and their values there, (curves, epochs)."""
    common: Array = curves[0].epochs
    if all(np.array_equal(curve.epochs, common) for curve in curves):
        return common, np.stack([curve.values for curve in curves])
    common = reduce(np.intersect1d, [curve.epochs for curve in curves])
    return common, np.stack([c.values[np.isin(c.epochs, common)] for c in curves])


def scores(results: Results, metric: str = "accuracy") -> list[Scores]:
    """Return the test accuracies, or another metric of the test split, the judged mode first."""
    found = []
    for (task, method), mine in in_order(results, results.confirmed(), lambda entry: entry):
        by_mode: dict[str, dict[int, float]] = {}
        for entry in mine:
            for mode, value in results.outcomes[entry.run_id].test.get(metric, {}).items():
                by_mode.setdefault(mode, {})[entry.number] = value
        judged = judged_mode(mine[0])
        for mode in sorted(by_mode, key=lambda mode: (mode != judged, mode)):
            found.append(Scores(task, method, mode, mode == judged, by_mode[mode]))
    return found


def times(results: Results) -> list[Times]:
    """Return the seconds of training per epoch."""
    curves = results.curves("seconds.train", layer="")
    groups = list(in_order(results, curves, lambda curve: curve.entry))
    seconds = {cell: {c.entry.number: _epochs(c) for c in _alone(mine)} for cell, mine in groups}
    medians = {
        cell: {seed: float(np.median(values)) for seed, values in runs.items() if len(values)}
        for cell, runs in seconds.items()
    }
    return [
        Times(
            task,
            method,
            np.concatenate([np.zeros(0), *seconds[task, method].values()]),
            medians[task, method],
            ratios(medians[task, method], medians.get((task, results.study.reference), {})),
            len(mine) - len(_alone(mine)),
        )
        for (task, method), mine in groups
    ]


def differences(mine: Scores, theirs: Scores) -> Spread | None:
    """Return the spread of the differences for the seeds that both have, in points of percent."""
    common = [seed for seed in mine.by_seed if seed in theirs.by_seed]
    return Spread.of([mine.by_seed[seed] - theirs.by_seed[seed] for seed in common])


def in_order(
    results: Results, things: Iterable[T], entry: Callable[[T], Entry]
) -> list[tuple[Cell, list[T]]]:
    """Return things by (task, method) in the order of the study, each by seed."""
    groups: dict[Cell, list[T]] = {}
    for thing in sorted(things, key=lambda thing: entry(thing).number):
        groups.setdefault((entry(thing).task, entry(thing).method), []).append(thing)
    study = results.study
    order = [(task.name, method.name) for task in study.tasks for method in study.methods]
    return [(cell, groups[cell]) for cell in order if cell in groups]


def noted_tasks(notes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each note with the tasks that have it.

    >>> noted_tasks({"a": "synthetic data", "b": "synthetic data"})
    [('a, b', 'synthetic data')]
    """
    by_note: dict[str, list[str]] = {}
    for task, note in notes.items():
        by_note.setdefault(note, []).append(task)
    return [(", ".join(tasks), note) for note, tasks in by_note.items()]


def accuracy_name(results: Results, found: Iterable[Any]) -> str:
    """Return what people call the accuracy of the tasks of things."""
    return accuracy_of(results.kind(task) for task in tasks_of(found))


def tasks_of(found: Iterable[Any]) -> list[str]:
    """Return the tasks of things, in order, each once."""
    return list(dict.fromkeys(thing.task for thing in found))


def _alone(curves: list[Curve]) -> list[Curve]:
    return [curve for curve in curves if not curve.entry.shared]


def _epochs(curve: Curve) -> Array:
    """The values of the epochs themselves; after the last comes the judging."""
    return curve.values[curve.epochs <= curve.entry.run.epochs]

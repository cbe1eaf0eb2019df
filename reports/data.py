"""The report's data: what the page's controls compute with, and what ``report.json`` begins with.

    cells    a method on a task: how many runs were asked for and ended, and the seeds of those done
    scores   a metric of a cell's selected networks, a value for each of its seeds
    curves   a metric of a cell over the epochs, a line for each of its seeds
    clocks   the seconds of training until the end of each epoch, a line for each seed that had the
             machine to itself
    deployments  what packed networks are and cost

All refers to tasks, methods, modes, metrics and lists of epochs by their places. Scores are exact,
curves have five digits. docs/report.md describes every key.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench import __version__
from bnnbench.buckets import TRAIN, WARMUP
from bnnbench.metrics import OTHERS, accuracy_of
from bnnbench.results import Curve, points
from bnnbench.store import CONFIRM, DIVERGED, FAILED
from bnnbench_reports import thinning
from bnnbench_reports.colours import looks
from bnnbench_reports.deployed import deployed
from bnnbench_reports.readings import Array, Bundle, aligned, in_order, judged_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bnnbench.deployments import Timed
    from bnnbench.outcomes import Outcome
    from bnnbench.results import Results
    from bnnbench.store import Entry

FORMAT = "bnnbench-report-1"
MAIN, REST = 240_000, 60_000  #: values of the curves that figures show, and of all others
SHARE = "share of weights"
DIGITS = 5  #: of the values of curves
SUMMARIES: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda values: values.mean(axis=0),
    "median": lambda values: np.median(values, axis=0),
    "quartile 1": lambda values: np.percentile(values, 25, axis=0),
    "quartile 3": lambda values: np.percentile(values, 75, axis=0),
    "min": lambda values: values.min(axis=0),
    "max": lambda values: values.max(axis=0),
}  #: what is left of the seeds of too many curves


class Metric(NamedTuple):
    """What is measured: its name, its unit, and which way is better (1 more, -1 less, 0 neither).

    ``modal``: it is measured in each inference mode; ``log``: its axis is logarithmic.
    """

    name: str
    label: str
    unit: str
    better: int
    modal: bool
    log: bool = False


class Curved(NamedTuple):
    """A metric over the epochs, where it is found, and the figure that shows it on paper.

    What is stored is multiplied by ``scale``.
    """

    metric: Metric
    source: str
    split: str
    figure: str = ""
    scale: float = 1.0


def collected(results: Results) -> dict[str, Any]:
    """Return the data of a study, of plain values only; the same database gives the same."""
    modes = _modes(results)
    curved = curves_of(results)
    written = _Written(results, modes)
    curves = written.curves(curved, [list(_bundles(results, each)) for each in curved])
    return {
        "format": FORMAT,
        "version": __version__,
        "study": _study(results),
        "tasks": [
            {
                "name": t.name,
                "kind": results.kind(t.name),
                "note": results.notes.get(t.name, ""),
                "scale": results.scale(t.name),
            }
            for t in results.study.tasks
        ],
        "methods": [{"name": n, **look._asdict()} for n, look in _looks(results).items()],
        "modes": modes,
        "metrics": [metric._asdict() for metric in _metrics(results)],
        "cells": _cells(results, modes),
        "scores": list(_scores(results, modes)),
        "curve_metrics": [each.metric._asdict() | {"figure": each.figure} for each in curved],
        "curves": curves,
        "clocks": written.clocks(list(_clocks(results))),
        "epochs": written.epochs,
        "deployments": list(_deployments(results)),
    }


def as_text(known: Mapping[str, Any]) -> str:
    """Return the data as compact JSON; numbers that are not finite are null in it already."""
    return json.dumps(known, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def curves_of(results: Results) -> list[Curved]:
    """Return the metrics that the page draws over the epochs."""
    accuracy = accuracy_of(results.kind(task.name) for task in results.study.tasks)
    return [
        Curved(
            Metric("validation_accuracy", f"validation {accuracy}", "%", 1, modal=True),
            "accuracy",
            "validation",
            "accuracy",
        ),
        Curved(
            Metric("training_loss", "training loss", "", -1, modal=False, log=True),
            "loss",
            "train",
            "loss",
        ),
        Curved(
            Metric("validation_loss", "validation loss", "", -1, modal=True, log=True),
            "loss",
            "validation",
        ),
        Curved(
            Metric("flip_step", "flip rate per step", SHARE, 0, modal=False, log=True),
            "flip_step",
            "",
            "flips",
        ),
        Curved(
            Metric("flip_epoch", "weights that an epoch changed", "%", 0, modal=False, log=True),
            "flip_epoch",
            "",
            scale=100,
        ),
        Curved(
            Metric("flip_init", "weights changed since the start", "%", 0, modal=False),
            "flip_init",
            "",
            scale=100,
        ),
    ]


def _study(results: Results) -> dict[str, Any]:
    study = results.study
    return {
        "name": results.name,
        "title": study.title or results.name,
        "source": study.source,
        "reference": study.reference,
    }


def _looks(results: Results) -> dict[str, Any]:
    found = looks(results.study)
    return {method.name: found[method.name] for method in results.study.methods}


def _metrics(results: Results) -> list[Metric]:
    """The metrics that cells have scores of."""
    accuracy = accuracy_of(results.kind(task.name) for task in results.study.tasks)
    measured = {metric for outcome in results.outcomes.values() for metric in outcome.test}
    return [
        Metric("test_accuracy", f"test {accuracy}", "%", 1, modal=True),
        *(Metric(f"test_{m}", f"test {OTHERS[m]}", "%", 1, True) for m in OTHERS if m in measured),
        *([Metric("test_loss", "test loss", "", -1, modal=True)] if "loss" in measured else []),
        Metric("validation_accuracy", f"validation {accuracy}", "%", 1, modal=True),
        Metric("flip_step", "flip rate per step", SHARE, 0, modal=False),
        Metric("seconds_per_epoch", "training time per epoch", "s", -1, modal=False),
    ]


def _modes(results: Results) -> list[str]:
    """The names of all modes in which anything was judged."""
    found = {judged_mode(entry) for entry in results.confirmed()}
    for entry in results.confirmed():
        outcome = results.outcomes[entry.run_id]
        found.update(outcome.selected, *outcome.test.values())
    return sorted(found)


def _cells(results: Results, modes: Sequence[str]) -> list[dict[str, Any]]:
    tasks = [task.name for task in results.study.tasks]
    methods = [method.name for method in results.study.methods]
    return [
        {
            "task": tasks.index(task),
            "method": methods.index(method),
            "asked": asked,
            **_ends(results, task, method, modes),
        }
        for (task, method), asked in results.asked.items()
    ]


def _ends(results: Results, task: str, method: str, modes: Sequence[str]) -> dict[str, Any]:
    """How the confirming runs of a cell ended, and what the finished ones have in common."""
    mine = sorted(results.confirmed(task, method), key=lambda entry: entry.number)
    ends = Counter(e.state for e in results.cell(task, method) if e.role == CONFIRM)
    return {
        "failed": ends[FAILED],
        "diverged": ends[DIVERGED],
        "judged": modes.index(judged_mode(mine[0])) if mine else None,
        "steps": _steps(mine[0]) if mine else None,
        "seeds": [entry.number for entry in mine],
    }


def _steps(entry: Entry) -> int | None:
    """The steps of an epoch; None where it is not known of how many examples it is."""
    return entry.facts.get("examples", {}).get("train", 0) // entry.run.batch_size or None


def _done(results: Results) -> list[tuple[int, list[Entry]]]:
    """The finished confirming runs of each cell, with the cell's place."""
    places = _places(results)
    found = in_order(results, results.confirmed(), lambda entry: entry)
    return [(places[cell], mine) for cell, mine in found]


def _places(results: Results) -> dict[tuple[str, str], int]:
    return {cell: place for place, cell in enumerate(results.asked)}


def _scores(results: Results, modes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the scores of every cell that has any, by metric and mode."""
    for place, mine in _done(results):
        outcomes = [(entry, results.outcomes[entry.run_id]) for entry in mine]
        for number, metric in enumerate(_metrics(results)):
            found = [_score(metric.name, *pair) for pair in outcomes]
            for mode in sorted({mode for each in found for mode in each}):
                values = [_finite(each.get(mode)) for each in found]
                known = modes.index(mode) if metric.modal else None
                yield {"metric": number, "cell": place, "mode": known, "values": values}


def _score(metric: str, entry: Entry, outcome: Outcome) -> Mapping[str, float]:
    """A run's values of a metric by mode; of a metric without modes, that of no mode."""
    if metric == "validation_accuracy":
        return outcome.selected
    if metric == "flip_step":
        return {} if outcome.flips is None else {"": outcome.flips}
    if metric == "seconds_per_epoch":
        known = outcome.seconds is not None and not entry.shared
        return {"": outcome.seconds} if known and outcome.seconds is not None else {}
    return outcome.test.get(metric.removeprefix("test_"), {})


def _deployments(results: Results) -> Iterator[dict[str, Any]]:
    """Yield what each packed network is and costs; of its environment the report has more."""
    cells = {cell: place for place, cell in enumerate(results.asked)}
    for entry, found in deployed(results):
        plain = asdict(found)
        del plain["environment"]
        layers = [asdict(layer) | {"timings": _plain(layer)} for layer in found.layers]
        place = {"cell": cells[entry.task, entry.method], "seed": entry.number}
        yield place | plain | {"timings": _plain(found), "layers": layers}


def _plain(found: Timed) -> list[dict[str, Any]]:
    """The times of what was timed."""
    return [timing._asdict() for timing in found.timings]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _bundles(results: Results, curved: Curved) -> Iterator[Bundle]:
    """Yield the curves of a metric put together by task, method and mode."""
    by_mode: dict[str, list[Curve]] = {}
    for curve in results.curves(curved.source, split=curved.split, layer=""):
        by_mode.setdefault(curve.mode, []).append(curve)
    for mode in sorted(by_mode) if curved.metric.modal else [""]:
        for bundle in _bundled(results, by_mode.get(mode, [])):
            yield bundle._replace(values=curved.scale * bundle.values)


def _bundled(results: Results, curves: Iterable[Curve]) -> Iterator[Bundle]:
    for (task, method), mine in in_order(results, curves, lambda curve: curve.entry):
        epochs, values = aligned(mine)
        if len(epochs):
            seeds = tuple(curve.entry.number for curve in mine)
            yield Bundle(task, method, mine[0].mode, seeds, epochs, values)


def _clocks(results: Results) -> Iterator[Bundle]:
    """Yield the seconds of training up to each epoch, of runs that had the machine alone."""
    found: dict[int, dict[int, float]] = {}
    for series in results.series([f"seconds.{bucket}" for bucket in (WARMUP, TRAIN)], layer=""):
        epochs, values = points(series)
        known = found.setdefault(series.run_id, {})
        known.update(zip(epochs.tolist(), values.tolist(), strict=True))
    curves = [_clock(entry, found.get(entry.run_id, {})) for entry in results.confirmed()]
    yield from _bundled(results, [c for c in curves if len(c.epochs) and not c.entry.shared])


def _clock(entry: Entry, seconds: Mapping[int, float]) -> Curve:
    epochs = np.array(sorted(e for e in seconds if e <= entry.run.epochs), dtype=int)
    return Curve(entry, "", "", "", epochs, np.cumsum([seconds[e] for e in epochs.tolist()]))


class _Written:
    """Curves as they are written, and the lists of epochs that they share."""

    def __init__(self, results: Results, modes: Sequence[str]) -> None:
        self.places, self.modes = _places(results), modes
        self.judged = {(e.task, e.method): judged_mode(e) for e in results.confirmed()}
        self.many = len(results.confirmed()) > thinning.CURVES
        self.epochs: list[list[int]] = []

    def curves(
        self, curved: Sequence[Curved], bundles: Sequence[Sequence[Bundle]]
    ) -> list[dict[str, Any]]:
        """All curves; ``mode`` is null for a metric without modes."""
        found = [(place, each) for place, mine in enumerate(bundles) for each in mine]
        main = [bool(curved[place].figure) and self._is_judged(each) for place, each in found]
        shown = [bundle for (_, bundle), m in zip(found, main, strict=True) if m]
        rest = [bundle for (_, bundle), m in zip(found, main, strict=True) if not m]
        steps = self._step(shown, MAIN), self._step(rest, REST)
        return [
            {
                "metric": place,
                "mode": self.modes.index(bundle.mode) if bundle.mode else None,
                **self._lines(bundle, steps[0] if m else steps[1]),
            }
            for (place, bundle), m in zip(found, main, strict=True)
        ]

    def clocks(self, bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
        """All clocks."""
        step = self._step(bundles, MAIN)
        return [self._lines(bundle, step) for bundle in bundles]

    def _is_judged(self, bundle: Bundle) -> bool:
        return bundle.mode in ("", self.judged[bundle.task, bundle.method])

    def _step(self, bundles: Sequence[Bundle], most: int) -> int:
        """One in how many epochs is kept, so that there are at most so many values."""
        total = sum(self._count(bundle) * len(bundle.epochs) for bundle in bundles)
        return max(1, math.ceil(total / most))

    def _count(self, bundle: Bundle) -> int:
        return len(SUMMARIES) if self.many else len(bundle.seeds)

    def _lines(self, bundle: Bundle, step: int) -> dict[str, Any]:
        kept = thinning.every(bundle.epochs, step)
        values = bundle.values[:, kept]
        names = list(SUMMARIES) if self.many else list(bundle.seeds)
        lines = [of(values) for of in SUMMARIES.values()] if self.many else list(values)
        return {
            "cell": self.places[bundle.task, bundle.method],
            "epochs": self._place(bundle.epochs[kept].tolist()),
            "step": step,
            "n": len(bundle.seeds),
            "lines": names,
            "values": [_rounded(line) for line in lines],
        }

    def _place(self, epochs: list[int]) -> int:
        if epochs not in self.epochs:
            self.epochs.append(epochs)
        return self.epochs.index(epochs)


def _rounded(values: Array) -> list[float | None]:
    """The values with so many digits; one that is not finite is missing."""
    told = (float(f"{value:.{DIGITS}g}") for value in values.tolist())
    return [_whole(value) if math.isfinite(value) else None for value in told]


def _whole(value: float) -> float:
    """A whole number without its ".0"."""
    return int(value) if value.is_integer() and abs(value) < 10**DIGITS else value

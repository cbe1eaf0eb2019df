"""A study's results, read in bulk: curves for figures, and the table that answers the question.

Knows no torch and no plot, so a laptop that only holds the database can read them.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.graph import START_FROM, TEACHER, bases
from bnnbench.metrics import OTHERS
from bnnbench.store import BASE, CONFIRM, DONE, TUNE, Entry, Store

if TYPE_CHECKING:
    from bnnbench.interfaces import Task as Kind
    from bnnbench.runs import Run
    from bnnbench.studies import MethodSpec, Published, Study


class Curve(NamedTuple):
    """One metric of one run over its epochs."""

    entry: Entry
    split: str
    mode: str
    layer: str
    epochs: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]


class Spread(NamedTuple):
    """Mean and sample standard deviation of n values; the deviation of one value is unknown."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread of some values, None of no values.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, sd=1.4142135623730951, n=2)
        """
        if not values:
            return None
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), sd, len(values))

    def format(self, digits: int = 2) -> str:
        """Return "mean ± sd", or the value alone where n is 1."""
        sd = f" ± {self.sd:.{digits}f}" if self.sd is not None else ""
        return f"{self.mean:.{digits}f}{sd}"


@dataclass(frozen=True)
class Row:
    """One line of the table of results: a method on a task, judged in one inference mode.

    Accuracies are in percent; ``flips`` is the mean of ``flip_step`` over epochs and runs;
    ``seconds`` the median over epochs (without warm-up) and runs; ``ratio`` the spread over seeds
    of the run's median to the reference's median with the same seed. ``judged`` marks the mode that
    the method's authors judge with. ``kind`` says what the accuracy is one of, ``others`` are the
    other metrics of the test split, by name, and ``note`` what sets the data apart. ``builds_on``
    says what a method starts from or learns from; ``epochs_before`` are those of the runs that it
    starts from.
    """

    task: str
    method: str
    mode: str
    judged: bool
    weight_bits: str
    activation_bits: str
    test: Spread | None
    validation: Spread | None
    flips: Spread | None
    seconds: float | None
    ratio: Spread | None
    timed: int
    hyperparameters: Mapping[str, Any]
    tuned: Sequence[str]
    asked: int
    done: int
    ended_badly: Mapping[str, int]
    trials: Mapping[str, int]
    kind: Kind = "classification"
    note: str = ""
    others: Mapping[str, Spread] = field(default_factory=dict)
    published: Sequence[Published] = field(default=())
    builds_on: Sequence[str] = field(default=())
    epochs_before: int = 0


class Base(NamedTuple):
    """A run that others start from or learn from: ``used_by`` says which and as what.

    ``validation`` is its accuracy in percent, at the selected epoch in the judged mode; a run of
    this kind never looks at the test split.
    """

    entry: Entry
    validation: float | None
    used_by: Sequence[str]


class Results:
    """The runs of a study and what was measured in them."""

    def __init__(self, store: Store, name: str) -> None:
        self.name, self._store = name, store
        self.study: Study = store.study(name)
        self.command, self.version = store.command(name), store.version(name)

    @cached_property
    def entries(self) -> list[Entry]:
        """All runs, tuning and confirming."""
        return self._store.entries(self.name)

    @cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Where the runs were trained, by key."""
        return self._store.environments(self.name)

    def kind(self, task: str) -> Kind:
        """Return what a task is, by its data."""
        return self._kinds.get(task, "classification")

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {e.task: e.facts["task"] for e in self.entries if "task" in e.facts}

    @cached_property
    def notes(self) -> dict[str, str]:
        """What sets the data of a task apart from published ones, for the tasks that have it."""
        found: dict[str, dict[str, None]] = {}
        for entry in self.entries:
            synthetic = "synthetic data" if entry.facts.get("synthetic") else ""
            for said in filter(None, (synthetic, entry.facts.get("remark"))):
                found.setdefault(entry.task, {})[said] = None
        return {task: ", ".join(said) for task, said in found.items()}

    def confirmed(self, task: str = "", method: str = "") -> list[Entry]:
        """Return the finished confirming runs, of one task and method or of all."""
        return [
            e
            for e in self.entries
            if (e.role, e.state) == (CONFIRM, DONE)
            and task in ("", e.task)
            and method in ("", e.method)
        ]

    def curves(self, metric: str, role: str = CONFIRM, **place: Any) -> list[Curve]:
        """Return a metric of all finished runs over the epochs; ``place``: split, mode, layer."""
        rows = self._store.measured(self.name, [metric], **place)
        grouped: dict[tuple[Any, ...], list[Any]] = {}
        for row in rows:
            grouped.setdefault((row.run_id, row.split, row.mode, row.layer), []).append(row)
        by_run: dict[int, list[tuple[Any, ...]]] = {}
        for (run_id, *where), group in grouped.items():
            epochs = np.array([row.epoch for row in group])
            values = np.array([row.value for row in group], dtype=float)
            by_run.setdefault(run_id, []).append((*where, epochs, values))
        return [
            Curve(entry, *curve)
            for entry in self.entries
            if (entry.role, entry.state) == (role, DONE)
            for curve in by_run.get(entry.run_id, [])
        ]

    def bases(self) -> list[Base]:
        """Return the runs that others build on, in the order in which they were made."""
        values = {
            (curve.entry.run_id, curve.mode): dict(zip(curve.epochs, curve.values, strict=True))
            for curve in self.curves("accuracy", role=BASE, split="validation", layer="")
        }
        selected = {c.entry.run_id: c.values[0] for c in self.curves("selected_epoch", role=BASE)}
        return [
            Base(
                entry,
                values.get((entry.run_id, entry.facts.get("judged", "")), {}).get(
                    selected.get(entry.run_id)
                ),
                self._used_by(entry),
            )
            for entry in self.entries
            if entry.role == BASE
        ]

    def _used_by(self, base: Entry) -> list[str]:
        own = base.run.key
        used = {
            key: dict.fromkeys(e.method for e in self.entries if getattr(e.run, key) == own)
            for key in (START_FROM, TEACHER)
        }
        return [f"{key} of {', '.join(methods)}" for key, methods in used.items() if methods]

    def rows(self) -> list[Row]:
        """Return the table of results: for each task and method, a line for each inference mode."""
        facts = _Facts(self)
        return [
            row
            for task in self.study.tasks
            for method in self.study.methods
            for row in facts.rows(task.name, method.name)
        ]


class _Facts:
    """All measurements that the table needs, read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.runs = {entry.run.key: entry.run for entry in results.entries}
        self.values: dict[int, dict[tuple[str, str, str], list[tuple[int, float]]]] = {}
        metrics = ["accuracy", "flip_step", "seconds.train", "weight_bits", "activation_bits"]
        metrics += ["selected_epoch", *OTHERS]
        for row in results._store.measured(results.name, metrics, layer=""):
            run = self.values.setdefault(row.run_id, {})
            run.setdefault((row.metric, row.split, row.mode), []).append((row.epoch, row.value))

    def rows(self, task: str, method: str) -> list[Row]:
        mine = [e for e in self.results.entries if (e.task, e.method) == (task, method)]
        asked = [e for e in mine if e.role == CONFIRM]
        done = [e for e in asked if e.state == DONE]
        judged = done[0].facts.get("judged", "") if done else ""
        modes = {mode for e in done for (_, split, mode) in self._of(e) if split == "test"} or {""}
        return [
            self._row(task, method, mode, mode == judged, mine, asked, done)
            for mode in sorted(modes, key=lambda mode: (mode != judged, mode))
        ]

    def _row(
        self,
        task: str,
        method: str,
        mode: str,
        judged: bool,
        mine: list[Entry],
        asked: list[Entry],
        done: list[Entry],
    ) -> Row:
        study = self.results.study
        spec = study.method(method)
        chosen = dict(done[0].run.method.hyperparameters) if done else {}
        timed = [e for e in done if not e.shared]
        states = [e.state for e in asked]
        return Row(
            task=task,
            method=method,
            mode=mode,
            judged=judged,
            weight_bits=_told(int(v) for e in done for v in self._at(e, "weight_bits", "", mode)),
            activation_bits=_told(int(v) for e in done for v in self._at(e, "activation_bits")),
            test=Spread.of([v for e in done for v in self._at(e, "accuracy", "test", mode)]),
            validation=Spread.of([v for e in done for v in self._selected(e, mode)]),
            flips=Spread.of([statistics.fmean(v) for e in done if (v := self._at(e, "flip_step"))]),
            seconds=_median([s for e in timed if (s := self._seconds(e)) is not None]),
            ratio=self._ratio(task, timed),
            timed=len(timed),
            hyperparameters=chosen,
            tuned=_tuned(chosen, spec, [e for e in mine if e.role == TUNE]),
            asked=max(len(asked), study.protocol.seeds),
            done=len(done),
            ended_badly={s: states.count(s) for s in ("failed", "diverged") if s in states},
            trials=_counts([e.state for e in mine if e.role == TUNE]),
            kind=self.results.kind(task),
            note=self.results.notes.get(task, ""),
            others=self._others(done, mode),
            builds_on=tuple(
                f"{key} = {name}" for key, name in bases(spec, study.task(task)).items()
            ),
            epochs_before=max((self._epochs_before(e.run) for e in asked), default=0),
            published=_published(study, task, method, mode),
        )

    def _others(self, done: list[Entry], mode: str) -> dict[str, Spread]:
        """The metrics of the test split beside accuracy."""
        found = {m: [v for e in done for v in self._at(e, m, "test", mode)] for m in OTHERS}
        return {metric: spread for metric, values in found.items() if (spread := Spread.of(values))}

    def _epochs_before(self, run: Run) -> int:
        """The epochs of all the runs that a run starts from."""
        start = self.runs.get(run.start_from)
        return start.epochs + self._epochs_before(start) if start else 0

    def _ratio(self, task: str, timed: list[Entry]) -> Spread | None:
        reference = self.results.study.reference
        theirs = [e for e in self.results.confirmed(task, reference) if not e.shared]
        if not reference:
            return None
        return Spread.of(list(ratios(self._medians(timed), self._medians(theirs)).values()))

    def _medians(self, entries: list[Entry]) -> dict[int, float]:
        """The seconds of an epoch by seed."""
        found = {e.number: self._seconds(e) for e in entries}
        return {seed: seconds for seed, seconds in found.items() if seconds is not None}

    def _seconds(self, entry: Entry) -> float | None:
        return _median(self._at(entry, "seconds.train"))

    def _selected(self, entry: Entry, mode: str) -> list[float]:
        epochs = self._at(entry, "selected_epoch")
        series = self._of(entry).get(("accuracy", "validation", mode), [])
        return [value for epoch, value in series if epochs and epoch == int(epochs[0])]

    def _at(self, entry: Entry, metric: str, split: str = "", mode: str = "") -> list[float]:
        return [value for _, value in self._of(entry).get((metric, split, mode), [])]

    def _of(self, entry: Entry) -> dict[tuple[str, str, str], list[tuple[int, float]]]:
        return self.values.get(entry.run_id, {})


def ratios(mine: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """Return the ratios of two methods' values for the seeds that both have.

    >>> ratios({1: 3.0, 2: 5.0}, {1: 2.0})
    {1: 1.5}
    """
    return {seed: value / theirs[seed] for seed, value in mine.items() if theirs.get(seed)}


def _published(study: Study, task: str, method: str, mode: str) -> list[Published]:
    """The published values that stand beside a line of the table."""
    return [
        p
        for p in study.published
        if p.method == method and p.task in ("", task) and p.mode in ("", mode)
    ]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _tuned(chosen: Mapping[str, Any], spec: MethodSpec, trials: Sequence[Entry]) -> list[str]:
    """The hyperparameters that the trials searched: those named, else those that they varied."""
    if not trials:
        return []
    if spec.search is not None:
        return sorted(set(spec.search) & set(chosen))
    tried = [trial.run.method.hyperparameters for trial in trials]
    return sorted(name for name in chosen if len({repr(t.get(name)) for t in tried}) > 1)


def _told(values: Iterable[int]) -> str:
    """The different values: "1", or "1-32" where the runs are not alike."""
    return "-".join(map(str, sorted(set(values)))) or "?"


def _counts(states: Sequence[str]) -> dict[str, int]:
    return {state: len(list(group)) for state, group in itertools.groupby(sorted(states))}

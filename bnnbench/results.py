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

from bnnbench.catalogue import FORMER
from bnnbench.graph import START_FROM, TEACHER, bases
from bnnbench.metrics import OTHERS
from bnnbench.store import BASE, CONFIRM, DONE, TUNE, Entry, Store

if TYPE_CHECKING:
    from bnnbench.interfaces import Task as Kind
    from bnnbench.outcomes import Outcome
    from bnnbench.runs import Run
    from bnnbench.series import Series
    from bnnbench.studies import MethodSpec, Published, Study


#: how numpy reads the points of a series
POINT = np.dtype([("epoch", "<i4"), ("phase", "<i4"), ("value", "<f8")])


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


def points(series: Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the epochs and the values of a series.

    >>> from bnnbench.series import Measured, bound
    >>> points(bound([Measured(1, "loss", "train", "", "", 2, 0, 0.5)])[0])
    (array([2]), array([0.5]))
    """
    found = np.frombuffer(series.points, POINT)
    return found["epoch"].astype(np.int64), found["value"].astype(np.float64)


class Results:
    """The runs of a study and what was measured in them."""

    def __init__(self, store: Store, name: str) -> None:
        self.name, self._store = name, store
        self.study: Study = store.study(name)
        self.command, self.version = store.command(name), store.version(name)

    @property
    def parts(self) -> Sequence[Results]:
        """The results of each study by itself: here of the only one."""
        return [self]

    @cached_property
    def asked(self) -> Mapping[tuple[str, str], int]:
        """How many confirming runs are asked for, by task and method, in the order of the study."""
        study = self.study
        cells = itertools.product(study.tasks, study.methods)
        return {(task.name, method.name): study.protocol.seeds for task, method in cells}

    def scale(self, task: str) -> float:
        """Return what share of the published training a task's runs have."""
        return self.study.scale

    @cached_property
    def events(self) -> list[tuple[float, str, str]]:
        """What happened, oldest first: seconds since 1970, kind and text."""
        return self._store.events(self.name)

    @cached_property
    def entries(self) -> list[Entry]:
        """All runs, tuning and confirming."""
        return self._store.entries(self.name)

    @cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Where the runs were trained, by key."""
        return self._store.environments(self.name)

    @cached_property
    def outcomes(self) -> dict[int, Outcome]:
        """What the finished runs came to, by the runs' numbers."""
        return self._store.outcomes(self.name, DONE)

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
        for task in self._mixed:
            found.setdefault(task, {})["runs on different images"] = None
        return {task: ", ".join(said) for task, said in found.items()}

    @property
    def _mixed(self) -> list[str]:
        """The tasks whose finished runs saw different splits: files came, went or changed."""
        seen: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.role.startswith(FORMER):
                continue
            if entry.state == DONE and "splits" in entry.facts:
                splits = sorted(entry.facts["splits"].items())
                seen.setdefault(entry.task, set()).add(repr(splits))
        return [task for task, splits in seen.items() if len(splits) > 1]

    def confirmed(self, task: str = "", method: str = "") -> list[Entry]:
        """Return the finished confirming runs, of one task and method or of all."""
        among = self.cell(task, method) if task and method else self.entries
        return [
            e
            for e in among
            if (e.role, e.state) == (CONFIRM, DONE)
            and task in ("", e.task)
            and method in ("", e.method)
        ]

    def cell(self, task: str, method: str) -> list[Entry]:
        """Return all runs of a task and method."""
        return self._cells.get((task, method), [])

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Entry]]:
        cells: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            cells.setdefault((entry.task, entry.method), []).append(entry)
        return cells

    def curves(self, metric: str, role: str = CONFIRM, **place: Any) -> list[Curve]:
        """Return a metric of all finished runs over the epochs; ``place``: split, mode, layer."""
        by_run: dict[int, list[Series]] = {}
        for series in self.series([metric], role, **place):
            by_run.setdefault(series.run_id, []).append(series)
        return [
            Curve(entry, series.split, series.mode, series.layer, *points(series))
            for entry in self.entries
            if (entry.role, entry.state) == (role, DONE)
            for series in by_run.get(entry.run_id, [])
        ]

    def series(self, metrics: Iterable[str], role: str = CONFIRM, **place: Any) -> list[Series]:
        """Return some metrics of all finished runs as they are stored."""
        return self._store.series(self.name, metrics, role=role, state=DONE, **place)

    def bases(self) -> list[Base]:
        """Return the runs that others build on, in the order in which they were made."""
        return [
            Base(entry, self._selected(entry), self._used_by(entry))
            for entry in self.entries
            if entry.role == BASE
        ]

    def _selected(self, entry: Entry) -> float | None:
        """The accuracy on validation of a finished run, in its judged mode."""
        found = self.outcomes.get(entry.run_id)
        return found.selected.get(entry.facts.get("judged", "")) if found else None

    def _used_by(self, base: Entry) -> list[str]:
        used = {key: self._users.get((key, base.run.key)) for key in (START_FROM, TEACHER)}
        return [f"{key} of {', '.join(methods)}" for key, methods in used.items() if methods]

    @cached_property
    def _users(self) -> dict[tuple[str, str], dict[str, None]]:
        """The methods whose runs start from or learn from a run, by how and by its key."""
        users: dict[tuple[str, str], dict[str, None]] = {}
        for entry in self.entries:
            for key in (START_FROM, TEACHER):
                users.setdefault((key, getattr(entry.run, key)), {})[entry.method] = None
        return users

    def rows(self) -> list[Row]:
        """Return the table of results: for each task and method, a line for each inference mode."""
        facts = _Facts(self)
        return [row for task, method in self.asked for row in facts.rows(task, method)]


class _Facts:
    """All that the table needs, read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.bases = {e.run.key: e.run for e in results.entries if e.role == BASE}

    def rows(self, task: str, method: str) -> list[Row]:
        mine = self.results.cell(task, method)
        asked = [e for e in mine if e.role == CONFIRM]
        done = [e for e in asked if e.state == DONE]
        judged = done[0].facts.get("judged", "") if done else ""
        found = self._of(done)
        tested = {mode for o in found for modes in o.test.values() for mode in modes}
        common = self._common(task, method, mine, asked, done)
        return [
            Row(
                **common,
                mode=mode,
                judged=mode == judged,
                weight_bits=_told(_numbers((o.bits.get("weight_bits") for o in found), mode)),
                test=Spread.of(_numbers((o.test.get("accuracy") for o in found), mode)),
                validation=Spread.of(_numbers((o.selected for o in found), mode)),
                others=_others(found, mode),
                published=_published(self.results.study, task, method, mode),
            )
            for mode in sorted(tested or {""}, key=lambda mode: (mode != judged, mode))
        ]

    def _common(
        self, task: str, method: str, mine: list[Entry], asked: list[Entry], done: list[Entry]
    ) -> dict[str, Any]:
        """What the lines of a method have in common, whatever their mode."""
        study = self.results.study
        spec = study.method(method)
        chosen = dict(done[0].run.method.hyperparameters) if done else {}
        found, timed = self._of(done), [e for e in done if not e.shared]
        tuned, states = [e for e in mine if e.role == TUNE], [e.state for e in asked]
        return {
            "task": task,
            "method": method,
            "activation_bits": _told(_numbers((o.bits.get("activation_bits") for o in found), "")),
            "flips": Spread.of([o.flips for o in found if o.flips is not None]),
            "seconds": _median([o.seconds for o in self._of(timed) if o.seconds is not None]),
            "ratio": self._ratio(task, timed),
            "timed": len(timed),
            "hyperparameters": chosen,
            "tuned": _tuned(chosen, spec, tuned),
            "asked": max(len(asked), self.results.asked[task, method]),
            "done": len(done),
            "ended_badly": {s: states.count(s) for s in ("failed", "diverged") if s in states},
            "trials": _counts([e.state for e in tuned]),
            "kind": self.results.kind(task),
            "note": self.results.notes.get(task, ""),
            "builds_on": tuple(
                f"{key} = {name}" for key, name in bases(spec, study.task(task)).items()
            ),
            "epochs_before": max((self._epochs_before(e.run) for e in asked), default=0),
        }

    def _epochs_before(self, run: Run) -> int:
        """The epochs of all the runs that a run starts from."""
        start = self.bases.get(run.start_from)
        return start.epochs + self._epochs_before(start) if start else 0

    def _ratio(self, task: str, timed: list[Entry]) -> Spread | None:
        reference = self.results.study.reference
        theirs = [e for e in self.results.confirmed(task, reference) if not e.shared]
        if not reference:
            return None
        return Spread.of(list(ratios(self._medians(timed), self._medians(theirs)).values()))

    def _medians(self, entries: list[Entry]) -> dict[int, float]:
        """The seconds of an epoch by seed."""
        found = zip(entries, self._of(entries), strict=True)
        return {e.number: o.seconds for e, o in found if o.seconds is not None}

    def _of(self, entries: list[Entry]) -> list[Outcome]:
        return [self.results.outcomes[e.run_id] for e in entries]


def _numbers(found: Iterable[Mapping[str, float] | None], mode: str) -> list[float]:
    """The numbers of a mode, of those runs that have one."""
    return [numbers[mode] for numbers in found if numbers and mode in numbers]


def _others(found: Sequence[Outcome], mode: str) -> dict[str, Spread]:
    """The metrics of the test split beside accuracy."""
    values = {metric: _numbers((o.test.get(metric) for o in found), mode) for metric in OTHERS}
    return {metric: spread for metric in OTHERS if (spread := Spread.of(values[metric]))}


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


def _told(values: Iterable[float]) -> str:
    """The different values: "1", or "1-32" where the runs are not alike."""
    return "-".join(str(int(value)) for value in sorted(set(values))) or "?"


def _counts(states: Sequence[str]) -> dict[str, int]:
    return {state: len(list(group)) for state, group in itertools.groupby(sorted(states))}

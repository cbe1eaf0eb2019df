"""The table that answers the question: for each task and method a row in each inference mode."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.graph import bases
from bnnbench.metrics import OTHERS
from bnnbench.store import BASE, CONFIRM, DONE, TUNE, Entry

if TYPE_CHECKING:
    from bnnbench.interfaces import Task as Kind
    from bnnbench.outcomes import Outcome
    from bnnbench.results import Results
    from bnnbench.runs import Run
    from bnnbench.studies import MethodSpec, Published, Study


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


class Table:
    """The table of results: what its rows have in common is read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.bases = {e.run.key: e.run for e in results.entries if e.role == BASE}

    def rows(self, task: str, method: str) -> list[Row]:
        """Return the lines of a method on a task, the judged inference mode first."""
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

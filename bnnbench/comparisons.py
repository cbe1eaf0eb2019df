"""What a study's results say: how sure a mean is, what differs, at what cost, what was published.

Accuracies are those of the test split in the mode in which a method is judged, in percent; pairs
are runs of the same seed. The comparisons with the reference, of all tasks together, are one
family. What is counted here is shown as it is: a run that failed or diverged is in no mean and in
every count, and a method of whose runs on a task half or more ended so ranks last there.

:mod:`bnnbench.statistics` has the figures' definitions and sources.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from bnnbench.arrivals import Way, ways
from bnnbench.entries import CONFIRM, DIVERGED, ENDED, FAILED, PRUNED, TUNE
from bnnbench.statistics.intervals import Interval, interval
from bnnbench.statistics.paired import Paired, compare
from bnnbench.statistics.profiles import profiles
from bnnbench.statistics.published import Gap, gap
from bnnbench.statistics.ranks import Ranking, Refusal, ranking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.rows import Row, Spread
    from bnnbench.studies import Published

BySeed = dict[int, float]


class Budget(NamedTuple):
    """What tuning a method on a task took: ``seconds`` are those of all its trials together.

    They are from a trial's start to its end, whatever its end was; evaluation is among them, and so
    is the pause of one that was broken off and taken up.
    """

    trials: int
    pruned: int
    failed: int
    diverged: int
    seconds: float


@dataclass(frozen=True)
class Cell:
    """A method on a task, judged in one mode, as far as its confirming runs have ended."""

    task: str
    method: str
    mode: str
    judged: bool
    test: Spread | None
    interval: Interval | None
    asked: int
    done: int
    failed: int
    diverged: int
    tuning: Budget


@dataclass(frozen=True)
class Difference:
    """A method's accuracy minus the reference's, in points; None without a common seed."""

    task: str
    method: str
    reference: str
    paired: Paired | None


@dataclass(frozen=True)
class Beside:
    """A measured mean beside a published value; no gap where nothing was measured."""

    task: str
    method: str
    published: Published
    measured: Spread | None
    gap: Gap | None


@dataclass(frozen=True)
class Across:
    """The methods over several tasks: mean ranks, or why there are none.

    ``letters`` say which methods do not differ: they have one in common.
    """

    methods: tuple[str, ...]
    ranking: Ranking | Refusal
    letters: tuple[str, ...]


@dataclass(frozen=True)
class Areas:
    """The methods' areas under the performance profiles of what it takes to reach the target."""

    methods: tuple[str, ...]
    areas: tuple[float, ...]
    unit: str


class Comparisons:
    """The figures of a study, each found when it is asked for; ``rows`` are the results' own."""

    def __init__(self, results: Results, rows: Sequence[Row] | None = None) -> None:
        self.results = results
        self.rows = results.rows() if rows is None else rows
        self.reference = results.study.reference

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        """The cells by task, method and mode, in the order of the table of results."""
        return {(row.task, row.method, row.mode): self._cell(row) for row in self.rows}

    def _cell(self, row: Row) -> Cell:
        entries = self.results.cell(row.task, row.method)
        ends = Counter(entry.state for entry in entries if entry.role == CONFIRM)
        return Cell(
            task=row.task,
            method=row.method,
            mode=row.mode,
            judged=row.judged,
            test=row.test,
            interval=_percent(self._scores(row.task, row.method, row.mode)),
            asked=row.asked,
            done=row.done,
            failed=ends[FAILED],
            diverged=ends[DIVERGED],
            tuning=self._budget(row.task, row.method),
        )

    def _budget(self, task: str, method: str) -> Budget:
        trials = [
            entry
            for entry in self.results.cell(task, method)
            if entry.role == TUNE and entry.state in ENDED
        ]
        ends = Counter(entry.state for entry in trials)
        took = (
            entry.finished_at - entry.started_at
            for entry in trials
            if entry.started_at is not None and entry.finished_at is not None
        )
        return Budget(len(trials), ends[PRUNED], ends[FAILED], ends[DIVERGED], sum(took))

    def _scores(self, task: str, method: str, mode: str) -> BySeed:
        """The test accuracies in a mode by seed."""
        outcomes = self.results.outcomes
        found = {
            entry.number: outcomes[entry.run_id].test.get("accuracy", {}).get(mode)
            for entry in self.results.confirmed(task, method)
        }
        return {seed: value for seed, value in found.items() if value is not None}

    @cached_property
    def judged(self) -> dict[tuple[str, str], BySeed]:
        """The test accuracies in the judged modes, by task and method, then by seed."""
        return {
            (row.task, row.method): self._scores(row.task, row.method, row.mode)
            for row in self.rows
            if row.judged
        }

    @cached_property
    def differences(self) -> list[Difference]:
        """The differences from the reference, in the order of the study; none without one."""
        found = {
            cell: _minus(mine, self.judged.get((cell[0], self.reference), {}))
            for cell, mine in self.judged.items()
            if cell[1] != self.reference and self.reference
        }
        pairs = {cell: each for cell, each in found.items() if each}
        compared = dict(zip(pairs, compare(list(pairs.values())), strict=True))
        return [Difference(*cell, self.reference, compared.get(cell)) for cell in found]

    @cached_property
    def published(self) -> list[Beside]:
        """What was published of the test accuracy, beside what was measured of it."""
        return [
            self._beside(row, published)
            for row in self.rows
            for published in row.published
            if published.metric == "test_accuracy" and (row.judged or published.mode)
        ]

    def _beside(self, row: Row, published: Published) -> Beside:
        scale, test = self.results.scale(row.task), row.test
        found = gap(test.mean, published.value, published.sigma, scale) if test else None
        return Beside(row.task, row.method, published, test, found)

    @cached_property
    def across(self) -> Across | None:
        """The methods over all tasks; None where there is one task."""
        study = self.results.study
        if len(study.tasks) < 2:
            return None
        methods = [method.name for method in study.methods]
        tasks = [task.name for task in study.tasks]
        found = ranking([[self._rank_by(task, method) for task in tasks] for method in methods])
        return Across(tuple(methods), found, _letters(found, len(methods)))

    def _rank_by(self, task: str, method: str) -> float:
        """The mean accuracy; -inf where half of the runs ended badly, NaN where none has ended."""
        ends = Counter(e.state for e in self.results.cell(task, method) if e.role == CONFIRM)
        bad = ends[FAILED] + ends[DIVERGED]
        if bad and 2 * bad >= self.results.asked[task, method]:
            return -math.inf
        scores = self.judged.get((task, method), {})
        return math.fsum(scores.values()) / len(scores) if scores else math.nan

    @cached_property
    def areas(self) -> Areas | None:
        """The areas of the profiles, in seconds where every method has some; reads curves.

        None where there is one task, or a method that has no way to the target of a task.
        """
        study = self.results.study
        methods, tasks = ([each.name for each in all_] for all_ in (study.methods, study.tasks))
        whole = len(self.arrivals) == len(methods) * len(tasks)
        if len(tasks) < 2 or not whole:
            return None
        unit = "seconds" if all(way.seconds.n for way in self.arrivals.values()) else "epochs"
        costs = [
            [_cost(getattr(self.arrivals[task, method], unit).median) for task in tasks]
            for method in methods
        ]
        return Areas(tuple(methods), tuple(each.area for each in profiles(costs)), unit)

    @cached_property
    def arrivals(self) -> Mapping[tuple[str, str], Way]:
        """What it takes to reach the reference's accuracy, by task and method; reads curves."""
        return ways(self.results)


def _percent(scores: BySeed) -> Interval | None:
    """The interval of a mean of percentages."""
    found = interval(list(scores.values()))
    return found.within(0, 100) if found else None


def _minus(mine: BySeed, theirs: BySeed) -> list[float]:
    """The differences of the seeds that both have."""
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def _cost(median: float | None) -> float:
    return math.inf if median is None else median


def _letters(found: Ranking | Refusal, methods: int) -> tuple[str, ...]:
    """A letter for each group that a method is in."""
    if isinstance(found, Refusal):
        return ()
    return tuple(
        "".join(_letter(number) for number, group in enumerate(found.groups) if method in group)
        for method in range(methods)
    )


def _letter(number: int) -> str:
    """The letters from a to z, then from A to Z, then the number in brackets.

    >>> [_letter(number) for number in (0, 26, 52)]
    ['a', 'A', '(52)']
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    letters += letters.upper()
    return letters[number] if number < len(letters) else f"({number})"

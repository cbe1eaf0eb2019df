"""How long runs take to a target, those that never reach it included.

    S(t)    product over the times t_i <= t at which d_i runs arrive of (1 - d_i / n_i), where n_i
            runs have been watched until t_i and had not arrived before: the share still on the way
    median  the first time with S <= 1/2; none where S stays above it

A run that ended without reaching the target was watched to its end and no further (it is
censored). To leave it out would make a method that often misses look quick.

source: Kaplan and Meier, "Nonparametric estimation from incomplete observations" (1958)
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HALF = 0.5 + 1e-12  #: a product of shares may be rounded up


class Arrival(NamedTuple):
    """When a run reached the target, or until when it was watched in vain (inf: for ever)."""

    at: float
    reached: bool


@dataclass(frozen=True)
class Arrivals:
    """The arrivals of several runs, in one unit."""

    runs: tuple[Arrival, ...]

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.runs)

    @property
    def reached(self) -> int:
        """The number of runs that reached the target."""
        return sum(run.reached for run in self.runs)

    @property
    def share(self) -> float:
        """The share of the runs that reached the target."""
        return self.reached / self.n if self.n else 0.0

    @property
    def median(self) -> float | None:
        """The median by Kaplan and Meier; None: not reached.

        >>> Arrivals((Arrival(2, True), Arrival(5, True), Arrival(9, False))).median
        5
        >>> Arrivals((Arrival(2, True), Arrival(9, False), Arrival(9, False))).median
        """
        curve = kaplan_meier(self.runs)
        return next((at for at, left in curve if left <= HALF), None)


def kaplan_meier(runs: Iterable[Arrival]) -> list[tuple[float, float]]:
    """Return each time at which runs arrive, with the share still on the way after it.

    A run that is censored at a time still counts as watched at that time.

    >>> kaplan_meier([Arrival(1, True), Arrival(1, False), Arrival(3, True)])
    [(1, 0.6666666666666667), (3, 0.0)]
    """
    known = sorted(runs)
    left, curve, gone = 1.0, [], 0
    for at, group in itertools.groupby(known, key=lambda run: run.at):
        here = list(group)
        arrived = sum(run.reached for run in here)
        if arrived:
            left *= 1 - arrived / (len(known) - gone)
            curve.append((at, left))
        gone += len(here)
    return curve


def target(best: Sequence[float]) -> float:
    """Return the target: the median of the best values of a reference's runs."""
    return statistics.median(best)


def first_at(values: Mapping[int, float], wanted: float) -> int | None:
    """Return the first epoch whose value is at least the wanted one, None if there is none.

    >>> first_at({1: 80.0, 2: 91.0, 3: 90.0}, 90.0)
    2
    """
    return next((epoch for epoch in sorted(values) if values[epoch] >= wanted), None)

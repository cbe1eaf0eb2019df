"""What an epoch costs: medians of seconds and of ratios, each with its interval.

    ratio      seconds of a method / seconds of the reference in the same round
    interval   of the median of n values: from the k-th smallest to the k-th largest,
               k the largest with 2 P(B(n, 1/2) < k) <= 5 %

The interval (the sign test's) supposes of the values only that they are independent; it takes six
of them.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bnnbench.studies import Published

ERROR = 0.05  #: probability that an interval misses
FEWEST = 6  #: values that an interval takes
METRIC = "seconds_per_epoch"  #: of the published values that stand beside the measured ones


class Estimate(NamedTuple):
    """The median of n values and its interval, None where there are too few of them."""

    median: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of one or more values, and its interval.

    >>> estimate([1.0, 3.0, 2.0, 5.0, 4.0, 6.0])
    Estimate(median=3.5, low=1.0, high=6.0, n=6)
    """
    ordered, n = sorted(values), len(values)
    k = rank(n)
    low, high = (ordered[k - 1], ordered[n - k]) if k else (None, None)
    return Estimate(statistics.median(ordered), low, high, n)


def rank(n: int) -> int:
    """Return the k of the interval of a median of n values; 0: even the extremes are too near.

    >>> [rank(n) for n in (5, 6, 10, 100)]
    [0, 1, 2, 40]
    """
    k, outside = 0, 2 / 2**n
    while outside <= ERROR:
        k += 1
        outside += 2 * math.comb(n, k) / 2**n
    return k


@dataclass(frozen=True)
class Beside:
    """Published seconds of an epoch, and their ratio to the reference's of the same source."""

    value: float
    ratio: float | None
    source: str


@dataclass(frozen=True)
class Cost:
    """What an epoch of a method, or of one of its phases, costs.

    ``seconds`` and ``ratio`` are medians over the rounds, ``rounds`` the seconds of each. ``share``
    is a phase's part of the epochs; a method of one phase has no ``phases``.
    """

    name: str
    seconds: Estimate
    ratio: Estimate
    rounds: tuple[float, ...]
    share: float = 1.0
    phases: tuple[Cost, ...] = ()
    published: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Times:
    """What was measured on one task, the methods in the study's order.

    ``note`` says what sets the data apart from published ones, ``steps`` are those of a visit that
    count, ``epoch`` those of an epoch. ``foreign`` is the share of the machine that other processes
    used meanwhile, None if that is unknown.
    """

    task: str
    dataset: str
    note: str
    architecture: str
    batch_size: int
    reference: str
    rounds: int
    steps: int
    epoch: int
    environment: Mapping[str, Any]
    foreign: float | None
    costs: tuple[Cost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, as JSON has them."""
        values = asdict(self)
        values["costs"] = [_plain(cost) for cost in self.costs]
        return values


def _plain(cost: Cost) -> dict[str, Any]:
    estimates = {"seconds": cost.seconds._asdict(), "ratio": cost.ratio._asdict()}
    return asdict(cost) | estimates | {"phases": [_plain(phase) for phase in cost.phases]}


def cost(
    name: str, seconds: Sequence[float], reference: Sequence[float], share: float = 1.0
) -> Cost:
    """Return the cost of an epoch from its seconds in each round, and the reference's."""
    ratios = [mine / theirs for mine, theirs in zip(seconds, reference, strict=False)]
    return Cost(name, estimate(seconds), estimate(ratios), tuple(seconds), share)


def beside(
    published: Iterable[Published], task: str, method: str, reference: str
) -> Iterator[Beside]:
    """Yield the published seconds of a method on a task."""
    fitting = [p for p in published if p.metric == METRIC and p.task in ("", task)]
    theirs = {p.source: p.value for p in fitting if p.method == reference}
    for p in fitting:
        if p.method == method:
            ratio = p.value / theirs[p.source] if p.source in theirs else None
            yield Beside(p.value, ratio, p.source)

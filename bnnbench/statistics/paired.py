"""Paired differences: how large, how sure, and whether they are more than chance.

    difference  mean over the pairs, with its interval
    p           Wilcoxon's signed-rank test, then Holm's correction over the family
    effect      r = (W+ - W-) / (W+ + W-), the matched-pairs rank-biserial correlation: 1 where
                every pair is better, -1 where every pair is worse, 0 where ranks balance
    better      share of the pairs that are better, ties count half: the probability of improvement

A family is all the comparisons that are made at once. With n pairs p cannot fall below 2^(1 - n),
whatever was measured, and Holm multiplies it. Where even that is above 0.05 there is no p, but
:class:`Cannot`; comparisons of up to five pairs are not counted in the family for that reason.

sources: Holm, "A simple sequentially rejective multiple test procedure" (1979); Kerby, "The simple
difference formula" (2014) for r; Agarwal et al. (2021) for the probability of improvement
departs from Agarwal et al.: pairs are compared with each other, there every run with every run
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnnbench.errors import UsageError
from bnnbench.statistics.intervals import Interval, interval
from bnnbench.statistics.signedranks import DECIMALS, SignedRank, signed_rank, smallest

if TYPE_CHECKING:
    from collections.abc import Sequence

ALPHA = 0.05  #: the share of studies without a difference that may name one


class Cannot(NamedTuple):
    """No p: of n pairs, one of so many comparisons, none can be as low as :data:`ALPHA`.

    >>> str(Cannot(3, 0)), str(Cannot(7, 4))
    ('n = 3 cannot reach 0.05', 'n = 7 cannot reach 0.05 of 4 comparisons')
    """

    n: int
    family: int

    def __str__(self) -> str:
        family = f" of {self.family} comparisons" if self.family > 1 else ""
        return f"n = {self.n} cannot reach {ALPHA}{family}"


@dataclass(frozen=True)
class Paired:
    """What the differences of n pairs say; ``p`` is corrected for the family."""

    n: int
    mean: float
    sd: float | None
    interval: Interval | None
    p: float | Cannot
    effect: float
    better: float

    @property
    def significant(self) -> bool:
        """Whether p is at most :data:`ALPHA`."""
        return not isinstance(self.p, Cannot) and self.p <= ALPHA


def compare(family: Sequence[Sequence[float]]) -> list[Paired]:
    """Return what each list of differences says, p corrected over all of them.

    Raises:
        UsageError: a list is empty.
    """
    if not all(map(len, family)):
        raise UsageError("a comparison needs a pair, got none; leave it out of the family")
    tests = [signed_rank(differences) for differences in family]
    found = _corrected([len(each) for each in family], [test.p for test in tests])
    return [_paired(*each) for each in zip(family, tests, found, strict=True)]


def _corrected(counts: Sequence[int], given: Sequence[float]) -> list[float | Cannot]:
    """Holm's p of those that can reach :data:`ALPHA`, be all others as clear as they can be."""
    able = [place for place, n in enumerate(counts) if smallest(n) <= ALPHA]
    adjusted = holm([given[place] for place in able])
    best = holm([smallest(counts[place]) for place in able])
    found: list[float | Cannot] = [Cannot(n, 0) for n in counts]
    for place, p, least in zip(able, adjusted, best, strict=True):
        found[place] = p if least <= ALPHA else Cannot(counts[place], len(able))
    return found


def holm(given: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's procedure: no corrected one is below a smaller one's.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(given)), key=lambda place: given[place])
    found, floor = [0.0] * len(given), 0.0
    for done, place in enumerate(order):
        floor = max(floor, (len(given) - done) * given[place])
        found[place] = min(1.0, floor)
    return found


def _paired(differences: Sequence[float], test: SignedRank, p: float | Cannot) -> Paired:
    values = np.asarray(differences, dtype=float)
    signs, ranks = np.sign(np.round(values, DECIMALS)), test.plus + test.minus
    return Paired(
        n=len(differences),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=interval(differences),
        p=p,
        effect=(test.plus - test.minus) / ranks if ranks else 0.0,
        better=float((signs + 1).mean() / 2),
    )

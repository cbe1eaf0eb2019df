"""Wilcoxon's signed-rank test of paired differences, exact and two-sided.

    d      the differences that are not 0
    r      ranks of |d|, from 1; equal ones share the mean of their ranks
    W+     sum of the r of positive d;  W- of negative ones
    p      2 P(W <= min(W+, W-)), where each r counts with probability 1/2

source: Wilcoxon, "Individual comparisons by ranking methods" (1945)
departs from Wilcoxon: p is that of the ranks as they are, ties included, found by adding up one
rank after the other; his tables know no ties. Above 100 differences W is taken as normal, with the
variance of these ranks. As there, differences of 0 are left out of the ranks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

DECIMALS = 9  #: differences that agree so far are equal: percents are rounded far below
EXACT = 100  #: differences up to which p is exact


class SignedRank(NamedTuple):
    """Both sums of ranks, and p."""

    plus: float
    minus: float
    p: float


def signed_rank(differences: Sequence[float]) -> SignedRank:
    """Return the sums of ranks and p; p is 1 where no difference is left.

    >>> signed_rank([0.3, -0.1, 0.2, 0.0])
    SignedRank(plus=5.0, minus=1.0, p=0.5)
    """
    rounded = np.round(np.asarray(differences, dtype=float), DECIMALS)
    kept = rounded[rounded != 0]
    ranks = midranks(np.abs(kept))
    plus, minus = float(ranks[kept > 0].sum()), float(ranks[kept < 0].sum())
    tail = _tail if len(kept) <= EXACT else _normal_tail
    return SignedRank(plus, minus, min(1.0, 2 * tail(ranks, min(plus, minus))))


def midranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the ranks of values from 1; equal ones share the mean of their ranks.

    >>> midranks(np.array([5.0, 2.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray[Any, Any] = (np.cumsum(counts) - (counts - 1) / 2)[places.ravel()]
    return ranks


def smallest(n: int) -> float:
    """Return the smallest p that n pairs can reach: all have one sign.

    >>> smallest(5), smallest(6)
    (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - n))


def _tail(ranks: np.ndarray[Any, Any], most: float) -> float:
    """P(W <= most), W summed over doubled ranks, which are whole."""
    doubled = np.sort(np.rint(2 * ranks).astype(int))
    return float(_chances(tuple(doubled.tolist()))[round(2 * most)])


@lru_cache(maxsize=256)
def _chances(ranks: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """P(sum <= 0, 1, ...) where each rank is added with probability 1/2."""
    chances = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    summed: np.ndarray[Any, Any] = np.cumsum(chances)
    return summed


def _normal_tail(ranks: np.ndarray[Any, Any], most: float) -> float:
    z = (most - ranks.sum() / 2) / math.sqrt((ranks**2).sum() / 4)
    return math.erfc(-z / math.sqrt(2)) / 2

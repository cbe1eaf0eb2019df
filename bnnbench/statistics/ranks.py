"""Methods ranked on several tasks; N is the number of tasks, never of seeds.

    r_ij    rank of method j on task i, 1 the best; equal ones share the mean of their ranks
    R_j     mean of r_ij over the N tasks
    Q       (k - 1) N^2 sum_j (R_j - (k + 1) / 2)^2 / (sum_ij r_ij^2 - N k (k + 1)^2 / 4)
    p       P(chi-square with k - 1 degrees of freedom >= Q), Friedman's test
    CD      q sqrt(k (k + 1) / 6 N), the critical difference of Nemenyi's test: q is the 95 %
            quantile of the range of k standard normal numbers, divided by sqrt(2)

Two methods differ where Friedman's p is at most 0.05 and their mean ranks are at least CD apart.
Q is Friedman's with the correction for ties. The chi-square distribution is that of many tasks;
with few of them p is rather too large.

sources: Friedman (1937); Nemenyi (1963); Demšar, "Statistical comparisons of classifiers over
multiple data sets" (2006)
departs from Demšar: Friedman's own chi-square instead of Iman and Davenport's F, which calls any
two tasks that agree significant
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.statistics.paired import ALPHA
from bnnbench.statistics.signedranks import midranks

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS, TASKS = 3, 2  #: at least so many
GRID = np.linspace(-9, 9, 181)  #: where the range of normal numbers is integrated
Array = np.ndarray[Any, Any]


class Refusal(NamedTuple):
    """Why there is no ranking."""

    reason: str


@dataclass(frozen=True)
class Ranking:
    """Friedman's test and the mean ranks, in the order of the methods.

    ``groups`` are the largest sets of methods, by place, of which no two differ; each from the best
    mean rank to the worst, as the bars of a critical-difference diagram.
    """

    ranks: tuple[float, ...]
    tasks: int
    statistic: float
    p: float
    critical: float
    groups: tuple[tuple[int, ...], ...]


def ranking(scores: Array | Sequence[Sequence[float]]) -> Ranking | Refusal:
    """Return the ranking of scores, (methods, tasks), larger is better; or why there is none.

    A score of minus infinity ranks last.
    """
    table = np.asarray(scores, dtype=float)
    methods, tasks = table.shape if table.ndim == 2 else (0, 0)
    if reason := _problem(methods, tasks):
        return Refusal(reason)
    if np.isnan(table).any():
        return Refusal("ranks need a score of every method on every task; some are missing")
    ranks = np.stack([midranks(-column) for column in table.T])
    means, statistic = ranks.mean(axis=0), _friedman(ranks)
    p = chi_square_tail(statistic, methods - 1)
    critical = range_quantile(methods) * math.sqrt(methods * (methods + 1) / (12 * tasks))
    groups = _groups(means, critical if p <= ALPHA else math.inf)
    return Ranking(tuple(means.tolist()), tasks, statistic, p, critical, groups)


def _problem(methods: int, tasks: int) -> str:
    if methods < METHODS:
        return f"ranks across tasks need {METHODS} methods, there are {methods}"
    if tasks < TASKS:
        return f"ranks across tasks need {TASKS} tasks, there are {tasks}"
    if chi_square_tail(tasks * (methods - 1), methods - 1) > ALPHA:  # if all tasks agree
        return f"{tasks} tasks cannot reach {ALPHA} in Friedman's test of {methods} methods"
    return ""


def _friedman(ranks: Array) -> float:
    tasks, methods = ranks.shape
    between = tasks**2 * ((ranks.mean(axis=0) - (methods + 1) / 2) ** 2).sum()
    within = (ranks**2).sum() - tasks * methods * (methods + 1) ** 2 / 4
    return float((methods - 1) * between / within) if within > 0 else 0.0


def _groups(means: Array, critical: float) -> tuple[tuple[int, ...], ...]:
    order = np.argsort(means, kind="stable")
    found: list[tuple[int, ...]] = []
    for first, best in enumerate(order):
        group = tuple(int(j) for j in order[first:] if means[j] - means[best] < critical)
        if not found or not set(group) <= set(found[-1]):
            found.append(group)
    return tuple(found)


def chi_square_tail(value: float, degrees: int) -> float:
    """Return P(chi-square >= value).

    >>> round(chi_square_tail(3.841459, 1), 6)
    0.05
    """
    from scipy.special import chdtrc

    return float(chdtrc(degrees, value))


@lru_cache(maxsize=64)
def range_quantile(methods: int, level: float = 1 - ALPHA) -> float:
    """Return the quantile of the range of so many independent standard normal numbers.

    >>> round(range_quantile(3), 3)
    3.314
    """
    low, high = 0.0, 20.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if _range_below(middle, methods) < level else (low, middle)
    return (low + high) / 2


def _range_below(width: float, methods: int) -> float:
    """P(range <= width): over the largest number, the others lie within the width below it."""
    from scipy.special import ndtr

    below = ndtr(GRID) - ndtr(GRID - width)
    density = np.exp(-GRID * GRID / 2) / math.sqrt(2 * math.pi)
    return float(methods * (density * below ** (methods - 1)).sum() * (GRID[1] - GRID[0]))

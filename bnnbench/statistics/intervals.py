"""How far off the mean of a few values may be: the symmetric bootstrap-t interval.

    m, s      mean and sample standard deviation of n values
    m*, s*    the same of n values drawn from them with replacement; so many times over
    t*        (m* - m) / s*; draws that are all alike have none and are left out
    interval  m - q s .. m + q s, with q the 95 % quantile of |t*|

sources: Hall, "On symmetric bootstrap confidence intervals" (1988); Steele, Lea and Flood, "Fast
splittable pseudorandom number generators" (2014) for the draws

Share of 20,000 samples whose interval held the true mean, where 95 % were wanted; the last line is
the percentile interval, the commonest one, of the same draws:

    n                      3      5     10     20
    normal             92.9 % 97.8 % 95.8 % 96.0 %
    exponential        87.7 % 93.9 % 93.0 % 93.6 %
    log-normal         83.3 % 90.6 % 88.1 % 89.6 %
    normal, percentile 75.1 % 83.4 % 89.9 % 93.1 %

So of three values, or of skewed ones, the interval holds the mean less often than it says. BCa
intervals are at most two points better than percentile ones at these n; equal-tailed bootstrap-t
intervals are two or three points better on log-normal values from n = 10 on, and hold the mean of
three normal ones in 81 % only.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95
FEWEST = 3  #: of two values every draw is all alike or has their mean
RESAMPLES = 1999
LEAST = 199  #: resamples of very many values
VALUES = 200_000  #: values drawn in all, where that leaves enough resamples
ALIKE = 1e-6  #: a deviation below this share of the sample's is rounding


class Interval(NamedTuple):
    """From where to where."""

    low: float
    high: float

    def within(self, low: float, high: float) -> Interval:
        """Return the part of it that a mean can have, as a percentage from 0 to 100.

        >>> Interval(87.0, 102.5).within(0, 100)
        Interval(low=87.0, high=100)
        """
        return Interval(max(self.low, low), min(self.high, high))


def interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean, the same for the same values in any order.

    None with fewer than three values. Equal values have an interval without width: nothing in them
    says how far the next may lie.

    >>> interval([3.0, 3.0, 3.0]), interval([3.0])
    (Interval(low=3.0, high=3.0), None)
    """
    if len(values) < FEWEST:
        return None
    sample = np.sort(np.asarray(values, dtype=float))
    middle = float(sample.mean())
    centred = sample - middle
    spread = float(centred.std(ddof=1))
    if spread <= ALIKE * ALIKE * max(1.0, abs(middle)):
        return Interval(middle, middle)
    t = _t(centred / spread)
    place = math.ceil(LEVEL * len(t)) - 1
    half = spread * float(np.partition(t, place)[place])
    return Interval(middle - half, middle + half)


def _t(standard: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """|t*| of the resamples of values with mean 0 and deviation 1."""
    n = len(standard)
    counts = _counts(n)
    means = counts @ standard / n
    squares = counts @ (standard * standard) / n
    spreads = np.sqrt(np.maximum(squares - means**2, 0) * n / (n - 1))
    found: np.ndarray[Any, Any] = np.abs(means[spreads > ALIKE] / spreads[spreads > ALIKE])
    return found


@lru_cache(maxsize=8)
def _counts(n: int) -> np.ndarray[Any, Any]:
    """How often each of n values is drawn in each resample, (resamples, n)."""
    resamples = min(RESAMPLES, max(LEAST, VALUES // n))
    drawn = (_bits(resamples * n) * np.uint64(n) >> np.uint64(32)).astype(np.int64)
    drawn += np.repeat(np.arange(resamples) * n, n)
    return np.bincount(drawn, minlength=resamples * n).reshape(resamples, n).astype(float)


def _bits(count: int) -> np.ndarray[Any, Any]:
    """The first so many 32-bit numbers of SplitMix64, the same with every version of numpy."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray[Any, Any] = (x ^ (x >> np.uint64(31))) >> np.uint64(32)
    return found

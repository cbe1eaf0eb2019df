"""A measured mean beside a published value.

    difference  measured mean - published value
    in sd       difference / the published standard deviation, where there is one above 0

It says how far apart the two are, not whether one of them is wrong: a run that has a share of the
published training is expected to fall short.
"""

from __future__ import annotations

from typing import NamedTuple


class Gap(NamedTuple):
    """How far a measured mean is from a published value.

    ``sds`` is the difference in published standard deviations, None where none was published;
    ``full_scale`` tells that the run had all of the published training.
    """

    difference: float
    sds: float | None
    full_scale: bool


def gap(mean: float, value: float, sd: float | None, scale: float = 1.0) -> Gap:
    """Return how far a mean is from a published value and its standard deviation.

    >>> gap(84.0, 84.5, 0.25)
    Gap(difference=-0.5, sds=-2.0, full_scale=True)
    >>> gap(80.0, 84.5, None, scale=0.01)
    Gap(difference=-4.5, sds=None, full_scale=False)
    """
    difference = mean - value
    return Gap(difference, difference / sd if sd else None, scale >= 1)

"""Performance profiles: on what share of the tasks is a method nearly as cheap as the best?

    r_mi      cost of method m on task i / the lowest cost of any method there
    rho_m(t)  share of the tasks with r_mi <= t, for t >= 1
    area      mean of rho_m(t) over t from 1 to 4

A cost that a method never comes to an end of is infinite, and so is its r on every scale. What is
compared is always the methods of the table: without one of them the others' profiles differ.

sources: Dolan and Moré, "Benchmarking optimization software with performance profiles" (2002); the
area and its end at 4 are those of AlgoPerf (Dahl et al., 2023)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

END = 4.0  #: times the lowest cost at which the area ends


@dataclass(frozen=True)
class Profile:
    """A method's ratios to the lowest costs, in ascending order, one for each task."""

    ratios: tuple[float, ...]

    def share(self, times: float) -> float:
        """Return the share of the tasks on which it costs at most so many times the lowest.

        >>> Profile((1.0, 2.5)).share(2.0)
        0.5
        """
        return float(np.mean(np.asarray(self.ratios) <= times))

    @property
    def area(self) -> float:
        """The mean of the share between 1 and :data:`END`: 1 of a method that is always best."""
        kept = np.minimum(np.asarray(self.ratios), END)
        return float(np.mean(END - kept) / (END - 1))


def profiles(costs: np.ndarray[Any, Any] | Sequence[Sequence[float]]) -> list[Profile]:
    """Return the profile of each method from costs, (methods, tasks).

    Raises:
        UsageError: a cost is not above 0.
    """
    table = np.asarray(costs, dtype=float)
    if not (table > 0).all():
        raise UsageError(f"costs must be above 0, got {np.nanmin(table):g}; inf is a miss")
    least = table.min(axis=0)
    ratios = np.full_like(table, np.inf)
    np.divide(table, least, out=ratios, where=np.isfinite(table))
    return [Profile(tuple(np.sort(row).tolist())) for row in ratios]

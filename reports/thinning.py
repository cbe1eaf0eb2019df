"""What is left out where there is too much to draw, and the words that say so.

Up to these limits all is drawn. Beyond them nothing is left out of a mean, a deviation or the table
of results, only of what is drawn beside them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench_reports.readings import Array, Bundle

CURVES = 320  #: curves of a figure that are drawn one by one, a run each
POINTS = 80_000  #: points of all curves of a figure
CELLS = 40_000  #: cells of all heat maps of a figure
DOTS = 5_000  #: dots of a figure
VALUES = 10_000  #: values that the boxes of a figure are made of
ROWS = 1_000  #: runs in a table
REASONS = 10  #: reasons in a cell of a table
TAIL = 5  #: percent of the seeds below the lower of two faint lines, and above the upper


class Thinned(NamedTuple):
    """Bundles with as many epochs as are drawn; ``many`` curves are too many to draw, or 0."""

    bundles: Sequence[Bundle]
    many: int
    epochs: str

    def faint(self, bundle: Bundle) -> list[tuple[str, Array]]:
        """Return the faint lines of a bundle: its seeds, or between what most of them lie."""
        if len(bundle.seeds) == 1:
            return []
        if not self.many:
            names = [f"seed {seed}" for seed in bundle.seeds]
            return list(zip(names, bundle.values, strict=True))
        ends = (TAIL, 100 - TAIL)
        names = [f"{end}th percentile of n = {len(bundle.seeds)}" for end in ends]
        return list(zip(names, np.percentile(bundle.values, ends, axis=0), strict=True))

    def explained(self, seeds: str) -> str:
        """Return what is drawn; ``seeds`` says so where every seed is."""
        said = (
            f"The {self.many:,} curves are too many to draw one by one: faint lines are the"
            f" {TAIL}th and the {100 - TAIL}th percentile of a method's seeds in each epoch,"
            " strong lines the mean of all of them."
        )
        return f"{said if self.many else seeds} {self.epochs}".rstrip()


def thinned(found: Sequence[Bundle]) -> Thinned:
    """Return what is drawn of some bundles."""
    curves = sum(len(bundle.seeds) for bundle in found)
    many = curves if curves > CURVES else 0
    points = sum((3 if many else len(b.seeds) + 1) * len(b.epochs) for b in found)
    step = math.ceil(points / POINTS)
    kept = [every(bundle.epochs, step) for bundle in found]
    bundles = [
        bundle._replace(epochs=bundle.epochs[columns], values=bundle.values[:, columns])
        for bundle, columns in zip(found, kept, strict=True)
    ]
    return Thinned(bundles, many, epochs_said([bundle.epochs for bundle in found], step))


def every(epochs: Array, step: int) -> Array:
    """Return the places of every so many epochs, the first and the last among them.

    >>> every(np.arange(1, 9), 3).tolist()
    [0, 3, 6, 7]
    """
    return np.union1d(np.arange(0, len(epochs), step), len(epochs) - 1)


def epochs_said(found: Iterable[Array], step: int) -> str:
    """Say which of the epochs are drawn, nothing where all are."""
    most = max(map(len, found))
    return f"Of up to {most:,} epochs one in {step} is drawn, and the last." if step > 1 else ""


def room(counts: Sequence[int], most: int) -> int:
    """Return how many values each line may have where all may have so many; 0 for any number.

    >>> room([30, 10], 40), room([30, 11], 40)
    (0, 20)
    """
    return max(most // len(counts), 2) if sum(counts) > most else 0


def spaced(values: Sequence[float] | Array, most: int) -> list[int]:
    """Return the places of at most so many values, evenly spaced by rank from least to greatest.

    >>> spaced([3.0, 1.0, 2.0, 5.0, 4.0], 3), spaced([3.0, 1.0], 0)
    ([1, 0, 3], [0, 1])
    """
    if not 0 < most < len(values):
        return list(range(len(values)))
    ranks = np.linspace(0, len(values) - 1, most).round().astype(int)
    places: list[int] = np.argsort(values, kind="stable")[ranks].tolist()
    return places


def spaced_said(most: int, what: str) -> str:
    """Say which values are drawn, nothing where all are."""
    said = f" Of a line with more than {most:,} {what} so many are drawn, evenly spaced by rank."
    return said if most else ""


def first_said(count: int, command: str, runs: str = "runs") -> str:
    """Say which of so many runs stand in a table, and which command writes all of them.

    >>> first_said(3, "bnnbench study export s")
    'all 3 runs'
    >>> first_said(1_500, "bnnbench study export s")
    "the first 1,000 of 1,500 runs; 500 are left out, 'bnnbench study export s' writes all"
    """
    if count <= ROWS:
        return f"all {count} {runs}"
    left = f"{count - ROWS:,} are left out, '{command}' writes all"
    return f"the first {ROWS:,} of {count:,} {runs}; {left}"

"""Images as they lie in a data set's files: bytes, in one or several arrays, taken by row.

Nothing is copied until :meth:`Images.chunks` asks for it, so the arrays may be memory maps that
are larger than the memory.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK = 2**22  #: bytes of a chunk, where no size is given


class Images:
    """Rows of the concatenation of ``arrays``: uint8 images (n, C, H, W), one after another.

    ``arrays`` are uint8, each (n_i, C, H, W). ``rows`` are the numbers of the wanted images, in
    the wanted order and as often as wanted; all as they lie if left out.

    Raises:
        ValueError: no array, arrays of other types or shapes, or a row that does not exist.
    """

    def __init__(
        self, arrays: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64] | None = None
    ) -> None:
        kinds = {(a.ndim, a.dtype, a.shape[1:]) for a in arrays}
        if [kind[:2] for kind in kinds] != [(4, np.dtype(np.uint8))]:
            found = ", ".join(f"{a.dtype} {a.shape}" for a in arrays) or "none"
            raise ValueError(f"images must be uint8 arrays (n, C, H, W) of one shape, got {found}")
        self.arrays = tuple(arrays)
        self.bounds = tuple(accumulate((len(a) for a in arrays), initial=0))
        self.rows = rows if rows is None else np.asarray(rows, np.int64)
        if self.rows is not None and len(self.rows):
            low, high = int(self.rows.min()), int(self.rows.max())
            if low < 0 or high >= self.bounds[-1]:
                raise ValueError(f"rows must be in [0, {self.bounds[-1]}), got {low} to {high}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        channels, height, width = self.arrays[0].shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        """The number of images."""
        return self.bounds[-1] if self.rows is None else len(self.rows)

    def chunks(self, size: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield arrays (chunk, C, H, W) of ``size`` images, in order; the last may be smaller.

        Without a size, of as many images as have 4 MiB together. What is yielded may be a part of
        the arrays themselves: it is for reading.
        """
        size = size or max(1, CHUNK // math.prod(self.shape))
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            if self.rows is None:
                yield self._stretch(start, stop)
            else:
                yield self._picked(self.rows[start:stop])

    def whole(self) -> NDArray[np.uint8]:
        """Return all images (n, C, H, W) in memory of their own."""
        found = np.empty((len(self), *self.shape), np.uint8)
        start = 0
        for chunk in self.chunks():
            found[start : start + len(chunk)] = chunk
            start += len(chunk)
        return found

    def subset(self, rows: NDArray[np.int64]) -> Images:
        """Return the images that stand at these places among these."""
        return Images(self.arrays, rows if self.rows is None else self.rows[rows])

    def _stretch(self, start: int, stop: int) -> NDArray[np.uint8]:
        parts = [
            array[max(start - first, 0) : stop - first]
            for array, (first, end) in zip(self.arrays, pairwise(self.bounds), strict=True)
            if start < end and first < stop
        ]
        return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)

    def _picked(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape), np.uint8)
        for array, (first, end) in zip(self.arrays, pairwise(self.bounds), strict=True):
            places = np.flatnonzero((first <= rows) & (rows < end))
            if len(places):
                found[places] = array[rows[places] - first]
        return found

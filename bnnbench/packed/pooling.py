"""Max pooling of signs: +1 where any is +1, an "or" of words, 64 channels at a time.

What lies beyond the rim is smaller than any sign and counts as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnnbench.errors import DataError
from bnnbench.packed.bits import Words
from bnnbench.packed.patches import LARGEST


@dataclass(frozen=True)
class Pooling:
    """As torch's ``MaxPool2d``: heights first, then widths."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False

    def __post_init__(self) -> None:
        sizes = (*self.kernel, *self.stride, *self.dilation)
        wide = any(2 * p > k or p < 0 for p, k in zip(self.padding, self.kernel, strict=True))
        if min(sizes) < 1 or max(sizes) > LARGEST or wide:
            raise DataError(
                f"a window has a size, stride and dilation of 1 to {LARGEST} and at most half its"
                f" size as padding, got {self}; look at the layer that it was taken from"
            )

    def places(self, size: int, axis: int) -> int:
        """Return how many windows there are along an axis of an image, 0 or 1.

        >>> Pooling((3, 3), (2, 2)).places(32, 0), Pooling((3, 3), (2, 2), ceil=True).places(32, 0)
        (15, 16)
        """
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        free = size + 2 * self.padding[axis] - reach
        stride = self.stride[axis]
        count = (-(-free // stride) if self.ceil else free // stride) + 1
        # a window that would begin beyond the image and its left rim is left out
        if self.ceil and (count - 1) * stride >= size + self.padding[axis]:
            count -= 1
        return count


def pooled(images: Words, pooling: Pooling) -> Words:
    """Return the maxima of signs (n, height, width, words) in windows of height and width.

    Raises:
        DataError: the images have no such shape or are smaller than a window.
    """
    if images.ndim != 4:
        raise DataError(f"images are (n, height, width, words), got shape {images.shape}")
    rows = _along(images, pooling, axis=0)
    return _along(rows, pooling, axis=1)


def _along(images: Words, pooling: Pooling, axis: int) -> Words:
    """The maxima along one axis: those of a window are the maxima of its rows' maxima."""
    size = images.shape[1 + axis]
    count = pooling.places(size, axis)
    if count < 1:
        raise DataError(
            f"an image is at least as large as a window, got {images.shape[1:3]} for {pooling};"
            " take larger images"
        )
    moved = np.moveaxis(images, 1 + axis, 0)
    found = np.zeros((count, *moved.shape[1:]), np.uint64)
    starts = np.arange(count) * pooling.stride[axis] - pooling.padding[axis]
    for tap in range(pooling.kernel[axis]):
        places = starts + tap * pooling.dilation[axis]
        inside = (places >= 0) & (places < size)
        if inside.any():
            first, last = np.flatnonzero(inside)[[0, -1]]
            chosen = moved[places[first] : places[last] + 1 : pooling.stride[axis]]
            found[first : last + 1] |= chosen
    return np.ascontiguousarray(np.moveaxis(found, 0, 1 + axis))

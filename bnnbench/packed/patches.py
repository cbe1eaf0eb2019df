"""The patch of an image under each place of a filter, as a row: a convolution is then a product.

    row (n, y', x') holds x[n, y' s - p + i d, x' s - p + j d, c] in the order of i, j, c

Of signs the bits of a row are closed up, channel after channel, place after place. What lies beyond
the rim is -1 (a bit 0) or a given number.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numba
from numba import prange

from bnnbench.errors import DataError
from bnnbench.packed.vectors import U64, inner

Pair = tuple[int, int]

LARGEST = 2**12  #: a size, stride, padding or dilation; more would only fill the memory


@dataclass(frozen=True)
class Geometry:
    """Where a filter is placed, as in torch's ``Conv2d``: heights first, then widths."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        pairs = (self.kernel, self.stride, self.padding, self.dilation)
        low = min(*self.kernel, *self.stride, *self.dilation, self.groups)
        wide = max(max(pair) for pair in pairs) > LARGEST
        if any(len(pair) != 2 for pair in pairs) or low < 1 or min(self.padding) < 0 or wide:
            raise DataError(
                "a filter has two sizes, strides and dilations of 1 or more, groups of 1 or more"
                f" and no negative padding, none beyond {LARGEST}, got {self}; look at the layer"
                " that it was taken from"
            )

    def places(self, size: int, axis: int) -> int:
        """Return at how many places along an axis, 0 or 1, of an image a filter lies.

        >>> Geometry((3, 3), padding=(1, 1)).places(32, 0)
        32

        Raises:
            DataError: the image is too small for one.
        """
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        count = (size + 2 * self.padding[axis] - reach) // self.stride[axis] + 1
        if size < 1 or count < 1:
            raise DataError(
                f"an image with its padding is at least as large as the filter, got {size} pixels"
                f" for {self}; take larger images"
            )
        return count

    def numbers(self) -> tuple[int, ...]:
        """Return all that the compiled passes need to know."""
        return (*self.kernel, *self.stride, *self.padding, *self.dilation)


@functools.cache
def of_signs(*, parallel: bool) -> Any:
    """Return the pass that writes rows of bits, all 0 before, for a run of places."""

    @numba.njit(nogil=True, error_model="numpy", parallel=parallel)
    def gather(images, numbers, places, start, first, channels, rows):
        """The channels from ``first`` on; ``start`` is the place of the first row."""
        whole = channels % 64 == 0
        for r in prange(rows.shape[0]):
            if whole:
                _row_of_words(
                    images, numbers, places, start + r, first // 64, channels // 64, rows, r
                )
            else:
                _row_of_signs(images, numbers, places, start + r, first, channels, rows[r])

    return gather


@inner
def _row_of_words(images, numbers, places, place, first, words, rows, r):
    """Copy whole words, where the channels of a filter fill theirs."""
    kh, kw, sh, sw, ph, pw, dh, dw = numbers
    n, rest = divmod(place, places[0] * places[1])
    top, left = rest // places[1] * sh - ph, rest % places[1] * sw - pw
    for i in range(kh):
        y = top + i * dh
        if y >= 0 and y < images.shape[1]:
            for j in range(kw):
                x, at = left + j * dw, (i * kw + j) * words
                if x >= 0 and x < images.shape[2]:
                    for w in range(words):
                        rows[r, at + w] = images[n, y, x, first + w]


@inner
def _row_of_signs(images, numbers, places, place, first, channels, row):
    kh, kw, sh, sw, ph, pw, dh, dw = numbers
    n, rest = divmod(place, places[0] * places[1])
    top, left = rest // places[1] * sh - ph, rest % places[1] * sw - pw
    height, width = images.shape[1], images.shape[2]
    for i in range(kh):
        y = top + i * dh
        if y < 0 or y >= height:
            continue
        for j in range(kw):
            x = left + j * dw
            if x >= 0 and x < width:
                _copy(images[n, y, x], first, row, (i * kw + j) * channels, channels)


@inner
def _copy(source, begin, target, start, count):
    """Copy bits to where all are 0."""
    for done in range(0, count, 64):
        some = min(64, count - done)
        bits = _read(source, begin + done, some)
        at, shift = (start + done) >> 6, (start + done) & 63
        target[at] |= bits << U64(shift)
        if shift + some > 64:
            target[at + 1] |= bits >> U64(64 - shift)


@inner
def _read(words, begin, count):
    """Up to 64 bits from any bit on."""
    at, shift = begin >> 6, begin & 63
    bits = words[at] >> U64(shift)
    if shift + count > 64:
        bits |= words[at + 1] << U64(64 - shift)
    return bits if count == 64 else bits & ((U64(1) << U64(count)) - U64(1))


@functools.cache
def of_numbers(*, parallel: bool) -> Any:
    """Return the pass that writes rows of float32 for a run of places."""

    @numba.njit(nogil=True, error_model="numpy", parallel=parallel)
    def gather(images, numbers, places, start, first, channels, beyond, rows):
        """The channels from ``first`` on; ``beyond`` is what lies beyond the rim."""
        for r in prange(rows.shape[0]):
            _row_of_numbers(images, numbers, places, start + r, first, channels, beyond, rows[r])

    return gather


@inner
def _row_of_numbers(images, numbers, places, place, first, channels, beyond, row):
    kh, kw, sh, sw, ph, pw, dh, dw = numbers
    n, rest = divmod(place, places[0] * places[1])
    top, left = rest // places[1] * sh - ph, rest % places[1] * sw - pw
    height, width = images.shape[1], images.shape[2]
    for i in range(kh):
        y = top + i * dh
        for j in range(kw):
            x, at = left + j * dw, (i * kw + j) * channels
            if y >= 0 and y < height and x >= 0 and x < width:
                for c in range(channels):
                    row[at + c] = images[n, y, x, first + c]
            else:
                for c in range(channels):
                    row[at + c] = beyond

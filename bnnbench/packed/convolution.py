"""Convolutions of binary filters, for binary and for real images, as products of patches.

    s = sum over the places of a filter that lie in the image, and over channels, of w x
        + pad times the sum of w over the places beyond the rim,        pad = -1, 0 or +1

Beyond the rim the bits of a patch are 0, which counts as -1. The sum of w over these places, times
pad + 1, is added again: it depends only on which rows and columns of the filter lie beyond the
rim, so that a few kinds of places have a base of their own (:mod:`bnnbench.packed.product`). A
0 there counts as nothing, exactly.

Images are (n, height, width, channels), or their channels in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnnbench.errors import DataError
from bnnbench.packed import patches, product, sums
from bnnbench.packed.bits import Words, check, check_shape, joined, pack, unpack, words
from bnnbench.packed.dense import check_channels
from bnnbench.packed.patches import Geometry
from bnnbench.packed.pooling import Pooling, pooled
from bnnbench.packed.product import Kinds, Rows, Weights
from bnnbench.threads import follow_torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.packed.thresholds import Thresholds

__all__ = ["BinaryConvolution", "Geometry", "RealConvolution", "pack_filters", "unpack_filters"]

Limits = tuple[Kinds, list[Kinds]]  #: the kind of each place, and of each group their limits

TOGETHER = 2**18  #: bytes of patches that are gathered at a time, for each thread


def pack_filters(weight: NDArray[Any]) -> Words:
    """Return the signs of filters (filters, channels, height, width), as torch has them, as words.

    They are (filters, height, width, words(channels)).
    """
    return pack(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)))


def unpack_filters(weight: Words, channels: int) -> NDArray[np.int8]:
    """Return the signs of packed filters as (filters, channels, height, width).

    Raises:
        DataError: they do not hold so many channels.
    """
    return np.ascontiguousarray(unpack(weight, channels).transpose(0, 3, 1, 2))


class _Convolution:
    """What both kinds of images share: filters, and runs of places small enough for a cache."""

    def __init__(self, weight: Words, channels: int, geometry: Geometry) -> None:
        self.channels, self.geometry = channels, geometry
        self.deep = channels // geometry.groups  #: channels of a filter
        self.filters = len(weight)
        if self.deep * geometry.groups != channels or self.filters % geometry.groups:
            raise DataError(
                f"groups divide the channels and the filters, got {geometry.groups} groups,"
                f" {channels} channels and {self.filters} filters"
            )
        check(weight, self.deep)
        if weight.ndim != 4 or weight.shape[1:3] != geometry.kernel or not self.filters:
            raise DataError(
                f"filters are (filters, {geometry.kernel[0]}, {geometry.kernel[1]}, words), got"
                f" shape {weight.shape}; pack them with bnnbench.packed.convolution.pack_filters"
            )
        self.length = self.deep * geometry.kernel[0] * geometry.kernel[1]
        #: of each group, its filters as rows
        self.rows = np.split(joined(weight, self.deep), geometry.groups)

    def places(self, images: NDArray[Any]) -> tuple[int, int]:
        """Return at how many heights and widths a filter lies in these images."""
        height, width = images.shape[1:3]
        return self.geometry.places(height, 0), self.geometry.places(width, 1)

    def threads(self, count: int) -> int:
        """Return how many threads are worth their while for so many places."""
        worth = count * self.filters * self.length > product.WORTH
        return follow_torch_threads() if worth else 1

    def runs(self, count: int, width: int) -> Iterator[tuple[int, int]]:
        """Yield the first place and the number of places of each run; ``width`` is in bytes."""
        most = max(64, self.threads(count) * TOGETHER // width // 16 * 16)
        for start in range(0, count, most):
            yield start, min(most, count - start)


class BinaryConvolution(_Convolution):
    """Binary filters over binary images.

    Args:
        weight: (filters, kernel height, kernel width, words(channels / groups)).
        channels: of the images.
        geometry: stride, padding, dilation, groups.
        pad: what lies beyond the rim: -1, 0 or +1.

    Raises:
        DataError: the weights have another shape.
    """

    def __init__(
        self,
        weight: Words,
        channels: int,
        geometry: Geometry,
        pad: Literal[-1, 0, 1] = 0,
    ) -> None:
        super().__init__(weight, channels, geometry)
        if pad not in (-1, 0, 1):
            raise DataError(f"the padding of a binary image is -1, 0 or 1, got {pad}")
        self.pad = pad
        self.weights = [Weights.of(rows, self.length) for rows in self.rows]
        signs = unpack(weight, self.deep).sum(-1, dtype=np.int32)
        #: of each filter, the sums of its weights by row and column
        self.taps = np.split(signs, geometry.groups)
        del self.rows
        self._limits: dict[Any, tuple[Thresholds | None, Limits]] = {}

    def __call__(self, images: Words) -> NDArray[np.int32]:
        """Return the sums of products (n, height, width, filters) for packed images.

        Raises:
            DataError: the images have another shape or are too small.
        """
        kinds, limits = self._limits_of(images, None)
        places = self.places(images)
        count = len(images) * places[0] * places[1]
        found = np.empty((count, self.filters), np.int32)
        part = self.filters // self.geometry.groups
        for group, weights in enumerate(self.weights):
            for start, rows in self._patches(images, group, places):
                at = Rows(kinds, start % len(kinds))
                some = weights.sums(rows, limits[group], at)
                found[start : start + len(rows), group * part : (group + 1) * part] = some
        return found.reshape(len(images), *places, found.shape[1])

    def signs(self, images: Words, thresholds: Thresholds, pooling: Pooling | None = None) -> Words:
        """Return the signs of the sums, packed: (n, height, width, words(filters)).

        Args:
            images: (n, height, width, words(channels)).
            thresholds: of each filter.
            pooling: of the sums, before the thresholds; it is done on the bits.

        Raises:
            DataError: images or thresholds have another shape, or the images are too small.
        """
        check_channels(thresholds, self.filters)
        if len(self.weights) > 1:
            reached = thresholds(self(images))
            found = thresholds.turned(reached)  # pooled before channels that fall are turned
        else:
            found = self._reached(images, thresholds)
        if pooling is not None:
            found = pooled(found, pooling)
        return thresholds.turned(found)

    def _reached(self, images: Words, thresholds: Thresholds) -> Words:
        """Where sums reach their threshold, whether the channel rises or falls."""
        kinds, limits = self._limits_of(images, thresholds)
        places = self.places(images)
        found = np.empty((len(images) * places[0] * places[1], words(self.filters)), np.uint64)
        for start, rows in self._patches(images, 0, places):
            at = Rows(kinds, start % len(kinds))
            found[start : start + len(rows)] = self.weights[0].signs(rows, limits[0], at)
        return found.reshape(len(images), *places, found.shape[1])

    def _patches(
        self, images: Words, group: int, places: tuple[int, int]
    ) -> Iterator[tuple[int, Words]]:
        """Yield the patches of a group's channels, run after run, and each run's first place."""
        count, width = len(images) * places[0] * places[1], words(self.length)
        if self.geometry == Geometry((1, 1)):
            yield 0, np.ascontiguousarray(images).reshape(count, width)
            return
        images = np.ascontiguousarray(images)
        gather = patches.of_signs(parallel=self.threads(count) > 1)
        for start, many in self.runs(count, 8 * width):
            rows = np.zeros((many, width), np.uint64)
            first = group * self.deep
            gather(images, self.geometry.numbers(), places, start, first, self.deep, rows)
            yield start, rows

    def _limits_of(self, images: Words, thresholds: Thresholds | None) -> Limits:
        if images.ndim != 4:
            raise DataError(f"images are (n, height, width, words), got shape {images.shape}")
        check_shape(images, self.channels)
        key = (*images.shape[1:3], id(thresholds))
        if key not in self._limits:  # the thresholds are kept, so that no others get their id
            self._limits[key] = thresholds, self._made(images.shape[1:3], thresholds)
        return self._limits[key][1]

    def _made(self, size: tuple[int, ...], thresholds: Thresholds | None) -> Limits:
        beyond = [_beyond(self.geometry, size[axis], axis) for axis in (0, 1)]
        kinds = beyond[0][1][:, None] * len(beyond[1][0]) + beyond[1][1]
        out = beyond[0][0][:, None, :, None] | beyond[1][0][None, :, None, :]
        flat = out.reshape(-1, *self.geometry.kernel).astype(np.int32)
        limits = []
        for weights, taps in zip(self.weights, self.taps, strict=True):
            rim = np.einsum("kij,oij->ko", flat, taps)
            base = (self.length + (self.pad + 1) * rim).astype(np.int32)
            most = base if thresholds is None else thresholds.most(base, self.length)
            limits.append(weights.limits(most))
        return kinds.astype(np.int32).ravel(), limits


def _beyond(geometry: Geometry, size: int, axis: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which rows (or columns) of a filter lie beyond the rim: the ways, and that of each place."""
    starts = np.arange(geometry.places(size, axis)) * geometry.stride[axis]
    taps = np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
    places = starts[:, None] - geometry.padding[axis] + taps
    ways, of_place = np.unique((places < 0) | (places >= size), axis=0, return_inverse=True)
    return ways, of_place.reshape(-1)


class RealConvolution(_Convolution):
    """Binary filters over real images; the error is bounded as in ``RealDense``.

    Args:
        weight: (filters, kernel height, kernel width, words(channels / groups)).
        channels: of the images.
        geometry: stride, padding, dilation, groups.
        pad: what lies beyond the rim.

    Raises:
        DataError: the weights have another shape.
    """

    def __init__(self, weight: Words, channels: int, geometry: Geometry, pad: float = 0.0) -> None:
        super().__init__(weight, channels, geometry)
        self.pad = np.float32(pad)
        self.rows = [sums.arranged(rows) for rows in self.rows]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums (n, height, width, filters) for images (n, height, width, channels).

        Raises:
            DataError: the images have another shape, are not float32 or too small.
        """
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[3] != self.channels:
            raise DataError(
                f"images are float32 (n, height, width, {self.channels}), got {images.dtype} of"
                f" shape {images.shape}; move the channels last"
            )
        images, places = np.ascontiguousarray(images), self.places(images)
        count = len(images) * places[0] * places[1]
        found = np.empty((count, self.filters), np.float32)
        part = self.filters // self.geometry.groups
        gather = patches.of_numbers(parallel=self.threads(count) > 1)
        for group, weight in enumerate(self.rows):
            first, chosen = group * self.deep, slice(group * part, (group + 1) * part)
            for start, many in self.runs(count, 4 * self.length):
                rows = np.empty((many, self.length), np.float32)
                numbers = self.geometry.numbers()
                gather(images, numbers, places, start, first, self.deep, self.pad, rows)
                found[start : start + many, chosen] = sums.signed_sums(rows, weight, self.length)
        return found.reshape(len(images), *places, found.shape[1])

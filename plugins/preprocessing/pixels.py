"""Preprocessings that treat each pixel x, a byte, by itself.

    scaled            x/divisor - shift
    centered          x/255 - m         m = mean of x/255 over the training images, for each pixel
    scalar-centered   x/255 - m         m = mean of x/255 over all their pixels
    standardized      (x/255 - m)/s     m, s = mean and deviation of x/255, for each channel

Means are exact until they are rounded to float32, for sums of bytes and counts of values are whole
numbers.

source: the public scripts of BinaryConnect (centered), BNEW, MD-BNN and, for ImageNet, ReActNet
departs from BinaryConnect's script: m is the mean over the images that are trained on, there over
all 60,000, and the test images are centred with it as well, there with their own mean
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bnnbench_plugins.preprocessing import Transform


@dataclass(frozen=True)
class Scaled:
    """x/divisor - shift."""

    divisor: float
    shift: float = 0
    fits: ClassVar[bool] = False
    pointwise: ClassVar[bool] = True

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return itself: there is nothing to fit."""
        return self

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return x/divisor - shift in float32."""
        x = images.astype(np.float32)
        x /= self.divisor
        if self.shift:
            x -= self.shift
        return x


@dataclass(frozen=True)
class Standardized:
    """(x/255 - mean)/sd with a mean and a standard deviation for each channel.

    Raises:
        UsageError: images with another number of channels.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    fits: ClassVar[bool] = False
    pointwise: ClassVar[bool] = True

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return itself: the numbers are known."""
        return self

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (x/255 - mean)/sd in float32."""
        if images.shape[1] != len(self.mean):
            raise UsageError(
                f"this standardization is for images of {len(self.mean)} channels, got"
                f" {images.shape[1]}; choose another preprocessing"
            )
        x = images.astype(np.float32)
        x /= 255
        x -= _of_channels(self.mean)
        x /= _of_channels(self.sd)
        return x


@dataclass(frozen=True)
class Standardization:
    """(x/255 - mean)/sd with those of each channel over the training images.

    The deviation is that of the population; that of a constant channel, which is 0, counts as 1.
    """

    fits: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return the standardization with these images' means and deviations."""
        counts = sum(_histograms(chunk) for chunk in chunks)
        moments = [_moments(channel) for channel in np.atleast_2d(counts)]
        return Standardized(tuple(m for m, _ in moments), tuple(s for _, s in moments))


@dataclass(frozen=True)
class Centered:
    """x/255 minus each pixel's mean over the training images."""

    fits: ClassVar[bool] = True
    pointwise: ClassVar[bool] = False

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return what centers images with the mean of these."""
        total: Any = 0
        count = 0
        for chunk in chunks:
            total += chunk.sum(0, dtype=np.int64)
            count += len(chunk)
        return _Minus((total / (255 * count)).astype(np.float32))


@dataclass(frozen=True)
class ScalarCentered:
    """x/255 minus the one mean of all pixels of the training images."""

    fits: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return what centers images with the mean of all pixels of these."""
        sums = [(chunk.sum(dtype=np.int64), chunk.size) for chunk in chunks]
        total, count = np.array(sums).sum(0)
        return _Minus(np.array(total / (255 * count), np.float32))


@dataclass(frozen=True)
class _Minus:
    """x/255 - mean: one mean, or (C, H, W) of each pixel."""

    mean: NDArray[np.float32]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = images.astype(np.float32)
        x /= 255
        x -= self.mean
        return x


def _of_channels(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def _histograms(chunk: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each channel (C) has each value (256)."""
    channels = range(chunk.shape[1])
    return np.stack([np.bincount(chunk[:, c].ravel(), minlength=256) for c in channels])


def _moments(counts: NDArray[np.int64]) -> tuple[float, float]:
    """The mean and the standard deviation of x/255, from how often each byte occurs."""
    x, n = np.arange(256) / 255, int(counts.sum())
    mean = float(counts @ np.arange(256)) / (255 * n)
    return mean, math.sqrt(float(counts @ np.square(x - mean)) / n) or 1.0


BNEW = Standardized(
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255), sd=(63.0 / 255, 62.1 / 255, 66.7 / 255)
)
MD_BNN = Standardized(mean=(0.4914, 0.4822, 0.4465), sd=(0.2023, 0.1994, 0.2010))
IMAGENET = Standardized(mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225))

"""Examples made of random prototypes, for synthetic data sets.

    classes   x = clip(((4 - w) p + w q) / 4 + noise (e - 128))
    pets      x = clip(t + noise (e - 128))

All letters are bytes: p a window of one of its class's prototypes, moved at random by up to an
eighth of its side, q a window of one that belongs to no class, and e noise. A pet is an ellipse
(class 0) with a border (2) before a background (1); t is a window of one prototype, reddish, in the
pet, of another, bluish, in the background, and their mean on the border. A prototype is a coarse
grid of random bytes, drawn larger by linear interpolation.

All is done in whole numbers that numpy's RandomState gives, the same on every machine and for
ever. An example depends on nothing but its number: a larger set begins with the smaller one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import RandomState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnnbench.interfaces import Task

VERSION = 1  #: to be raised when the same options give other bytes: it names cached results
SPLITS = ("train", "validation", "test")
STRETCH = 100  #: examples that are drawn together, by one generator
GRID = 5  #: random bytes on each side of a prototype
VIEWS, OTHERS = 4, 64  #: prototypes of each class, and of no class
MOST = 8  #: a window is moved by up to its side by this
RED, BLUE = (96, 32, 32), (32, 32, 96)  #: what is added to half a texture of pet and background
BORDER = 32  #: a border's width is the side by this


class Drawn(NamedTuple):
    """Examples: bytes (n, C, H, W) and int64 (n,) or, with a class for each pixel, (n, H, W)."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Kind(ABC):
    """A sort of examples, of a shape (C, H, W) and so many classes, drawn a stretch at a time."""

    shape: tuple[int, int, int]
    classes: int
    noise: float
    seed: int
    task: ClassVar[Task] = "classification"

    @abstractmethod
    def prototypes(self, random: RandomState) -> NDArray[np.uint8]:
        """Return what all examples are made from, (k, C, H', W')."""

    @abstractmethod
    def stretch(
        self, prototypes: NDArray[np.uint8], numbers: NDArray[np.int64], random: RandomState
    ) -> Drawn:
        """Return the examples of these numbers."""


@dataclass(frozen=True)
class Classes(Kind):
    """Images of so many classes, each class as often as the others; harder with a larger ``w``."""

    w: int = 2

    def prototypes(self, random: RandomState) -> NDArray[np.uint8]:
        """Return those of no class, then those of each class in turn."""
        return _prototypes(OTHERS + VIEWS * self.classes, self.shape, random)

    def stretch(
        self, prototypes: NDArray[np.uint8], numbers: NDArray[np.int64], random: RandomState
    ) -> Drawn:
        """Return the examples of these numbers."""
        targets, n = numbers % self.classes, len(numbers)
        mine = OTHERS + targets + self.classes * _draw(random, VIEWS, n)
        p = _windows(prototypes, mine, self.shape, random)
        q = _windows(prototypes, _draw(random, OTHERS, n), self.shape, random)
        return Drawn(_noisy(((4 - self.w) * p + self.w * q) >> 2, self.noise, random), targets)


@dataclass(frozen=True)
class Pets(Kind):
    """Images of one ellipse each, and which pixels are in it, outside, and on its border."""

    task: ClassVar[Task] = "segmentation"

    def prototypes(self, random: RandomState) -> NDArray[np.uint8]:
        """Return textures that serve for both."""
        return _prototypes(OTHERS, self.shape, random)

    def stretch(
        self, prototypes: NDArray[np.uint8], numbers: NDArray[np.int64], random: RandomState
    ) -> Drawn:
        """Return the examples of these numbers."""
        targets, n = _ellipses(len(numbers), self.shape[-1], random), len(numbers)
        pet, background = (
            (_windows(prototypes, _draw(random, OTHERS, n), self.shape, random) >> 1)
            + np.array(tint, np.int16).reshape(3, 1, 1)
            for tint in (RED, BLUE)
        )
        t = np.choose(targets[:, None], [pet, background, (pet + background) >> 1])
        return Drawn(_noisy(t, self.noise, random), targets)


def examples(kind: Kind, split: str, count: int) -> Drawn:
    """Return the first so many examples of a split."""
    prototypes = kind.prototypes(RandomState([kind.seed, 0]))
    parts = []
    for first in range(0, count, STRETCH):
        random = RandomState([kind.seed, 1 + SPLITS.index(split), first])
        parts.append(kind.stretch(prototypes, np.arange(first, first + STRETCH), random))
    images, targets = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
    return Drawn(images, targets)


def _draw(random: RandomState, below: int, count: int) -> NDArray[np.int64]:
    return random.randint(0, below, count, dtype=np.int64)


def _prototypes(count: int, shape: tuple[int, int, int], random: RandomState) -> NDArray[np.uint8]:
    """So many smooth images, larger than the shape by what a window may be moved."""
    channels, height, width = shape
    grid = random.randint(0, 256, (count, channels, GRID, GRID), dtype=np.uint8).astype(np.int32)
    rows = _between(grid, height + height // MOST)
    return _between(rows.swapaxes(2, 3), width + width // MOST).swapaxes(2, 3).astype(np.uint8)


def _between(grid: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """Values along axis 2, so many that the first and the last are the grid's, linear between."""
    places = np.arange(side, dtype=np.int32) * ((GRID - 1) * 256) // (side - 1)
    low = np.minimum(places >> 8, GRID - 2)
    share = (places - (low << 8))[:, None]
    between: NDArray[np.int32] = grid[:, :, low] * (256 - share) + grid[:, :, low + 1] * share
    return between >> 8


def _windows(
    prototypes: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    shape: tuple[int, int, int],
    random: RandomState,
) -> NDArray[np.int16]:
    """A window (C, H, W) of each chosen prototype, anywhere in it."""
    windows = sliding_window_view(prototypes, shape[1:], (2, 3))
    tops, lefts = (_draw(random, windows.shape[axis], len(chosen)) for axis in (2, 3))
    return windows[chosen, :, tops, lefts].astype(np.int16)


def _noisy(x: NDArray[np.int16], noise: float, random: RandomState) -> NDArray[np.uint8]:
    e = random.randint(0, 256, x.shape, dtype=np.uint8).astype(np.int16) - 128
    return np.clip(x + ((e * round(256 * noise)) >> 8), 0, 255).astype(np.uint8)


def _ellipses(count: int, side: int, random: RandomState) -> NDArray[np.int64]:
    """Targets (count, side, side): 0 in an ellipse, 2 on its border, 1 outside."""
    y, x = np.ogrid[:side, :side]
    middle = random.randint(3 * side // 8, 5 * side // 8, (2, count, 1, 1), dtype=np.int64)
    radii = random.randint(side // 6, side // 3, (2, count, 1, 1), dtype=np.int64)

    def within(margin: int) -> NDArray[np.bool_]:
        (top, left), (tall, wide) = middle, radii + margin
        inside: NDArray[np.bool_] = ((y - top) * wide) ** 2 + ((x - left) * tall) ** 2 <= (
            tall * wide
        ) ** 2
        return inside

    return np.where(within(0), 0, np.where(within(max(1, side // BORDER)), 2, 1))

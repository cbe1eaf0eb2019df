"""What stands between a real sum and a sign, as one comparison for each channel.

    sign(f(x)) = +1 where d x >= least,   d = +1 where f rises, -1 where it falls, 0: no turn

for an f that torch computes of each channel by itself, and that never turns back: scales, biases,
batch normalization with gamma of either sign, activations that do not fall. In float32 it does not
either, for rounding keeps the order of numbers. So one float32 of each channel is where the sign
turns, and bisection finds it: 33 questions to torch itself, whose answers no algebra could give.

The comparison is f's sign for every float32. NaN gives -1, as it does in training. Where gamma is 0
so do infinite sums, which f makes NaN of: 0 x is NaN for them too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bnnbench.errors import DataError
from bnnbench.packed import vectors
from bnnbench.packed.bits import Words, pack, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Function = Callable[[Tensor], Tensor]

INFINITE = 0x7F800000  #: the place of infinity among the float32 from 0 on


@dataclass(frozen=True)
class Turns:
    """For each channel the direction in which it turns, and the least product that is +1."""

    direction: NDArray[np.float32]
    least: NDArray[np.float32]

    def __call__(self, x: NDArray[np.float32]) -> Words:
        """Return the signs of sums (..., channels) as words (..., words(channels))."""
        channels = len(self.least)
        if not vectors.COMPILED:
            with np.errstate(invalid="ignore"):
                return pack(x * self.direction >= self.least)
        packed = np.empty((math.prod(x.shape[:-1]), words(channels)), np.uint64)
        rows = np.ascontiguousarray(x).reshape(-1, channels)
        vectors.pack_reaching(rows, self.direction, self.least, packed)
        return packed.reshape(*x.shape[:-1], words(channels))


def real_turning(function: Function, channels: int) -> Turns:
    """Return where the sign of a function of real numbers turns.

    Args:
        function: from float32 (values, channels) to the same shape, each column by itself, rising
            or falling: all that is done to a sum before its sign is taken.
        channels: of the sums.

    Raises:
        DataError: it makes NaN of a sum, as with parameters that are infinite or NaN.
    """
    most = np.finfo(np.float32).max
    asked = np.array([-np.inf, -most, 0, most, np.inf], np.float32)
    ends = _answers(function, np.repeat(asked[:, None], channels, axis=1))
    no_number, is_above = np.isnan(ends), ends >= 0
    is_flat = no_number[0] & no_number[4] & (is_above[1] == is_above[3])
    if no_number[1:4].any() or (no_number[[0, 4]] & ~is_flat).any():
        raise DataError(
            "what comes before a sign makes numbers of numbers, and here makes NaN of some; look at"
            " the parameters of the normalization"
        )
    direction = np.where(is_above[0] & ~is_above[4], -1, 1).astype(np.float32)
    least = np.where(is_flat, 1 - is_above[2], _least(function, direction)).astype(np.float32)
    return Turns(np.where(is_flat, np.float32(0), direction), least)


def _least(function: Function, direction: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least number, for each channel, whose product with the direction is +1; NaN if none."""
    low = np.full(len(direction), -INFINITE - 1)  # of these places the first is below the turn
    high = np.full(len(direction), INFINITE + 1)  # and the second is not
    while (high - low > 1).any():
        middle = (low + high) // 2
        reaches = _answers(function, (direction * _number(middle))[None])[0] >= 0
        low, high = np.where(reaches, low, middle), np.where(reaches, middle, high)
    return _number(high)


def _number(place: NDArray[np.int64]) -> NDArray[np.float32]:
    """The float32 of a place: 0 is 0.0, 1 the next larger one; beyond both infinities is NaN."""
    size = np.abs(place).astype(np.uint32).view(np.float32)
    signed = np.where(place < 0, -size, size)
    return np.where(np.abs(place) > INFINITE, np.float32(np.nan), signed)


def _answers(function: Function, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        found: NDArray[np.float32] = function(torch.from_numpy(x)).numpy()
    return found

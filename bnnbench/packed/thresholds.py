"""What stands between an integer and a sign, as one comparison for each channel.

    sign(norm(s)) = +1 where (s >= least) != falls

for whatever norm rises or falls: a scale, a bias, batch normalization with gamma of either sign.
Where gamma is 0 the sign is constant: least is :data:`ALWAYS`, and falls says which. sign(0) is +1,
as in :func:`bnnbench.binarization.sign`.

The turning point is not computed, but looked for: norm is evaluated, as torch's float32 has it, on
every integer that a sum of products can be. Rounding cannot make a difference then.

Max pooling goes well with it: max(s) >= least is an "or" of bits, for norms that rise and for those
that fall, as long as ``falls`` is taken into account after the pooling that precedes the norm.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bnnbench.errors import DataError
from bnnbench.packed.bits import Words, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ALWAYS = np.iinfo(np.int32).min  #: a threshold that every sum reaches
TOGETHER = 2**22  #: values that are looked at in one go


@dataclass(frozen=True)
class Thresholds:
    """For each channel the least sum that is +1, and whether it is the other way round."""

    least: NDArray[np.int32]
    falls: NDArray[np.bool_]

    def __post_init__(self) -> None:
        least, falls = self.least, self.falls
        right = least.dtype == np.int32 and falls.dtype == np.bool_ and least.ndim == 1
        if not right or least.shape != falls.shape or not len(least):
            raise DataError(
                "thresholds are int32 and bool, one of each for every channel, got"
                f" {least.dtype} {least.shape} and {falls.dtype} {falls.shape}; make them with"
                " bnnbench.packed.thresholds.turning"
            )

    def __call__(self, sums: NDArray[np.int32]) -> Words:
        """Return the signs of sums (..., channels) as words."""
        return pack((sums >= self.least) != self.falls)

    def most(self, base: NDArray[np.int32], length: int) -> NDArray[np.int32]:
        """Return how many products may be -1 where the sum is to reach the threshold.

        Args:
            base: (kinds, channels), the sum if none is -1.
            length: the products in a sum.
        """
        counts = (base.astype(np.int64) - self.least) // 2
        clipped: NDArray[np.int32] = np.clip(counts, -1, length).astype(np.int32)
        return clipped

    def turned(self, words: Words) -> Words:
        """Change, in place, the signs of channels that fall, in words (..., words(channels))."""
        if self._falling is not None:
            words ^= self._falling
        return words

    @functools.cached_property
    def _falling(self) -> Words | None:
        return pack(self.falls) if self.falls.any() else None


def turning(
    function: Callable[[Tensor], Tensor], length: int, channels: int, *, step: int = 2
) -> Thresholds:
    """Return the thresholds of a function that rises or falls in each channel.

    Args:
        function: from float32 (values, channels) to the same shape, each column by itself: all
            that is done to a sum before its sign is taken.
        length: products in a sum, which is between -length and length.
        channels: of the sums.
        step: 2, as a sum of ``length`` signs is even or odd as ``length`` is; 1 where some
            products can be 0, as at the rim of an image padded with 0.

    Raises:
        DataError: a channel turns more than once, or becomes NaN.
    """
    sums = np.arange(-length, length + 1, step, dtype=np.int32)
    above = _above(function, sums, channels)
    falls = above[0] & ~above[-1]
    rising = above != falls
    if (rising[1:] < rising[:-1]).any():
        channel = int((rising[1:] < rising[:-1]).any(0).argmax())
        raise DataError(
            "what comes before a sign rises or falls, and channel"
            f" {channel} does both; keep this sign as it is, after real numbers"
        )
    turn = rising.argmax(0)
    least = np.where(rising.any(0), sums[turn], ALWAYS).astype(np.int32)
    constant = above.all(0) | ~above.any(0)
    least[constant] = ALWAYS
    return Thresholds(least, np.where(constant, ~above[0], falls))


def _above(
    function: Callable[[Tensor], Tensor], sums: NDArray[np.int32], channels: int
) -> NDArray[np.bool_]:
    """Where the function is at least 0: (sums, channels)."""
    found = []
    for some in np.array_split(sums, max(1, len(sums) * channels // TOGETHER)):
        values = torch.from_numpy(some).float()[:, None].expand(-1, channels).contiguous()
        with torch.no_grad():
            result = function(values)
        if result.shape != values.shape or bool(result.isnan().any()):
            raise DataError(
                f"what comes before a sign turns {tuple(values.shape)} numbers into as many, got"
                f" {tuple(result.shape)} or NaN; look at the parameters of the normalization"
            )
        found.append((result >= 0).numpy())
    return np.concatenate(found)


def batch_norm(
    length: int,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    step: int = 2,
) -> Thresholds:
    """Return the thresholds of sign(batch_norm(scale * sum + shift)), in evaluation mode.

    Args:
        length: products in a sum.
        mean: the running mean (channels,).
        variance: the running variance (channels,).
        weight: gamma (channels,), 1 if left out.
        bias: beta (channels,), 0 if left out.
        eps: added to the variance.
        scale: of each filter (channels,), 1 if left out.
        shift: of each filter (channels,), as a bias of the layer, 0 if left out.
        step: see :func:`turning`.

    Raises:
        DataError: the parameters make NaN of a sum.
    """

    def function(sums: Tensor) -> Tensor:
        sums = sums if scale is None else sums * scale
        sums = sums if shift is None else sums + shift
        return functional.batch_norm(sums, mean, variance, weight, bias, eps=eps)

    return turning(function, length, len(mean), step=step)

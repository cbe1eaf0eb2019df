r"""Binary weights as signs: w = shift + scale sign, with a scale and a shift for each filter.

    w in {low, high}        scale = (high - low)/2,  shift = (high + low)/2

A filter of one value only has scale |w| and no shift. That there are no more than two values is
looked at, whatever the method says of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Signs(NamedTuple):
    """The weights of a layer: bits (filters, n), True for +1, and what gives them their size.

    ``scale`` (filters,) is None where all are 1, ``shift`` (filters,) where all are 0.
    """

    bits: NDArray[np.bool_]
    scale: NDArray[np.float32] | None
    shift: NDArray[np.float32] | None


def signs_of(weight: Tensor, layer: str) -> Signs:
    """Return a layer's weight (filters, ...) as signs.

    Raises:
        UsageError: a filter has a third value, or one that is not finite.
    """
    rows: NDArray[Any] = weight.detach().cpu().flatten(1).float().numpy()
    low, high = rows.min(1), rows.max(1)
    if not np.isfinite(rows).all():
        raise UsageError(f"weights must be finite to be packed, {layer!r} has some that are not")
    is_high = rows == high[:, None]
    wrong = np.flatnonzero(~(is_high | (rows == low[:, None])).all(1))
    if len(wrong):
        count = len(np.unique(rows[wrong[0]]))
        raise UsageError(
            f"one bit holds two values a filter, but filter {wrong[0]} of {layer!r} has {count};"
            " export a run whose weights are binary"
        )
    alone = low == high
    bits = np.where(alone[:, None], rows >= 0, is_high)
    scale = np.where(alone, np.abs(high), high / 2 - low / 2).astype(np.float32)
    shift = np.where(alone, 0, high / 2 + low / 2).astype(np.float32)
    return Signs(bits, None if (scale == 1).all() else scale, shift if shift.any() else None)


def bytes_of(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return bits (filters, n) in rows of bytes, the first in the lowest place.

    >>> bytes_of(np.array([[True, False, True], [False, False, False]]))
    array([[5],
           [0]], dtype=uint8)
    """
    return np.packbits(bits, axis=1, bitorder="little")

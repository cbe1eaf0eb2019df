"""Dense layers of binary weights, for binary and for real inputs.

binary inputs:  s_o = sum_i w_oi x_i, an int32, exact       bnnbench.packed.product
real inputs:    y_o = sum_i w_oi x_i, a float32             bnnbench.packed.sums
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnnbench.errors import DataError
from bnnbench.packed import sums
from bnnbench.packed.bits import Words, check, check_shape, unpack
from bnnbench.packed.product import Weights

if TYPE_CHECKING:
    from bnnbench.packed.thresholds import Thresholds


class _Dense:
    """What both kinds of inputs share.

    Args:
        weight: (outputs, words(length)).
        length: inputs.

    Raises:
        DataError: the weights are not so many words.
    """

    def __init__(self, weight: Words, length: int) -> None:
        check_weight(weight, length)
        self.length = length


class BinaryDense(_Dense):
    """Binary weights (outputs, words(length)) times binary inputs."""

    def __init__(self, weight: Words, length: int) -> None:
        super().__init__(weight, length)
        self.weights = Weights.of(weight, length)
        self.base = np.full((1, len(weight)), length, np.int32)
        self.limits = self.weights.limits(self.base)
        self._most: tuple[Any, NDArray[np.int32]] | None = None

    def __call__(self, x: Words) -> NDArray[np.int32]:
        """Return the sums of products (n, outputs) for inputs (n, words(length)).

        Raises:
            DataError: the inputs have another shape.
        """
        return self.weights.sums(self._rows(x), self.limits)

    def signs(self, x: Words, thresholds: Thresholds) -> Words:
        """Return the signs of the sums, packed: (n, words(outputs)).

        Raises:
            DataError: the inputs or the thresholds have another shape.
        """
        if self._most is None or self._most[0] is not thresholds:
            check_channels(thresholds, self.weights.outputs)
            most = thresholds.most(self.base, self.length)
            self._most = thresholds, self.weights.limits(most)
        return thresholds.turned(self.weights.signs(self._rows(x), self._most[1]))

    def _rows(self, x: Words) -> Words:
        check_shape(x, self.length)
        return np.ascontiguousarray(check_rows(x))


class RealDense(_Dense):
    """Binary weights (outputs, words(length)) times real inputs.

    The error of a sum is at most (10 + length/64) 2^-24 sum |x|.
    """

    def __init__(self, weight: Words, length: int) -> None:
        super().__init__(weight, length)
        self.weight = sums.arranged(weight)

    @property
    def totals(self) -> NDArray[np.int32]:
        """The sum of the weights of each output (outputs,): what an input of ones gives."""
        found: NDArray[np.int32] = unpack(self.weight.T, self.length).sum(-1, dtype=np.int32)
        return found

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums (n, outputs) of float32 inputs (n, length), each plus or minus.

        Raises:
            DataError: the inputs have another shape or are not float32.
        """
        if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != self.length:
            raise DataError(
                f"inputs of this layer are float32 (n, {self.length}), got {x.dtype} of shape"
                f" {x.shape}; convert them"
            )
        return sums.signed_sums(np.ascontiguousarray(x), self.weight, self.length)


def check_rows(x: Words) -> Words:
    """Return inputs if they are one row for each example.

    Raises:
        DataError: they are images or a single row.
    """
    if x.ndim != 2:
        raise DataError(
            f"a dense layer takes (n, words), got shape {x.shape}; join the words of images with"
            " bnnbench.packed.bits.joined"
        )
    return x


def check_weight(weight: Words, length: int) -> None:
    """Look at the weights of a dense layer.

    Raises:
        DataError: they are not (outputs, words(length)), or there are none.
    """
    check(weight, length)
    if weight.ndim != 2 or not len(weight):
        raise DataError(
            f"weights are (outputs, words), one output or more, got shape {weight.shape}; pack"
            " them row by row"
        )


def check_channels(thresholds: Thresholds, channels: int) -> None:
    """Look whether there is one threshold for each channel.

    Raises:
        DataError: there are more or fewer.
    """
    if len(thresholds.least) != channels:
        raise DataError(
            f"there is one threshold for each of {channels} channels, got"
            f" {len(thresholds.least)}; take those of the norm that follows this layer"
        )

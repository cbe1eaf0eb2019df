"""How the nodes of a packed network are computed: a step for each, or one for several at once.

binary layer -> [max_pool] -> threshold     one step, from bits to bits
binary layer -> norm, scale, ... -> sign    one step, from real numbers to bits
flatten -> binary_dense                     bits are closed up as they lie, (row, column,
channel); the weights' columns are put in that order
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from bnnbench.errors import DataError
from bnnbench.packed.bits import joined, pack
from bnnbench.packed.convolution import (
    BinaryConvolution,
    Geometry,
    RealConvolution,
    pack_filters,
)
from bnnbench.packed.dense import BinaryDense, RealDense
from bnnbench.packed.operations import EACH, KEEPING, REAL, through
from bnnbench.packed.pooling import Pooling, pooled
from bnnbench.packed.shapes import BITS, INTS
from bnnbench.packed.thresholds import Thresholds
from bnnbench.packed.turns import Turns, real_turning
from bnnbench.packed.values import Bits, Ints, bits, ints, real

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench.packed.description import Description
    from bnnbench.packed.shapes import Result


class Step(NamedTuple):
    """Computes the result ``name`` of those of some nodes before it."""

    name: str
    inputs: tuple[str, ...]
    run: Callable[..., Any]


class Plan:
    """Makes the steps of a network; ``fused`` does several nodes at once where that is faster."""

    def __init__(
        self,
        description: Description,
        tensors: Mapping[str, NDArray[Any]],
        results: Mapping[str, Result],
        *,
        fused: bool = True,
    ) -> None:
        self.nodes, self.tensors, self.results = description.nodes, tensors, results
        self.fused = fused
        taken = Counter(name for node in self.nodes for name in node.inputs)
        self.only = {
            name: node for node in self.nodes for name in node.inputs if taken[name] == 1
        }  # the one node that takes a result
        self.done: set[str] = set()

    def steps(self) -> list[Step]:
        """Return the steps in their order."""
        return [self._step(node) for node in self.nodes if node.name not in self.done]

    def _step(self, node: Any) -> Step:
        if node.op in ("binary_dense", "binary_conv"):
            return self._binary(node)
        if node.op == "threshold":
            thresholds = self._thresholds(node)
            return Step(node.name, node.inputs, lambda x: Bits(thresholds(x.array), node.channels))
        if node.op == "sign":
            return Step(node.name, node.inputs, bits)
        if node.op == "max_pool" and self._kind(node) == BITS:
            pooling = _pooling(node)
            return Step(
                node.name, node.inputs, lambda x: Bits(pooled(x.words, pooling), x.channels)
            )
        if self._joins(node):
            return Step(node.name, node.inputs, _joined)
        return Step(node.name, node.inputs, self._by_torch(node))

    def _kind(self, node: Any) -> str:
        return self.results[node.name].kind

    def _part(self, node: Any, end: str) -> NDArray[Any]:
        return self.tensors[f"{node.name}.{end}"]

    def _thresholds(self, node: Any) -> Thresholds:
        return Thresholds(self._part(node, "least"), self._part(node, "falls") != 0)

    def _by_torch(self, node: Any) -> Callable[..., Any]:
        """A node by torch on real numbers; what keeps its kind gets it back."""
        operation = (REAL | KEEPING)[node.op]
        parts = {end: torch.from_numpy(self._part(node, end)) for end in node.parts()}
        back: Any = {BITS: bits, INTS: ints}.get(self._kind(node), real)
        return lambda *x: back(operation(node, parts, [real(value) for value in x]))

    def _binary(self, node: Any) -> Step:
        """A binary layer, together with its threshold where it has one."""
        is_dense = node.op == "binary_dense"
        if self.results[node.inputs[0]].kind != BITS:
            return self._of_real(node)
        layer: Any = self._dense(node) if is_dense else self._conv(node)
        pool, threshold = self._fusible(node)
        if threshold is None:
            return Step(node.name, node.inputs, lambda x: Ints(layer(x.words)))
        self.done |= {n.name for n in (pool, threshold) if n is not None}
        given = [self._thresholds(threshold)] + ([_pooling(pool)] if pool else [])
        return Step(
            threshold.name,
            node.inputs,
            lambda x: Bits(layer.signs(x.words, *given), threshold.channels),
        )

    def _fusible(self, node: Any) -> tuple[Any, Any]:
        """The pooling and the threshold that alone take what a binary layer gives."""
        after, pool = self.only.get(node.name), None
        if after is not None and after.op == "max_pool":
            after, pool = self.only.get(after.name), after
        if not self.fused or after is None or after.op != "threshold":
            return None, None
        return pool, after

    def _dense(self, node: Any) -> BinaryDense:
        weight = self._signs(node, node.features)
        before = next((n for n in self.nodes if n.name == node.inputs[0]), None)
        if before is not None and self._joins(before):
            c, h, w = self.results[before.inputs[0]].shape
            weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return BinaryDense(pack(weight), node.features)

    def _joins(self, node: Any) -> bool:
        """Whether a node closes up an image of bits for binary layers alone."""
        if node.op != "flatten" or self._kind(node) != BITS or not self.fused:
            return False
        users = [n for n in self.nodes if node.name in n.inputs]
        is_image = len(self.results[node.inputs[0]].shape) == 3
        return is_image and all(user.op == "binary_dense" for user in users)

    def _conv(self, node: Any) -> BinaryConvolution:
        return BinaryConvolution(
            self._filters(node), node.channels, _geometry(node), node.pad_value
        )

    def _of_real(self, node: Any) -> Step:
        """A binary layer of real numbers, together with the sign that it leads to."""
        run = self._sums(node)
        nodes, sign = self._to_sign(node)
        turns = None if sign is None else self._turns(node, nodes)
        if sign is None or turns is None:
            back = _channels_first if node.op == "binary_conv" else torch.from_numpy
            return Step(node.name, node.inputs, lambda x: back(run(x)))
        self.done |= {n.name for n in (*nodes, sign)}
        channels = len(turns.least)
        return Step(sign.name, node.inputs, lambda x: Bits(turns(run(x)), channels))

    def _sums(self, node: Any) -> Callable[[Any], NDArray[np.float32]]:
        """What a binary layer makes of real numbers, with the channels last."""
        if node.op == "binary_dense":
            dense = RealDense(pack(self._signs(node, node.features)), node.features)
            return lambda x: dense(real(x).contiguous().numpy())
        filters, geometry = self._filters(node), _geometry(node)
        conv = RealConvolution(filters, node.channels, geometry, float(node.pad_value))
        return lambda x: conv(_channels_last(real(x)))

    def _to_sign(self, node: Any) -> tuple[list[Any], Any]:
        """The nodes between a layer and a sign that alone need its sums, and the sign or None."""
        nodes: list[Any] = []
        after = self.only.get(node.name) if self.fused else None
        while after is not None and after.op in EACH:
            nodes.append(after)
            after = self.only.get(after.name)
        return nodes, after if after is not None and after.op == "sign" else None

    def _turns(self, node: Any, nodes: list[Any]) -> Turns | None:
        """Where the sign turns, None where it may do so more than once."""
        channels, is_image = self.results[node.name].shape[0], node.op == "binary_conv"
        slopes = [self._part(n, "slope") for n in nodes if n.op == "prelu"]
        widens = any(n.op == "scale" and n.channels != channels for n in nodes)
        if widens or any((slope < 0).any() for slope in slopes):
            return None
        try:
            return real_turning(
                lambda x: through(nodes, self.tensors, x, is_image=is_image), channels
            )
        except DataError:  # it makes NaN of some sums
            return None

    def _filters(self, node: Any) -> NDArray[np.uint64]:
        signs = self._signs(node, node.taps)
        channels = node.channels // node.groups
        return pack_filters(signs.reshape(node.filters, channels, *node.kernel))

    def _signs(self, node: Any, count: int) -> NDArray[np.int8]:
        """The weights of a binary layer, +1 and -1, in torch's order: (filters, n)."""
        packed = self._part(node, "weight")
        ones = np.unpackbits(packed, axis=1, count=count, bitorder="little").astype(np.int8)
        return 2 * ones - 1


def _joined(x: Bits) -> Bits:
    words = joined(x.words, x.channels)
    return Bits(words, x.channels * int(np.prod(x.words.shape[1:-1])))


def _geometry(node: Any) -> Geometry:
    return Geometry(node.kernel, node.stride, node.padding, node.dilation, node.groups)


def _pooling(node: Any) -> Pooling:
    return Pooling(node.kernel, node.stride, node.padding, node.dilation, node.ceil)


def _channels_last(x: Tensor) -> NDArray[np.float32]:
    last: NDArray[np.float32] = x.permute(0, 2, 3, 1).contiguous().numpy()
    return last


def _channels_first(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()

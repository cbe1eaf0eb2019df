"""Thresholds: what lies between the integers of a binary layer and a sign is one comparison.

    sign(f(max_pool(n)))  =  (max_pool(n) >= least) != falls

f is all that is done to each channel by itself: scale, bias, batch normalization, an activation. It
is computed for every integer that the layer can reach, as torch computes it in float32, and must
turn once, up or down. What does not is left as it is: real numbers and a sign.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnnbench.errors import DataError
from bnnbench.packed import nodes as ops
from bnnbench.packed.operations import EACH, through
from bnnbench.packed.shapes import BITS, REALS, kind_of
from bnnbench.packed.thresholds import turning

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.packing.lowering import Draft


class _Chain:
    """The nodes from a binary layer of bits to a sign: before a pooling, the pooling, after it."""

    def __init__(self, layer: Any, before: list[Any], pool: Any, after: list[Any]) -> None:
        self.layer, self.before, self.pool, self.after = layer, before, pool, after
        is_dense = isinstance(layer, ops.BinaryDense)
        self.length = layer.features if is_dense else layer.taps
        self.channels = layer.outputs if is_dense else layer.filters
        self.is_image = not is_dense

    @property
    def step(self) -> int:
        """The distance of the integers: padding that counts as nothing changes their parity."""
        layer = self.layer
        return 1 if self.is_image and any(layer.padding) and layer.pad_value == 0 else 2


def folded(draft: Draft) -> None:
    """Replace what leads from a binary layer of bits to a sign by a threshold, where that can be.

    The threshold takes the name of the sign.
    """
    kinds = _kinds(draft)
    for sign in [node for node in draft.nodes.values() if isinstance(node, ops.SignOf)]:
        chain = _chain(draft, sign, kinds)
        if chain is not None:
            _fold(draft, sign, chain)


def _kinds(draft: Draft) -> dict[str, str]:
    found = {ops.INPUT: REALS}
    for node in draft.nodes.values():
        found[node.name] = kind_of(node, [found[name] for name in node.inputs])
    return found


def _chain(draft: Draft, sign: Any, kinds: dict[str, str]) -> _Chain | None:
    """The chain that ends with a sign, None where there is none or others need its results."""
    taken = Counter(name for node in draft.nodes.values() for name in node.inputs)
    before: list[Any] = []
    after: list[Any] = []
    pool, here = None, sign.inputs[0]
    while here != ops.INPUT and taken[here] == 1:
        node = draft.nodes[here]
        if isinstance(node, ops.BinaryDense | ops.BinaryConv):
            return _Chain(node, before, pool, after) if kinds[node.inputs[0]] == BITS else None
        if isinstance(node, ops.MaxPool) and pool is None:
            pool = node
        elif node.op in EACH:
            (before if pool else after).insert(0, node)
        else:
            return None
        here = node.inputs[0]
    return None


def _fold(draft: Draft, sign: Any, chain: _Chain) -> None:
    if chain.before and not _rises(draft, chain):
        return
    try:
        found = turning(
            lambda n: _through(draft, chain, [*chain.before, *chain.after], n),
            chain.length,
            chain.channels,
            step=chain.step,
        )
    except DataError:  # it turns more than once
        return
    threshold = ops.Threshold(
        name=sign.name,
        inputs=(chain.pool.name if chain.pool else chain.layer.name,),
        channels=chain.channels,
    )
    nodes = dict(draft.nodes)
    if chain.pool:
        nodes[chain.pool.name] = chain.pool.model_copy(update={"inputs": (chain.layer.name,)})
    nodes[sign.name] = threshold
    gone = {node.name for node in [*chain.before, *chain.after]}
    draft.tensors[f"{sign.name}.least"] = np.asarray(found.least, np.int32)
    draft.tensors[f"{sign.name}.falls"] = np.asarray(found.falls, np.uint8)
    draft.keep([node for node in nodes.values() if node.name not in gone])


def _rises(draft: Draft, chain: _Chain) -> bool:
    """Whether what is done before the pooling never falls, so that it can be done after it."""
    n = torch.arange(-chain.length, chain.length + 1, dtype=torch.float32)
    y = _through(draft, chain, chain.before, n[:, None].expand(-1, chain.channels))
    return bool((y.diff(dim=0) >= 0).all())


def _through(draft: Draft, chain: _Chain, nodes: list[Any], n: Tensor) -> Tensor:
    """What the nodes make of integers (values, channels), in the shape that the network has."""
    return through(nodes, draft.tensors, n, is_image=chain.is_image)

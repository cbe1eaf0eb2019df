"""Binary layers by themselves: what one is given in the trained network, what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnbench.packed import nodes as ops
from bnnbench.packed.plan import Plan
from bnnbench.packed.shapes import BITS
from bnnbench.packed.values import bits
from bnnbench.packing.modules import pair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from bnnbench.packed.network import PackedNetwork


class Alone:
    """The binary layers of a packed network, each to be called by itself.

    Args:
        packed: the packed network.
        nodes: its binary layers, by their names in the trained network.
    """

    def __init__(self, packed: PackedNetwork, nodes: Mapping[str, str]) -> None:
        described = {node.name: node for node in packed.description.nodes}
        self.nodes = {name: described[made] for name, made in nodes.items() if made in described}
        plan = Plan(packed.description, packed.tensors, packed.results, fused=False)
        self.steps = {step.name: step for step in plan.steps()}
        self.results = packed.results

    def takes_bits(self, name: str) -> bool:
        """Whether a layer's inputs are bits, not real numbers."""
        return self.results[self.nodes[name].inputs[0]].kind == BITS

    def given(self, name: str, module: nn.Module, x: Tensor) -> Any:
        """Return what the packed layer is given where the trained one is given ``x``."""
        inside = without_border(self.nodes[name], module, x)
        return bits(inside) if self.takes_bits(name) else inside.contiguous()

    def run(self, name: str, given: Any) -> Any:
        """Return what the packed layer makes of it."""
        return self.steps[self.nodes[name].name].run(given)


def watched(
    network: nn.Module, names: list[str], inputs: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the input and the output of some layers, by name."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Any:
        return lambda _module, given, result: seen.__setitem__(name, (given[0], result))

    handles = [network.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def without_border(node: Any, module: Any, x: Tensor) -> Tensor:
    """Return what a layer is given, without the border that the packed layer adds itself."""
    if not isinstance(node, ops.BinaryConv):
        return x
    rows, columns = (p - q for p, q in zip(node.padding, pair(module.padding), strict=True))
    return x[:, :, rows : x.shape[2] - rows, columns : x.shape[3] - columns]

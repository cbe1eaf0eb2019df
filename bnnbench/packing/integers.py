"""What the binary layers of a packed network make of bits, against the trained layers.

    y = b + alpha n + mu t      alpha = (high - low)/2,  mu = (high + low)/2, of each filter
    n = sum sign(w) x           the packed layer's integers
    t = sum x                   the packed sum of the inputs, where mu is not 0

y is what the trained layer gives, and is off by at most g(k + 3) (|b| + sum |w|), whatever the
order of the sum: see :mod:`bnnbench.packing.rounding`. It is compared as the network has it, in
float32, and computed by the same layer in float64. Where that is off by less than alpha/2 no other
integer has this y: n is equal, not just near. A filter of zeros says nothing of its integers, so
that they do not count.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnnbench.packed import nodes as ops
from bnnbench.packed.plan import Plan
from bnnbench.packed.shapes import BITS
from bnnbench.packed.values import bits, real
from bnnbench.packing.modules import pair
from bnnbench.packing.parity import WAY_OUT, ParityError
from bnnbench.packing.rounding import UNIT, roundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from bnnbench.packed.network import PackedNetwork
    from bnnbench.packing.modules import Layer

WIDE = 2.0**-53  #: the unit of float64


class Integers(NamedTuple):
    """What was found equal: numbers, of so many layers; ``left`` are filters that have none."""

    layers: int = 0
    numbers: int = 0
    left: int = 0


@torch.no_grad()
def integers(
    trained: nn.Module, packed: PackedNetwork, layers: Mapping[str, Layer], inputs: Tensor
) -> Integers:
    """Compare what binary layers make of bits, given the inputs that they have when trained.

    Args:
        trained: the trained network, with the weights that were packed.
        packed: the packed network.
        layers: the packed nodes of its binary layers, by their names in the trained network.
        inputs: of the network.

    Raises:
        ParityError: an integer differs.
    """
    seen = _seen(trained, [*layers], inputs)
    plan = Plan(packed.description, packed.tensors, packed.results, fused=False)
    nodes = {node.name: node for node in packed.description.nodes}
    steps = {step.name: step for step in plan.steps()}
    found = Integers()
    for name, layer in layers.items():
        node = nodes.get(layer.node)
        if node is None or name not in seen or packed.results[node.inputs[0]].kind != BITS:
            continue
        module: Any = trained.get_submodule(name)
        x = bits(_without_border(node, module, seen[name].x))
        n = real(steps[layer.node].run(x))
        t = real(steps[layer.total].run(x)) if layer.total else torch.zeros(())
        fits = _fitting(module, seen[name], n, t)
        if fits is None:
            raise ParityError(
                f"the integers of a binary layer must be equal, those of {name!r} are not;"
                f" {WAY_OUT}"
            )
        count, left = n[:, fits].numel(), int((~fits).sum())
        found = Integers(found.layers + 1, found.numbers + count, found.left + left)
    return found


class _Seen(NamedTuple):
    """What a layer was given, and what it gave."""

    x: Tensor
    y: Tensor


def _seen(network: nn.Module, names: list[str], inputs: Tensor) -> dict[str, _Seen]:
    """The inputs and the outputs of some layers."""
    seen: dict[str, _Seen] = {}

    def hook(name: str) -> Any:
        return lambda _module, given, result: seen.__setitem__(name, _Seen(given[0], result))

    handles = [network.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _without_border(node: Any, module: Any, x: Tensor) -> Tensor:
    """What a layer is given, without the border that the packed layer adds itself."""
    if not isinstance(node, ops.BinaryConv):
        return x
    rows, columns = (p - q for p, q in zip(node.padding, pair(module.padding), strict=True))
    return x[:, :, rows : x.shape[2] - rows, columns : x.shape[3] - columns]


def _fitting(module: Any, seen: _Seen, n: Tensor, t: Tensor) -> Tensor | None:
    """The filters (filters,) whose integers are those of y, None where one is another."""
    wide = copy.deepcopy(module).double()
    weight = wide.weight.flatten(1)
    low, high = weight.amin(1), weight.amax(1)
    is_alone = low == high
    alpha = torch.where(is_alone, high.abs(), (high - low) / 2)
    mu = torch.where(is_alone, 0.0, (high + low) / 2)
    bias = torch.zeros_like(mu) if wide.bias is None else wide.bias
    size, count = weight.abs().sum(1) + bias.abs(), weight.shape[1] + 3
    fits: Tensor = roundings(count, WIDE) * size < alpha / 2
    each = (1, -1, *[1] * (n.ndim - 2))
    expected = bias.view(each) + alpha.view(each) * n.double() + mu.view(each) * t.double()
    for y, unit in ((seen.y, UNIT), (wide(seen.x.double()), WIDE)):
        off_by = roundings(count, unit) * size.view(each)
        if not ((y - expected).abs() <= off_by)[:, fits].all():
            return None
    return fits

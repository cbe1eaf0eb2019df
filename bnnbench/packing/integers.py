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

from bnnbench.packed.values import real
from bnnbench.packing.layers import Alone, watched
from bnnbench.packing.parity import WAY_OUT, ParityError
from bnnbench.packing.rounding import UNIT, roundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from bnnbench.packed.network import PackedNetwork
    from bnnbench.packing.modules import Layer

WIDE = 2.0**-53  #: the unit of float64


class Integers(NamedTuple):
    """What was found equal: integers, of so many layers; ``left`` are filters without any."""

    layers: int = 0
    equal: int = 0
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
    seen = watched(trained, [*layers], inputs)
    alone = Alone(packed, {name: layer.node for name, layer in layers.items()})
    found = Integers()
    for name in alone.nodes:
        if name not in seen or not alone.takes_bits(name):
            continue
        (given, y), total = seen[name], layers[name].total
        module: Any = trained.get_submodule(name)
        x = alone.given(name, module, given)
        n = real(alone.run(name, x))
        t = real(alone.steps[total].run(x)) if total else torch.zeros(())
        fits = _fitting(module, given, y, n, t)
        if fits is None:
            raise ParityError(
                f"the integers of a binary layer must be equal, those of {name!r} are not;"
                f" {WAY_OUT}"
            )
        count, left = n[:, fits].numel(), int((~fits).sum())
        found = Integers(found.layers + 1, found.equal + count, found.left + left)
    return found


def _fitting(module: Any, x: Tensor, y: Tensor, n: Tensor, t: Tensor) -> Tensor | None:
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
    for got, unit in ((y, UNIT), (wide(x.double()), WIDE)):
        off_by = roundings(count, unit) * size.view(each)
        if not ((got - expected).abs() <= off_by)[:, fits].all():
            return None
    return fits

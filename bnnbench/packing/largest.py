"""The largest binary layers of a network by themselves, packed and as PyTorch computes them.

Of each kind, dense and convolution, it is the layer of the most multiplications; one whose inputs
are bits comes before any other. It is given what it is given in the trained network. Packed, bits
come as words and sums go out as integers: neither packing nor a threshold is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.deployments import BATCHES, BEST, DEFAULT, ONE_BIT, PACKED, Layer
from bnnbench.packing.layers import Alone, watched, without_border
from bnnbench.packing.timing import timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from bnnbench import summary

WANTED = (PACKED, DEFAULT, BEST)
KINDS = {"binary_dense": "dense", "binary_conv": "convolution"}


def largest(alone: Alone, layers: Sequence[summary.Layer]) -> list[summary.Layer]:
    """Return of each kind the largest layer, of bits where there is one."""
    found: dict[str, summary.Layer] = {}
    for layer in layers:
        if layer.name in alone.nodes:
            kind = alone.nodes[layer.name].op
            found[kind] = max(
                found.get(kind, layer), layer, key=lambda a: (alone.takes_bits(a.name), a.macs)
            )
    return list(found.values())


@torch.no_grad()
def timed_layers(
    network: nn.Module, alone: Alone, layers: Sequence[summary.Layer], inputs: Tensor, rounds: int
) -> tuple[Layer, ...]:
    """Return how long the largest layers take, for batches of the network's inputs.

    Args:
        network: trained, in evaluation mode.
        alone: its layers, packed.
        layers: those that it is made of.
        inputs: of the network, as many as the largest batch has.
        rounds: visits of each way.
    """
    chosen = largest(alone, layers)
    seen = watched(network, [layer.name for layer in chosen], inputs)
    return tuple(_timed(network, alone, layer, *seen[layer.name], rounds) for layer in chosen)


def _timed(
    network: nn.Module, alone: Alone, layer: summary.Layer, x: Tensor, y: Tensor, rounds: int
) -> Layer:
    module, node = network.get_submodule(layer.name), alone.nodes[layer.name]
    timings = []
    for batch in BATCHES:
        some = x[:batch].contiguous()
        given = alone.given(layer.name, module, some)
        run = _of(alone, layer.name, given)
        timings += timed(module, run, some, rounds, wanted=WANTED)
    inside = without_border(node, module, x)
    return Layer(
        timings=tuple(timings),
        name=layer.name,
        kind=KINDS[node.op],
        shape=_shape(inside, y, node),
        bits=ONE_BIT if alone.takes_bits(layer.name) else "1/32",
        macs=layer.macs,
    )


def _of(alone: Alone, name: str, given: Any) -> Any:
    """The packed layer on what is given, whatever torch's layer is called with."""
    return lambda _: alone.run(name, given)


def _shape(x: Tensor, y: Tensor, node: Any) -> str:
    """Inputs and outputs of a layer in words.

    A convolution's have the size of its filters too.
    """
    sizes = " → ".join("×".join(map(str, each.shape[1:])) for each in (x, y))
    kernel = getattr(node, "kernel", None)
    return sizes if kernel is None else f"{sizes}, {kernel[0]}×{kernel[1]}"

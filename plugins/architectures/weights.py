"""Layers with binary or real weights, as Lasagne initializes them: Glorot's uniform, zero biases.

    glorot     U(-s b, s b), b = sqrt(6/(fan_in + fan_out)), s = 1; a convolution's fans count the
               area of its kernel
    uniform    U(-s, s)
    normal     N(0, s^2)

source: Glorot and Bengio (2010); the public scripts of BinaryConnect and BNN; uniform and normal
for the comparison in Sun and Yang's report on BinaryConnect (Columbia), section 5.2
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import nn

from bnnbench.layers import BinaryConv2d, BinaryLinear

if TYPE_CHECKING:
    from collections.abc import Iterator

Weights = Literal["binary", "real"]
PadValue = Literal[-1, 0, 1]  #: what the padding of a convolution's inputs holds
Whole = Annotated[int, Ge(1)]
Draw = Literal["glorot", "uniform", "normal"]
DrawScale = Annotated[float, Gt(0)]  #: half a width, a deviation, or a factor of Glorot's bound


def dense_layer(
    inputs: int, outputs: int, weights: Weights = "binary", *, bias: bool = False
) -> nn.Linear:
    """Return a dense layer, its weights from Glorot's U(-b, b), b = sqrt(6/(fan_in + fan_out)).

    The bias, where there is one, is real and 0 at first.
    """
    layer = (BinaryLinear if weights == "binary" else nn.Linear)(inputs, outputs, bias=bias)
    _initialize(layer)
    return layer


def conv_layer(
    inputs: int,
    outputs: int,
    kernel: int,
    weights: Weights = "binary",
    *,
    stride: int = 1,
    padding: int = 0,
    pad_value: PadValue = 0,
    bias: bool = False,
) -> nn.Module:
    """Return a square convolution from Glorot's uniform, with the padding of its inputs.

    It is the convolution itself where there is no padding or one of zeros, else a sequence of
    ``padding`` and ``conv``. The bias, where there is one, is real and 0 at first.
    """
    if not (padding and pad_value):
        return _conv_layer(inputs, outputs, kernel, weights, stride, padding, bias=bias)
    pad = nn.ConstantPad2d(padding, pad_value)
    conv = _conv_layer(inputs, outputs, kernel, weights, stride, 0, bias=bias)
    return nn.Sequential(OrderedDict(padding=pad, conv=conv))


def convolution(
    number: int,
    inputs: int,
    outputs: int,
    kernel: int,
    weights: Weights = "binary",
    *,
    padding: int = 0,
    pad_value: PadValue = 0,
    bias: bool = False,
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers of convolution ``number`` of a plain stack: [padding], conv.

    Padding is a layer of its own so that the convolution's name does not depend on what it holds.
    The first convolution sees the network's inputs: its padding is zeros whatever ``pad_value`` is.
    """
    if padding and pad_value and number > 1:
        yield f"padding{number}", nn.ConstantPad2d(padding, pad_value)
        padding = 0
    yield f"conv{number}", _conv_layer(inputs, outputs, kernel, weights, 1, padding, bias=bias)


def _conv_layer(
    inputs: int,
    outputs: int,
    kernel: int,
    weights: Weights,
    stride: int,
    padding: int,
    *,
    bias: bool,
) -> nn.Conv2d:
    kind = BinaryConv2d if weights == "binary" else nn.Conv2d
    layer = kind(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)
    _initialize(layer)
    return layer


def _initialize(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def drawn(network: nn.Sequential, init: Draw, scale: float) -> nn.Sequential:
    """Return the network, all its weights drawn as ``init`` says; biases stay.

    "glorot" is how they come, times ``scale``: with 1 nothing changes. "uniform" is
    U(-scale, scale), "normal" N(0, scale^2).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _draw(layer.weight, init, scale)
    return network


@torch.no_grad()
def _draw(weight: torch.Tensor, init: Draw, scale: float) -> None:
    if init == "glorot":
        weight.mul_(scale)
    elif init == "uniform":
        weight.uniform_(-scale, scale)
    else:
        weight.normal_(0, scale)

"""ReActNet: Bi-Real Net whose signs and PReLUs are shifted, channel by channel, as is learned.

    reactnet-a    32C3/2 - norm - 64 - 128 - 128 - 256 - 256 - 6 x 512 - 1024 - 1024
                  - global average pooling - dense;    13 blocks, after MobileNet-V1
        block     x -> rsign -> C3 -> norm -> + x (AP2 of it, where C3 has stride 2) -> rprelu
                    -> rsign -> C1 -> norm -> + x                                     -> rprelu
        doubling  a = rsign(x);  [C1(a) -> norm -> + x,  C1(a) -> norm -> + x] -> rprelu

    reactnet-18   64C7/2 - norm - MP3/2 - 4 x 64 - 4 x 128 - 4 x 256 - 4 x 512
                  - global average pooling - dense
        block     x -> rsign -> C3 -> norm -> + shortcut(x) -> rprelu

C3 keeps the number of channels in reactnet-a. Where a block doubles them, two C1 read the same
signs, the input is added to each, and the results lie side by side: no shortcut has a weight. All
doubling blocks but the first have stride 2. Shortcuts of reactnet-18 are Bi-Real Net's.
For small images ``stem = "cifar"`` begins with a C3 of stride 1 and no pooling.

source: the official code of ReActNet (Liu et al., 2020), ``mobilenet`` and ``resnet``; the paper's
table gives reactnet-a 4.82e9 binary and 0.12e8 real operations
departs from the code: weights are Glorot's, there U(0, 0.001), all signs +1 (``init = "bireal"``);
their scale mean|w| is the method's; sign(0) is +1, there 0
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from bnnbench_plugins.architectures.activations import Activation, RPReLU
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.residual import (
    Residual,
    Stem,
    Style,
    end_layers,
    initialized,
    pooled_shortcut,
    stages,
    stem_layers,
)
from bnnbench_plugins.architectures.weights import PadValue, Weights, Whole, conv_layer

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLES = (1, 2, 4, 4, 8, 8, *[16] * 6, 32, 32)  #: filters of conv1 and the blocks, over width


class Doubling(nn.Module):
    """[C1(a) -> norm -> + x, C1(a) -> norm -> + x], a = activation(x): twice the channels."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.activation = style.act(channels)
        self.half1 = _pointwise(style, channels)
        self.half2 = _pointwise(style, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, 2 channels, height, width)."""
        a = self.activation(x)
        return torch.cat([self.half1(a) + x, self.half2(a) + x], dim=1)


def _pointwise(style: Style, channels: int) -> nn.Module:
    conv = style.conv(channels, channels, kernel=1)
    return nn.Sequential(OrderedDict(conv=conv, norm=style.norm(channels)))


def reactnet_a(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 32,
    activation: Activation = "rsign",
    first: Weights = "real",
    last: Weights = "real",
    stem: Stem = "imagenet",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["glorot", "bireal"] = "glorot",
) -> nn.Module:
    """Return ReActNet-A, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first convolution; up to 32 times as many in the last blocks (32).
        activation: before each binary convolution ("rsign").
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        stem: the first convolution has stride 2 ("imagenet", published) or 1 ("cifar").
        pad_value: what the padding of binary activations holds (0, a third value).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        init: of the weights; Glorot's uniform, or the code's, by which every sign begins as +1.

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("reactnet-a", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    stride = 2 if stem == "imagenet" else 1
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_layer(channels, width, 3, first, stride=stride, padding=1),
        norm1=style.norm(width),
    )
    sizes = [width * multiple for multiple in MULTIPLES]
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        stride = 2 if outputs > inputs and number > 1 else 1
        layers[f"block{number}"] = _block_a(style, inputs, outputs, stride)
    layers |= end_layers(sizes[-1], classes, last)
    return initialized(nn.Sequential(layers), init)


def _block_a(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2, ceil_mode=True)
    spatial = Residual(style.branch(inputs, inputs, stride), pool)
    pointwise = (
        Residual(style.branch(inputs, outputs, kernel=1), nn.Identity())
        if inputs == outputs
        else Doubling(style, inputs)
    )
    return nn.Sequential(
        OrderedDict(
            spatial=spatial, rprelu1=RPReLU(inputs), pointwise=pointwise, rprelu2=RPReLU(outputs)
        )
    )


def reactnet18(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    activation: Activation = "rsign",
    first: Weights = "real",
    last: Weights = "real",
    stem: Stem = "imagenet",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["glorot", "bireal"] = "glorot",
) -> nn.Module:
    """Return ReActNet of 18 layers, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then 2, 4 and 8 times as many (64).
        activation: before each binary convolution ("rsign").
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        stem: "imagenet" reduces the sides to a quarter before the first stage (published), "cifar"
            leaves them: for images of up to 64 x 64.
        pad_value: what the padding of binary activations holds (0, a third value).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        init: of the weights; Glorot's uniform, or the code's, by which every sign begins as +1.

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("reactnet-18", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    layers = OrderedDict(stem_layers(style, channels, width, first, stem))
    layers |= stages(width, [width * k for k in (1, 2, 4, 8)], 4, partial(_block18, style))
    layers |= end_layers(8 * width, classes, last)
    return initialized(nn.Sequential(layers), init)


def _block18(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    branch = style.branch(inputs, outputs, stride)
    shortcut = pooled_shortcut(style, inputs, outputs, stride)
    return nn.Sequential(OrderedDict(residual=Residual(branch, shortcut), rprelu=RPReLU(outputs)))

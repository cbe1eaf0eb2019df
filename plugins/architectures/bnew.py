"""The small ReActNet of the BNEW poster, called ``brn`` in its code.

    16C3 - norm - MP3/2 - 6 x 16 - 6 x 32 - 6 x 64 - global average pooling - dense

    block    x -> rsign -> C3 -> scale -> norm -> + shortcut(x) -> rprelu

    shortcut    x itself; AP2 - real C1 - norm in the first block of the second and third stage,
                whose convolution has stride 2
    scale       s x, one s for each channel, 1 at first
    rsign       sign(x + b), the quadratic gradient        rprelu    PReLU(x + b) + c

The max-pooling makes 16 x 16 of an image of 32 x 32 before the first stage: 10.0 million binary
multiplications and additions in all, a quarter of a ResNet-20's.

source: the official code of BNEW (Paren and Poudel, 2022)
departs from the code: sign(0) is +1, there 0
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from bnnbench_plugins.architectures.activations import Activation, RPReLU
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.residual import (
    Residual,
    Style,
    end_layers,
    initialized,
    pooled_shortcut,
    stages,
)
from bnnbench_plugins.architectures.weights import PadValue, Weights, Whole, conv_layer

if TYPE_CHECKING:
    from torch import Tensor


class Scale(nn.Module):
    """s x, one s for each channel (dimension 1), 1 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled inputs; same shape as ``x``."""
        return x * self.s.view(-1, 1, 1)


def bnew_small(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 16,
    blocks: Whole = 6,
    activation: Activation = "rsign",
    first: Weights = "real",
    last: Weights = "real",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["torch", "glorot"] = "torch",
) -> nn.Module:
    """Return a network from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then twice, then four times as many (16).
        blocks: blocks of each stage, of one binary convolution each (6).
        activation: before each binary convolution ("rsign").
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        pad_value: what the padding of binary activations holds (0, a third value).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        init: of the weights; torch's own (the code's), or Glorot's uniform.

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("bnew-small", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return _block(style, inputs, outputs, stride)

    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_layer(channels, width, 3, first, padding=1),
        norm1=style.norm(width),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
    )
    layers |= stages(width, [width, 2 * width, 4 * width], blocks, block)
    layers |= end_layers(4 * width, classes, last)
    return initialized(nn.Sequential(layers), init)


def _block(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    branch = OrderedDict(
        activation=style.act(inputs),
        conv=style.conv(inputs, outputs, stride),
        scale=Scale(outputs),
        norm=style.norm(outputs),
    )
    shortcut = pooled_shortcut(style, inputs, outputs, stride)
    return nn.Sequential(
        OrderedDict(residual=Residual(nn.Sequential(branch), shortcut), rprelu=RPReLU(outputs))
    )

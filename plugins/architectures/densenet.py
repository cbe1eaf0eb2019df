"""BinaryDenseNet-28: every layer adds channels to all that came before, and nothing is overwritten.

    64C7/2 - norm - relu - MP3/2 - 6 layers - / 2.7 - 6 layers - / 2.7 - 6 layers - / 2.2 - 5 layers
    - norm - relu - global average pooling - dense

    layer       x -> [x, sign(norm(x)) -> 64C3]        64 new channels, no bottleneck
    / r         norm - MP2 - relu - real C1            so many channels go on:
                round(floor(c / r) / 32) 32            448 -> 160, 544 -> 192, 576 -> 256

28 layers are conv1, 23 binary convolutions, 3 transitions and the output. For small images
``stem = "cifar"`` begins with 64C3 alone.

source: Bethge et al. (2019), BinaryDenseNet; the authors' public code for the order of a
transition's layers and the rounding; 4,202,496 binary weights of 5,150,504 values for ImageNet, in
Larq Zoo's copy too
departs from the code: weights are Glorot's uniform, there normal; sides that are odd are rounded up
by a transition's pooling, there down (none is, for 224 x 224). Larq's copy has the gradient of
hard tanh up to |x| = 1.3, here 1 ("sign")
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnnbench_plugins.architectures.activations import Activation
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.residual import Stem, Style, end_layers
from bnnbench_plugins.architectures.weights import PadValue, Weights, Whole, conv_layer

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = (6, 6, 6, 5)  #: of the four blocks
REDUCTIONS = (2.7, 2.7, 2.2)  #: what the transitions between them divide the channels by


class Dense(nn.Module):
    """[x, branch(x)], side by side."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Return all old channels and the new ones; height and width stay."""
        return torch.cat([x, self.branch(x)], dim=1)


def binarydensenet28(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    activation: Activation = "sign",
    first: Weights = "real",
    last: Weights = "real",
    stem: Stem = "imagenet",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
) -> nn.Module:
    """Return BinaryDenseNet-28, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first convolution and of every layer, the growth (64); transitions
            round to multiples of half of it.
        activation: before each binary convolution ("sign": the gradient of hard tanh).
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        stem: "imagenet" reduces the sides to a quarter before the first block (published), "cifar"
            leaves them: for images of up to 64 x 64.
        pad_value: what the padding of binary activations holds (0, a third value).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).

    Raises:
        UsageError: the input is not an image.
    """
    inputs = image("binarydensenet28", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    layers = _stem(style, inputs, width, first, stem)
    channels = width
    for number, (count, reduction) in enumerate(zip(LAYERS, (*REDUCTIONS, None), strict=True), 1):
        layers[f"block{number}"] = _block(style, channels, count, width)
        channels += count * width
        if reduction is not None:
            reduced = _reduced(channels, reduction, width)
            layers[f"transition{number}"] = _transition(style, channels, reduced)
            channels = reduced
    layers["norm"] = style.norm(channels)
    layers["relu"] = nn.ReLU()
    layers |= end_layers(channels, classes, last)
    return nn.Sequential(layers)


def _stem(
    style: Style, channels: int, filters: int, first: Weights, stem: Stem
) -> OrderedDict[str, nn.Module]:
    if stem == "cifar":
        return OrderedDict(conv1=conv_layer(channels, filters, 3, first, padding=1))
    return OrderedDict(
        conv1=conv_layer(channels, filters, 7, first, stride=2, padding=3),
        norm1=style.norm(filters),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
    )


def _block(style: Style, channels: int, count: int, growth: int) -> nn.Module:
    return nn.Sequential(
        *(_layer(style, channels + number * growth, growth) for number in range(count))
    )


def _layer(style: Style, channels: int, growth: int) -> nn.Module:
    branch = OrderedDict(
        norm=style.norm(channels),
        activation=style.act(channels),
        conv=style.conv(channels, growth),
    )
    return Dense(nn.Sequential(branch))


def _reduced(channels: int, reduction: float, width: int) -> int:
    """How many channels leave a transition: a multiple of half the width."""
    unit = max(width // 2, 1)
    return round(channels // reduction / unit) * unit


def _transition(style: Style, channels: int, reduced: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            norm=style.norm(channels),
            pool=nn.MaxPool2d(2, ceil_mode=True),
            relu=nn.ReLU(),
            conv=conv_layer(channels, reduced, 1, "real"),
        )
    )

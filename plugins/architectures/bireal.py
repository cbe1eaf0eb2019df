"""Bi-Real Net: a shortcut around every binary convolution, so that real values go through.

    bireal18    64C7/2 - norm - MP3/2 - 4 x 64 - 4 x 128 - 4 x 256 - 4 x 512
                - global average pooling - dense
        block   x -> sign -> C3 -> norm -> + shortcut(x);    no other activation anywhere

    bireal20    16C3 - norm - hardtanh - 6 x 16 - 6 x 32 - 6 x 64
                - global average pooling - norm - dense
        block   x -> sign -> C3 -> norm -> + shortcut(x) -> hardtanh

The first block of every stage but the first has stride 2. Its shortcut is AP2 - real C1 - norm in
bireal18; in bireal20 every second pixel and channels of zeros (option A), without a weight.
For small images ``stem = "cifar"`` begins bireal18 with 64C3 - norm instead.

source: the official PyTorch code of Bi-Real Net (Liu et al., 2018) for bireal18; IR-Net's public
code (Qin et al., 2020) for bireal20, the ResNet-20 in which methods are compared on CIFAR-10
departs from Bi-Real Net: weights are Glorot's, there U(0, 0.001), all signs +1 (``init =
"bireal"``); their scale mean|w| is the method's, not the network's
departs from IR-Net: the gradient of the activations is Bi-Real Net's (``activation = "ede"`` is
IR-Net's own), and weights are not standardized, which is its method's
departs from both: sign(0) is +1, there 0
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal

from torch import nn

from bnnbench_plugins.architectures.activations import Activation
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.residual import (
    PaddedShortcut,
    Residual,
    Stem,
    Style,
    end_layers,
    initialized,
    pooled_shortcut,
    stages,
    stem_layers,
)
from bnnbench_plugins.architectures.weights import (
    PadValue,
    Weights,
    Whole,
    conv_layer,
    dense_layer,
)


def bireal18(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    activation: Activation = "quadratic",
    first: Weights = "real",
    last: Weights = "real",
    stem: Stem = "imagenet",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["glorot", "bireal"] = "glorot",
) -> nn.Module:
    """Return Bi-Real Net of 18 layers, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then 2, 4 and 8 times as many (64).
        activation: before each binary convolution ("quadratic": the sign with that gradient).
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
    channels = image("bireal18", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    layers = OrderedDict(stem_layers(style, channels, width, first, stem))
    layers |= stages(width, [width * k for k in (1, 2, 4, 8)], 4, partial(_block18, style))
    layers |= end_layers(8 * width, classes, last)
    return initialized(nn.Sequential(layers), init)


def _block18(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    return Residual(
        style.branch(inputs, outputs, stride), pooled_shortcut(style, inputs, outputs, stride)
    )


def bireal20(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 16,
    activation: Activation = "quadratic",
    first: Weights = "real",
    last: Weights = "real",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["he", "glorot"] = "he",
) -> nn.Module:
    """Return the ResNet-20 of IR-Net's comparison, from images to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then twice, then four times as many (16).
        activation: before each binary convolution ("quadratic"; IR-Net's own is "ede").
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        pad_value: what the padding of binary activations holds (0, a third value).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        init: of the weights; He's normal (IR-Net's), or Glorot's uniform.

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("bireal20", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_layer(channels, width, 3, first, padding=1),
        norm1=style.norm(width),
        hardtanh1=nn.Hardtanh(),
    )
    layers |= stages(width, [width, 2 * width, 4 * width], 6, partial(_block20, style))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["norm"] = nn.BatchNorm1d(4 * width, eps=bn_eps, momentum=bn_momentum)
    layers["fc"] = dense_layer(4 * width, classes, last, bias=True)
    return initialized(nn.Sequential(layers), init)


def _block20(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    shortcut = nn.Identity() if stride == 1 else PaddedShortcut(inputs, outputs)
    residual = Residual(style.branch(inputs, outputs, stride), shortcut)
    return nn.Sequential(OrderedDict(residual=residual, hardtanh=nn.Hardtanh()))

"""The VGG-like network of BinaryConnect, BNN and Bop, and its three published settings.

    2 x (w)C3 - MP2 - 2 x (2w)C3 - MP2 - 2 x (4w)C3 - MP2 - 2 x (dense)FC - classes

    convolution -> [max-pool] -> norm -> activation -> [dropout];  output: dense -> norm

Pooling comes before the sign: the maximum of signs would nearly always be +1.

    bc-vgg           w = 128, dense = 1024, real activations (BinaryConnect, CIFAR-10)
    bc-vgg-svhn      w = 64, dense = 1024 (BinaryConnect, SVHN)
    bop-binarynet    w = 128, dense = 1024, signs; the first convolution sees no border, the
                     normalization learns no scale (Bop, CIFAR-10)

source: the public CIFAR-10 and SVHN scripts of BinaryConnect and BNN; Bop's public code
departs from the scripts: no bias, which the normalization would cancel; BinaryConnect's
normalization adds eps to the deviation and averages deviations, torch's does so with variances
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import nn

from bnnbench_plugins.architectures.activations import Activation, Dropout, after_norm
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum, without_scale
from bnnbench_plugins.architectures.weights import (
    Draw,
    DrawScale,
    PadValue,
    Weights,
    Whole,
    convolution,
    dense_layer,
    drawn,
)

Padding = Literal["same", "valid-first"]


def binarynet(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 128,
    dense: Whole = 1024,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    first: Weights = "binary",
    last: Weights = "binary",
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-4,
    bn_scale: bool = True,
    padding: Padding = "same",
    pad_value: PadValue = 0,
    init: Draw = "glorot",
    init_scale: DrawScale = 1.0,
) -> nn.Module:
    """Return a network from inputs (batch, channels, height, width) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first two convolutions; then twice, then four times as many.
        dense: units of the two hidden dense layers.
        activation: of the hidden layers; "relu", "hardtanh" and "rprelu" are real, the others of
            one bit.
        dropout: share of the hidden units dropped, after each activation.
        first: whether the first layer's weights are binary.
        last: whether the output layer's weights are binary.
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-4).
        bn_scale: whether the normalization learns a scale, gamma (Bop's does not).
        padding: every convolution pads its inputs ("same"), or all but the first.
        pad_value: what the padding of hidden layers' activations holds; zeros, as in the published
            codes, give binary activations a third value.
        init: how the weights are drawn: "glorot", U(-s, s) or N(0, s^2). STE and BinaryConnect draw
            latents of their own, unless they start from a run.
        init_scale: s, of "glorot" a factor (1).

    Raises:
        UsageError: the input is not an image, or too small to be halved three times.
    """
    features = _features(shape, width, padding)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = [shape[0], *(width * k for k in (1, 1, 2, 2, 4, 4))]
    for n, (inputs, filters) in enumerate(pairwise(sizes), start=1):
        weights: Weights = first if n == 1 else "binary"
        edge = 0 if n == 1 and padding == "valid-first" else 1
        layers |= convolution(n, inputs, filters, 3, weights, padding=edge, pad_value=pad_value)
        if n % 2 == 0:
            layers[f"pool{n}"] = nn.MaxPool2d(2)
        layers[f"norm{n}"] = nn.BatchNorm2d(filters, eps=bn_eps, momentum=bn_momentum)
        layers |= after_norm(n, activation, filters, dropout)
    layers["flatten"] = nn.Flatten()
    for n, (inputs, units) in enumerate(pairwise([features, dense, dense, classes]), start=7):
        layers[f"dense{n}"] = dense_layer(inputs, units, last if n == 9 else "binary")
        layers[f"norm{n}"] = nn.BatchNorm1d(units, eps=bn_eps, momentum=bn_momentum)
        if n < 9:
            layers |= after_norm(n, activation, units, dropout)
    network = drawn(nn.Sequential(layers), init, init_scale)
    return network if bn_scale else without_scale(network)


def bc_vgg(
    *,
    shape: tuple[int, ...],
    classes: int,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    first: Weights = "binary",
    last: Weights = "binary",
    pad_value: PadValue = 0,
    init: Draw = "glorot",
    init_scale: DrawScale = 1.0,
) -> nn.Module:
    """Return BinaryConnect's network for CIFAR-10: 14,022,016 binary weights there.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        activation: of the hidden layers ("relu"; BNN has "sign").
        dropout: share of the hidden units dropped, after each activation (0).
        first: whether the first layer's weights are binary (they are).
        last: whether the output layer's weights are binary (they are).
        pad_value: what the padding of hidden layers' activations holds (0).
        init: how the weights are drawn ("glorot").
        init_scale: half the width of "uniform", deviation of "normal", factor of "glorot" (1).

    Raises:
        UsageError: the input is not an image of 8 x 8 or more.
    """
    return binarynet(
        shape=shape,
        classes=classes,
        activation=activation,
        dropout=dropout,
        first=first,
        last=last,
        pad_value=pad_value,
        init=init,
        init_scale=init_scale,
    )


def bc_vgg_svhn(
    *,
    shape: tuple[int, ...],
    classes: int,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    first: Weights = "binary",
    last: Weights = "binary",
    pad_value: PadValue = 0,
    init: Draw = "glorot",
    init_scale: DrawScale = 1.0,
) -> nn.Module:
    """Return BinaryConnect's network for SVHN: half as many filters, 6,397,632 binary weights.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        activation: of the hidden layers ("relu"; BNN has "sign").
        dropout: share of the hidden units dropped, after each activation (0).
        first: whether the first layer's weights are binary (they are).
        last: whether the output layer's weights are binary (they are).
        pad_value: what the padding of hidden layers' activations holds (0).
        init: how the weights are drawn ("glorot").
        init_scale: half the width of "uniform", deviation of "normal", factor of "glorot" (1).

    Raises:
        UsageError: the input is not an image of 8 x 8 or more.
    """
    return binarynet(
        shape=shape,
        classes=classes,
        width=64,
        activation=activation,
        dropout=dropout,
        first=first,
        last=last,
        pad_value=pad_value,
        init=init,
        init_scale=init_scale,
    )


def bop_binarynet(
    *,
    shape: tuple[int, ...],
    classes: int,
    activation: Activation = "sign",
    dropout: Dropout = 0.0,
    first: Weights = "binary",
    last: Weights = "binary",
    pad_value: PadValue = 0,
    init: Draw = "glorot",
    init_scale: DrawScale = 1.0,
) -> nn.Module:
    """Return Bop's network for CIFAR-10: 10,352,000 binary weights, of real ones beta only.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        activation: of the hidden layers ("sign").
        dropout: share of the hidden units dropped, after each activation (0; Sreedhar and Jain's
            reproduction tried 0.25, which cost it accuracy).
        first: whether the first layer's weights are binary (they are).
        last: whether the output layer's weights are binary (they are).
        pad_value: what the padding of hidden layers' activations holds (0).
        init: how the weights are drawn ("glorot").
        init_scale: half the width of "uniform", deviation of "normal", factor of "glorot" (1).

    Raises:
        UsageError: the input is not an image of 10 x 10 or more.
    """
    return binarynet(
        shape=shape,
        classes=classes,
        activation=activation,
        dropout=dropout,
        first=first,
        last=last,
        bn_momentum=0.01,
        bn_eps=1e-3,
        bn_scale=False,
        padding="valid-first",
        pad_value=pad_value,
        init=init,
        init_scale=init_scale,
    )


def _features(shape: tuple[int, ...], width: int, padding: Padding) -> int:
    """The number of inputs of the first dense layer."""
    border = 2 if padding == "valid-first" else 0
    _, *sides = image("binarynet", shape, least=8 + border)
    high, wide = ((side - border) // 8 for side in sides)
    return 4 * width * high * wide

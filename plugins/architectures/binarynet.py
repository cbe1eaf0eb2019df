"""The VGG-like network of BinaryConnect, BNN and Bop.

    2 x (w)C3 - MP2 - 2 x (2w)C3 - MP2 - 2 x (4w)C3 - MP2 - 2 x (dense)FC - classes

    convolution -> [max-pool] -> norm -> activation -> [dropout];  output: dense -> norm

Pooling comes before the sign: the maximum of signs would nearly always be +1.

source: the public CIFAR-10 scripts of BinaryConnect and BNN; for SVHN w = 64, the dense layers
stay. ``padding = "valid-first"`` is Bop's: its first convolution sees no border
departs from the scripts: no bias, which the normalization would cancel. Bop's has no scale in its
normalization (gamma = 1), momentum 0.01 and epsilon 1e-3
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import nn

from bnnbench.errors import UsageError
from bnnbench_plugins.architectures.activations import Activation, Dropout, after_norm
from bnnbench_plugins.architectures.mlp import Epsilon, Momentum, Whole
from bnnbench_plugins.architectures.weights import Weights, conv3_layer, dense_layer

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
    padding: Padding = "same",
    pad_value: Literal[-1, 0, 1] = 0,
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
        padding: every convolution pads by a ring ("same"), or all but the first.
        pad_value: what the rings around hidden layers' activations hold; zeros, as in the published
            codes, give binary activations a third value.

    Raises:
        UsageError: the input is not an image, or too small to be halved three times.
    """
    features = _features(shape, width, padding)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = [shape[0], *(width * k for k in (1, 1, 2, 2, 4, 4))]
    for n, (inputs, filters) in enumerate(pairwise(sizes), start=1):
        edge = 0 if n == 1 and padding == "valid-first" else 1
        if pad_value and n > 1:
            layers[f"ring{n}"], edge = nn.ConstantPad2d(edge, pad_value), 0
        layers[f"conv{n}"] = conv3_layer(inputs, filters, first if n == 1 else "binary", edge)
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
    return nn.Sequential(layers)


def _features(shape: tuple[int, ...], width: int, padding: Padding) -> int:
    """The number of inputs of the first dense layer."""
    if len(shape) != 3:
        raise UsageError(
            "binarynet needs inputs of (channels, height, width), got"
            f" {shape}; take a dataset of images, or the architecture mlp"
        )
    border = 2 if padding == "valid-first" else 0
    high, wide = ((side - border) // 8 for side in shape[1:])
    if min(high, wide) < 1:
        raise UsageError(
            f"binarynet needs images of {8 + border} x {8 + border} or more, got"
            f" {shape[1]} x {shape[2]}; take larger images, or the architecture mlp"
        )
    return 4 * width * high * wide

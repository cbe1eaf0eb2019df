"""The permutation-invariant network of BinaryConnect: dense layers, each with batch normalization.

    x -> [dropout] -> depth x (dense -> norm -> activation -> [dropout]) -> dense -> norm

The output layer has batch normalization too: the loss sees its result.

source: BinaryConnect's public MNIST script (its article has width 1024, the script 2048; BNN 4096)
departs from the script: no bias, which the normalization would cancel; the normalization is
torch's (eps is added to the variance, running variances are averaged), where the script adds eps
to the deviation and averages deviations
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from bnnbench_plugins.architectures.activations import Activation, Dropout, after_norm
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.weights import (
    Draw,
    DrawScale,
    Weights,
    Whole,
    dense_layer,
    drawn,
)


def mlp(
    *,
    shape: tuple[int, ...],
    classes: int,
    depth: Whole = 3,
    width: Whole = 1024,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    input_dropout: Dropout = 0.0,
    first: Weights = "binary",
    last: Weights = "binary",
    bn_momentum: Momentum = 0.15,
    bn_eps: Epsilon = 1e-4,
    init: Draw = "glorot",
    init_scale: DrawScale = 1.0,
) -> nn.Module:
    """Return a network from inputs (batch, ``*shape``) to outputs (batch, ``classes``).

    Args:
        shape: of one input; it is flattened.
        classes: number of outputs.
        depth: number of hidden layers.
        width: units of each hidden layer.
        activation: of the hidden layers; "relu", "hardtanh" and "rprelu" are real, the others of
            one bit.
        dropout: share of hidden units dropped, after the activation.
        input_dropout: share of inputs dropped.
        first: whether the first layer's weights are binary.
        last: whether the output layer's weights are binary.
        bn_momentum: weight of the new batch in the running statistics (MNIST script: 0.15).
        bn_eps: added to the variance (1e-4).
        init: how the weights are drawn: "glorot" (the script, where they are real), U(-s, s) or
            N(0, s^2). STE and BinaryConnect draw latents of their own, unless they start from a
            run.
        init_scale: s, of "glorot" a factor (1).
    """
    sizes = [math.prod(shape), *[width] * depth, classes]
    kinds: list[Weights] = ["binary"] * (depth + 1)
    kinds[0], kinds[-1] = first, last
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if input_dropout:
        layers["dropout0"] = nn.Dropout(input_dropout)
    for number, kind in enumerate(kinds, start=1):
        layers[f"dense{number}"] = dense_layer(sizes[number - 1], sizes[number], kind)
        layers[f"norm{number}"] = nn.BatchNorm1d(sizes[number], eps=bn_eps, momentum=bn_momentum)
        if number <= depth:
            layers |= after_norm(number, activation, sizes[number], dropout)
    return drawn(nn.Sequential(layers), init, init_scale)

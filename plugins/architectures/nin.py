"""Network in Network for CIFAR-10, as it was binarized with XNOR-Net's weights.

    192 C5 - 160 C1 - 96 C1 - maxpool 3/2 - 192 C5 - 192 C1 - 192 C1 - avgpool 3/2
    - 192 C3 - 192 C1 - classes C1 - mean over the image

    first     convolution -> norm, not affine -> relu
    hidden    norm -> activation -> [dropout] -> convolution -> relu -> [pool]
    output    norm, not affine -> convolution -> relu -> mean

The dropout is in the fourth and the seventh layer, which follow a pooling. All convolutions have a
real bias; the first and the last have real weights too.

source: Lin, Chen and Yan (2014); jiecaoyu's public port of XNOR-Net, its CIFAR-10 network
departs from the port: it raises each gamma to 0.01 or more before a batch, here gamma is free; the
gradient of its sign is 0 at -1 and +1, here 1
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge
from torch import nn

from bnnbench_plugins.architectures.activations import Activation, Dropout, after_norm
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.weights import PadValue, Weights, convolution

_KERNELS = {2: 1, 3: 1, 4: 5, 5: 1, 6: 1, 7: 3, 8: 1}  # of the hidden convolutions
_POOLS: dict[int, type[nn.Module]] = {3: nn.MaxPool2d, 6: nn.AvgPool2d}  # after these
_DROPOUTS = (4, 7)  # before these


def nin(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Annotated[int, Ge(2)] = 192,
    activation: Activation = "sign",
    dropout: Dropout = 0.5,
    first: Weights = "real",
    last: Weights = "real",
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-4,
    pad_value: PadValue = 0,
) -> nn.Module:
    """Return a network from inputs (batch, channels, height, width) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of most convolutions (192); the second has 5/6 and the third 1/2 of it.
        activation: before the hidden convolutions ("sign").
        dropout: share of the activations dropped in the fourth and seventh layer (0.5).
        first: whether the first layer's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-4).
        pad_value: what the padding of hidden layers' activations holds (0).

    Raises:
        UsageError: the input is not an image.
    """
    channels, *_ = image("nin", shape)
    sizes = [width, width * 5 // 6, width // 2, *[width] * 5]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers |= convolution(1, channels, width, 5, first, padding=2, bias=True)
    layers["norm1"] = nn.BatchNorm2d(width, bn_eps, bn_momentum, affine=False)
    layers["rectifier1"] = nn.ReLU()
    for n, (inputs, filters) in enumerate(pairwise(sizes), start=2):
        kernel, share = _KERNELS[n], dropout if n in _DROPOUTS else 0.0
        layers[f"norm{n}"] = nn.BatchNorm2d(inputs, bn_eps, bn_momentum)
        layers |= after_norm(n, activation, inputs, share)
        layers |= convolution(
            n, inputs, filters, kernel, padding=kernel // 2, pad_value=pad_value, bias=True
        )
        layers[f"rectifier{n}"] = nn.ReLU()
        if n in _POOLS:
            layers[f"pool{n}"] = _POOLS[n](3, stride=2, padding=1)
    layers["norm9"] = nn.BatchNorm2d(width, bn_eps, bn_momentum, affine=False)
    layers |= convolution(9, width, classes, 1, last, bias=True)
    layers["rectifier9"] = nn.ReLU()
    layers["pool9"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.05)  # as the port does; its biases are 0 too
    return nn.Sequential(layers)

"""Two networks after VGG: VGG-Small, with binary activations, and VGG-16, every weight binary.

    vgg-small    2 x (w)C3 - MP2 - 2 x (2w)C3 - MP2 - 2 x (4w)C3 - MP2 - classes        w = 128

        convolution -> [max-pool] -> norm -> hardtanh -> activation, the last hidden layer's
        hardtanh alone: the output sees real numbers;  output: dense with bias
        a real activation stands in hardtanh's place, also in the last hidden layer

    vgg16        2 x (w)C3 - MP2 - 2 x (2w)C3 - MP2 - 3 x (4w)C3 - MP2 - 3 x (8w)C3 - MP2
                 - 3 x (8w)C3 - MP2 - 2 x (dense)FC - classes               w = 64, dense = 512

        layer -> + bias -> norm -> activation -> [max-pool];  output: dense -> + bias

The first network compares IR-Net, AdaBin and ReSTE on CIFAR-10; its first and last weights are
real. The second is of the mirror descent experiments: its normalization learns nothing, its
biases are binary like its weights. Each bias is a binary layer of one input, which is 1 (bias1.b
to bias16.b): 5,258 of 15,245,130 binary weights for ten classes. All but the output's are taken
away again by the normalization that follows, as in the published code.

source: IR-Net's public VGG-Small (AdaBin's code has none; ReSTE's is convolution -> relu -> norm
-> max-pool -> sign); md-bnn's public VGG
departs from md-bnn: a first convolution of stride 2 for inputs of 64 x 64 is left out
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from bnnbench.layers import BinaryActivation, BinaryLinear
from bnnbench_plugins.architectures.activations import (
    Activation,
    Bias,
    activation_layer,
    after_norm,
)
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.weights import (
    PadValue,
    Weights,
    Whole,
    convolution,
    dense_layer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_VGG16 = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)  # filters, as multiples of the first's
_POOLS = (2, 4, 7, 10, 13)  # the convolutions that a pooling follows


def vgg_small(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 128,
    activation: Activation = "sign",
    first: Weights = "real",
    last: Weights = "real",
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    pad_value: PadValue = 0,
) -> nn.Module:
    """Return a network from inputs (batch, channels, height, width) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first two convolutions (128); then twice, then four times as many.
        activation: of the hidden layers ("sign"; IR-Net has "ede", ReSTE "reste").
        first: whether the first layer's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        pad_value: what the padding of hidden layers' activations holds (0).

    Raises:
        UsageError: the input is not an image of 8 x 8 or more.
    """
    channels, high, wide = image("vgg-small", shape, least=8)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = [channels, *(width * k for k in (1, 1, 2, 2, 4, 4))]
    for n, (inputs, filters) in enumerate(pairwise(sizes), start=1):
        weights: Weights = first if n == 1 else "binary"
        layers |= convolution(n, inputs, filters, 3, weights, padding=1, pad_value=pad_value)
        if n % 2 == 0:
            layers[f"pool{n}"] = nn.MaxPool2d(2)
        layers[f"norm{n}"] = nn.BatchNorm2d(filters, eps=bn_eps, momentum=bn_momentum)
        layers |= _clipped(n, activation, filters, is_last=n == 6)
    layers["flatten"] = nn.Flatten()
    features = 4 * width * (high // 8) * (wide // 8)
    layers["dense7"] = dense_layer(features, classes, last, bias=True)
    for layer in layers.values():
        _initialize_small(layer)
    return nn.Sequential(layers)


def _clipped(
    number: int, activation: Activation, channels: int, *, is_last: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named activations of a hidden layer of VGG-Small."""
    layer = activation_layer(activation, channels)
    is_real = not any(isinstance(m, BinaryActivation) for m in layer.modules())
    if not is_real:
        yield f"hardtanh{number}", nn.Hardtanh()
    if is_real or not is_last:
        yield f"{activation}{number}", layer


def _initialize_small(layer: nn.Module) -> None:
    """Draw the weights as IR-Net's code does: N(0, 2/fan_out) and, of the output, N(0, 0.01^2)."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)


class BinaryBias(nn.Module):
    """x + b, a binary b for each channel (dimension 1): a binary layer whose one input is 1.

    Its weights are drawn from N(0, 0.1^2), as md-bnn draws biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.b = BinaryLinear(1, channels, bias=False)
        nn.init.normal_(self.b.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted inputs; same shape as ``x``."""
        b: Tensor = self.b(x.new_ones(1, 1))
        return x + b.view(-1, *[1] * (x.ndim - 2))


def vgg16(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    dense: Whole = 512,
    activation: Activation = "relu",
    first: Weights = "binary",
    last: Weights = "binary",
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    pad_value: PadValue = 0,
) -> nn.Module:
    """Return a network from inputs (batch, channels, height, width) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first two convolutions (64); then 2, 4 and twice 8 times as many.
        dense: units of the two hidden dense layers (512).
        activation: of the hidden layers ("relu"); pooling comes after it, which leaves hardly any
            -1 of those of one bit.
        first: whether the first layer's weights and biases are binary (they are).
        last: whether the output layer's weights and biases are binary (they are).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        pad_value: what the padding of hidden layers' activations holds (0).

    Raises:
        UsageError: the input is not an image of 32 x 32 or more.
    """
    channels, high, wide = image("vgg16", shape, least=32)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = [channels, *(width * k for k in _VGG16)]
    for n, (inputs, filters) in enumerate(pairwise(sizes), start=1):
        weights: Weights = first if n == 1 else "binary"
        layers |= convolution(n, inputs, filters, 3, weights, padding=1, pad_value=pad_value)
        layers[f"bias{n}"] = _bias(filters, weights)
        layers[f"norm{n}"] = nn.BatchNorm2d(filters, bn_eps, bn_momentum, affine=False)
        layers |= after_norm(n, activation, filters, 0.0)
        if n in _POOLS:
            layers[f"pool{n}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    features = sizes[-1] * (high // 32) * (wide // 32)
    for n, (inputs, units) in enumerate(pairwise([features, dense, dense, classes]), start=14):
        weights = last if n == 16 else "binary"
        layers[f"dense{n}"] = dense_layer(inputs, units, weights)
        layers[f"bias{n}"] = _bias(units, weights)
        if n < 16:
            layers[f"norm{n}"] = nn.BatchNorm1d(units, bn_eps, bn_momentum, affine=False)
            layers |= after_norm(n, activation, units, 0.0)
    return nn.Sequential(layers)


def _bias(channels: int, weights: Weights) -> nn.Module:
    return BinaryBias(channels) if weights == "binary" else Bias(channels)

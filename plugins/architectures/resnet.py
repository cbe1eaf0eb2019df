"""Residual networks with real activations: the ResNet-18 of mirror descent, and a teacher.

    resnet18    64C3 - norm - relu - 2 x 64 - 2 x 128 - 2 x 256 - 2 x 512
                - global average pooling - dense
        block   x -> C3 -> norm -> relu -> C3 -> norm -> + shortcut(x) -> relu

    wrn22       16C3 - 3 x 16 - 3 x 32 - 3 x 64 - norm - relu - global average pooling - dense
        block   x -> norm -> relu -> C3 -> norm -> relu -> C3 -> + x
        first of the second and third stage
                a = relu(norm(x));  a -> C3 -> norm -> relu -> C3 -> + C1(a)

The first block of every stage but the first has stride 2; so has its shortcut, C1 - norm in
resnet18, C1 alone in wrn22.

In resnet18 every learned tensor is binary: first and last layer, shortcuts and the output's bias
too; no normalization learns anything. The bias is a binary layer whose input is the constant 1, so
that its weights are binary weights like any others. For ten classes they are 11,164,362.

wrn22 is the Wide ResNet 22-1 that taught BNEW's networks, trained by the method ``real``. Its
hidden convolutions are of the type that may be binary all the same, 267,264 weights, as many as in
``bnew-small``: real weights are a matter of the method, and the teacher can be binarized too.

source: the public code of md-bnn (Ajanthan et al., 2021) for resnet18; the public code of BNEW,
its model ``rn``, for wrn22
departs from md-bnn: pooling takes the average of all that is left, there of 4 x 4, which is the
same at 32 x 32; the first convolution has stride 2 where one asks for it, there where images are
64 x 64 (Tiny ImageNet)
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Literal

from torch import nn

from bnnbench_plugins.architectures.activations import Activation
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.residual import (
    Residual,
    Style,
    end_layers,
    initialized,
    stages,
)
from bnnbench_plugins.architectures.vgg import BinaryBias
from bnnbench_plugins.architectures.weights import (
    PadValue,
    Weights,
    Whole,
    conv_layer,
    dense_layer,
)

if TYPE_CHECKING:
    from torch import Tensor


class BinaryDense(nn.Module):
    """W x + b, both binary."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bias = BinaryBias(outputs)  # first, so that W is the network's last weight
        self.dense = dense_layer(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, outputs) for (batch, inputs)."""
        y: Tensor = self.bias(self.dense(x))
        return y


def resnet18(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    activation: Activation = "relu",
    first: Weights = "binary",
    last: Weights = "binary",
    shortcut: Weights = "binary",
    stem_stride: Literal[1, 2] = 1,
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
) -> nn.Module:
    """Return md-bnn's ResNet-18, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then 2, 4 and 8 times as many (64).
        activation: after each normalization but the shortcuts', and after each sum ("relu").
        first: whether the first convolution's weights are binary (they are).
        last: whether the output layer's weights and bias are binary (they are).
        shortcut: whether the weights of the shortcuts' convolutions are binary (they are).
        stem_stride: of the first convolution (1; for Tiny ImageNet 2).
        pad_value: what the padding of hidden layers' activations holds (0).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("resnet18", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps, bn_affine=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_layer(channels, width, 3, first, stride=stem_stride, padding=1),
        norm1=style.norm(width),
        activation1=style.act(width),
    )
    block = partial(_block18, style, shortcut)
    layers |= stages(width, [width * k for k in (1, 2, 4, 8)], 2, block)
    layers |= end_layers(8 * width, classes, last)
    if last == "binary":
        layers["fc"] = BinaryDense(8 * width, classes)
    return nn.Sequential(layers)


def _block18(style: Style, weights: Weights, inputs: int, outputs: int, stride: int) -> nn.Module:
    branch = OrderedDict(
        conv1=style.conv(inputs, outputs, stride),
        norm1=style.norm(outputs),
        activation1=style.act(outputs),
        conv2=style.conv(outputs, outputs),
        norm2=style.norm(outputs),
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1:
        conv = conv_layer(inputs, outputs, 1, weights, stride=stride)
        shortcut = nn.Sequential(OrderedDict(conv=conv, norm=style.norm(outputs)))
    residual = Residual(nn.Sequential(branch), shortcut)
    return nn.Sequential(OrderedDict(residual=residual, activation=style.act(outputs)))


def wrn22(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 16,
    blocks: Whole = 3,
    activation: Activation = "relu",
    first: Weights = "real",
    last: Weights = "real",
    shortcut: Weights = "real",
    pad_value: PadValue = 0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    init: Literal["he-out", "glorot"] = "he-out",
) -> nn.Module:
    """Return the Wide ResNet 22-1, from images (batch, ``*shape``) to (batch, ``classes``).

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first stage, then twice, then four times as many (16).
        blocks: blocks of each stage, of two convolutions each (3; 22 = 6 x 3 + 4 layers).
        activation: before each hidden convolution and at the end ("relu").
        first: whether the first convolution's weights are binary (they are real).
        last: whether the output layer's weights are binary (they are real).
        shortcut: whether the weights of the shortcuts' convolutions are binary (they are real).
        pad_value: what the padding of hidden layers' activations holds (0).
        bn_momentum: weight of the new batch in the running statistics (0.1).
        bn_eps: added to the variance (1e-5).
        init: of the weights; He's normal by fan-out (the code's), or Glorot's uniform.

    Raises:
        UsageError: the input is not an image.
    """
    channels = image("wrn22", shape)[0]
    style = Style(activation, pad_value, bn_momentum, bn_eps)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv_layer(channels, width, 3, first, padding=1)
    )
    block = partial(_block22, style, shortcut)
    layers |= stages(width, [width, 2 * width, 4 * width], blocks, block)
    layers["norm"] = style.norm(4 * width)
    layers["activation"] = style.act(4 * width)
    layers |= end_layers(4 * width, classes, last)
    return initialized(nn.Sequential(layers), init)


def _block22(style: Style, weights: Weights, inputs: int, outputs: int, stride: int) -> nn.Module:
    before = OrderedDict(norm1=style.norm(inputs), activation1=style.act(inputs))
    after = OrderedDict(
        conv1=style.conv(inputs, outputs, stride),
        norm2=style.norm(outputs),
        activation2=style.act(outputs),
        conv2=style.conv(outputs, outputs),
    )
    if stride == 1:
        return Residual(nn.Sequential(before | after), nn.Identity())
    shortcut = conv_layer(inputs, outputs, 1, weights, stride=stride)
    return nn.Sequential(before | {"residual": Residual(nn.Sequential(after), shortcut)})

"""What the residual networks have in common: blocks with a shortcut, stages, beginnings and ends.

    y = branch(x) + shortcut(x)

    shortcuts    x itself
                 AP2 - C1 - norm, the convolution real: Bi-Real Net, ReActNet, BNEW
                 C1 - norm, the convolution with the block's stride: option B of He et al.
                 every second pixel, the new channels 0: option A of He et al.

C3 is a convolution of 3x3, AP2 the average of 2x2. Where a side is odd, pooling rounds up as a
convolution of stride 2 does; at the published sizes every side is even.

source: He et al. (2016), Deep residual learning; the networks' own sources for the rest
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import nn

from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench_plugins.architectures.activations import Activation, activation_layer
from bnnbench_plugins.architectures.weights import PadValue, Weights, conv_layer, dense_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

Init = Literal["glorot", "torch", "he", "he-out", "bireal"]
Stem = Literal["imagenet", "cifar"]


class Residual(nn.Module):
    """branch(x) + shortcut(x); both give the same shape."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


class PaddedShortcut(nn.Module):
    """Every second pixel, and channels of zeros before and after the old ones (option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        before = (outputs - inputs) // 2
        self.before, self.after = before, outputs - inputs - before

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, outputs, height / 2, width / 2), sides rounded up."""
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Say how many channels there are before and after the old ones."""
        return f"before={self.before}, after={self.after}"


@dataclass(frozen=True)
class Style:
    """What all blocks of one network have in common; it makes their layers."""

    activation: Activation
    pad_value: PadValue
    bn_momentum: float
    bn_eps: float
    bn_affine: bool = True

    def act(self, channels: int) -> nn.Module:
        """Return an activation."""
        return activation_layer(self.activation, channels)

    def conv(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Module:
        """Return a binary convolution that keeps the size, but for its stride."""
        return conv_layer(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=kernel // 2,
            pad_value=self.pad_value,
        )

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """Return a normalization."""
        return nn.BatchNorm2d(
            channels, eps=self.bn_eps, momentum=self.bn_momentum, affine=self.bn_affine
        )

    def branch(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Module:
        """Return activation - convolution - norm, Bi-Real Net's order."""
        return nn.Sequential(
            OrderedDict(
                activation=self.act(inputs),
                conv=self.conv(inputs, outputs, stride, kernel),
                norm=self.norm(outputs),
            )
        )


def pooled_shortcut(style: Style, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return AP2 - real C1 - norm, or the identity where the block keeps size and channels."""
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(2, ceil_mode=True),
            conv=conv_layer(inputs, outputs, 1, "real"),
            norm=style.norm(outputs),
        )
    )


def stages(
    inputs: int, widths: Sequence[int], blocks: int, block: Callable[[int, int, int], nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named stages of so many blocks each; every stage but the first halves the size.

    ``block`` makes one from its inputs, outputs and stride.
    """
    for number, width in enumerate(widths, start=1):
        first = block(inputs, width, 1 if number == 1 else 2)
        yield (
            f"stage{number}",
            nn.Sequential(first, *(block(width, width, 1) for _ in range(blocks - 1))),
        )
        inputs = width


def stem_layers(
    style: Style, channels: int, filters: int, first: Weights, stem: Stem
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers before the stages: C7/2 - norm - MP3/2, or C3 - norm for "cifar"."""
    if stem == "cifar":
        yield "conv1", conv_layer(channels, filters, 3, first, padding=1)
        yield "norm1", style.norm(filters)
        return
    yield "conv1", conv_layer(channels, filters, 7, first, stride=2, padding=3)
    yield "norm1", style.norm(filters)
    yield "pool1", nn.MaxPool2d(3, stride=2, padding=1)


def end_layers(features: int, classes: int, last: Weights) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers after the stages: global average pooling, a dense layer with bias."""
    yield "pool", nn.AdaptiveAvgPool2d(1)
    yield "flatten", nn.Flatten()
    yield "fc", dense_layer(features, classes, last, bias=True)


def initialized(network: nn.Module, init: Init) -> nn.Module:
    """Return the network, all its convolutions and dense layers drawn as ``init`` says.

    "glorot" is how they come: uniform, biases 0. "torch" is U(-1/sqrt(n), 1/sqrt(n)) for a layer of
    fan-in n, biases too. "he" is N(0, 2/n), biases as in "torch"; "he-out" is N(0, 2/fan-out) for
    convolutions, for dense layers "torch" with biases 0. "bireal" is "torch" with binary weights
    from U(0, 0.001): every sign is +1 at first.
    """
    if init != "glorot":
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
                _draw(layer, init)
    return network


def _draw(layer: nn.Conv2d | nn.Linear, init: Init) -> None:
    if init == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif init == "he-out" and isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif init == "he-out" and layer.bias is not None:
        nn.init.zeros_(layer.bias)
    elif init == "bireal" and isinstance(layer, BinaryConv2d | BinaryLinear):
        nn.init.uniform_(layer.weight, 0, 1e-3)

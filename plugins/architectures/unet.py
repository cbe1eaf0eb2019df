"""The U-Net: a class for each pixel of an image.

    level k = 1..depth of the contraction, of w 2^(k-1) filters:     2 x C3, skip, MP2
    bottom, of w 2^depth filters:                                    2 x C3
    level k = depth..1 of the expansion, of w 2^(k-1) filters:       UC2 | skip, 2 x C3
    output:                                                          C1 to the classes, with bias

    hidden    convolution -> norm -> activation
    skip      the second convolution of a level -> norm -> activation
    MP2       the same convolution -> max-pool -> norm -> activation
    UC2 |     an up-convolution by 2 -> norm -> activation, before the skip's channels

The pooled and the skipped activations have normalizations (and dropouts) of their own: pooling
comes before the sign, as in the networks of BNN, since the maximum of signs would nearly always
be +1.

The up-convolution of 2 x 2 weights turns each pixel into a patch of 2 x 2 that overlaps no other.
That is what a convolution of 1 x 1 to four times the channels does, whose numbers are then laid
out as a patch, so its weights are those of an ordinary binary layer.

source: Ronneberger, Fischer and Brox (2015): w = 64, depth = 4, 23 convolutions, weights drawn from
N(0, 2/fan_in); their published network for relu after the up-convolutions and the places of the
dropout; binarized, on Oxford-IIIT Pet: Sreedhar and Jain's reproduction of Bop
departs from the article: convolutions are padded, so that the outputs have the size of the inputs
and skips are not cropped; normalization (there is none) and no bias before it; pooling before the
activation; no dropout unless asked for, 0.5 there. The reproduction says no more than that its
convolutions are quantized: here the first and the last are real unless asked for
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnnbench.errors import UsageError
from bnnbench_plugins.architectures.activations import Activation, Dropout, after_norm
from bnnbench_plugins.architectures.images import image
from bnnbench_plugins.architectures.norms import Epsilon, Momentum
from bnnbench_plugins.architectures.weights import PadValue, Weights, Whole, convolution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    Named = Iterator[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Hidden:
    """What the hidden layers of a U-Net have in common."""

    activation: Activation
    bn_momentum: float
    bn_eps: float
    pad_value: PadValue

    def convolve(
        self, number: int, inputs: int, filters: int, weights: Weights = "binary"
    ) -> Named:
        """Yield the named layers of a padded 3 x 3 convolution."""
        value = self.pad_value
        yield from convolution(number, inputs, filters, 3, weights, padding=1, pad_value=value)

    def activate(self, number: int, filters: int, dropout: float = 0.0) -> Named:
        """Yield the named layers that follow convolution ``number``."""
        yield f"norm{number}", nn.BatchNorm2d(filters, self.bn_eps, self.bn_momentum)
        yield from after_norm(number, self.activation, filters, dropout)

    def double(self, number: int, inputs: int, filters: int, weights: Weights = "binary") -> Named:
        """Yield the named layers of two convolutions, up to the second's weights."""
        yield from self.convolve(number, inputs, filters, weights)
        yield from self.activate(number, filters)
        yield from self.convolve(number + 1, filters, filters)

    def enlarge(self, number: int, inputs: int, filters: int) -> Named:
        """Yield the named layers of an up-convolution by 2."""
        yield from convolution(number, inputs, 4 * filters, 1)
        yield f"shuffle{number}", nn.PixelShuffle(2)
        yield from self.activate(number, filters)


class UNet(nn.ModuleDict):
    """The parts of a U-Net, by name: contract1, skip1, pool1, ..., bottom, ..., expand1, output."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, classes, height, width) for images (batch, channels, height, width)."""
        skips = []
        for k in range(1, self.depth + 1):
            x = self[f"contract{k}"](x)
            skips.append(self[f"skip{k}"](x))
            x = self[f"pool{k}"](x)
        x = self["bottom"](x)
        for k in range(self.depth, 0, -1):
            x = self[f"enlarge{k}"](x)
            x = self[f"expand{k}"](torch.cat([x, skips.pop()], dim=1))
        outputs: Tensor = self["output"](x)
        return outputs

    @property
    def depth(self) -> int:
        """The number of levels above the bottom."""
        return sum(name.startswith("skip") for name in self)


def unet(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: Whole = 64,
    depth: Whole = 4,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    first: Weights = "real",
    last: Weights = "real",
    bn_momentum: Momentum = 0.1,
    bn_eps: Epsilon = 1e-5,
    pad_value: PadValue = 0,
) -> nn.Module:
    """Return a network from images to outputs (batch, ``classes``, height, width) of their size.

    Args:
        shape: (channels, height, width) of one input; both sides are multiples of 2^depth.
        classes: number of classes of a pixel.
        width: filters of the highest level (64), twice as many in each level below.
        depth: how often the image is halved (4).
        activation: of the hidden layers ("relu"); those of one bit make all hidden convolutions
            see signs only.
        dropout: share of the activations dropped in the lowest level and at the bottom, at their
            ends (0; the authors' network has 0.5).
        first: whether the first convolution's weights are binary.
        last: whether the output convolution's weights are binary.
        bn_momentum: weight of the new batch in the running statistics (torch's 0.1).
        bn_eps: added to the variance (torch's 1e-5).
        pad_value: what the padding of hidden layers' activations holds; zeros give binary
            activations a third value.

    Raises:
        UsageError: the input is not an image, or a side is no multiple of 2^depth.
    """
    channels = _channels(shape, depth)
    hidden = Hidden(activation, bn_momentum, bn_eps, pad_value)
    sizes = [channels, *(width * 2**k for k in range(depth + 1))]
    output = convolution(5 * depth + 3, width, classes, 1, last, bias=True)
    network = UNet(
        {
            **dict(_contraction(hidden, sizes, first, dropout)),
            **dict(_expansion(hidden, sizes)),
            "output": _sequence(output),
        }
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _channels(shape: tuple[int, ...], depth: int) -> int:
    """The channels of an image that can be halved so many times."""
    channels, height, width = image("unet", shape)
    if height % 2**depth or width % 2**depth:
        raise UsageError(
            f"unet of depth {depth} needs images whose sides are multiples of {2**depth}, got"
            f" {height} x {width}; {_ways(height, width, depth)}"
        )
    return channels


def _ways(height: int, width: int, depth: int) -> str:
    """What to ask for instead: the nearest sizes, the deepest network for this one.

    >>> _ways(100, 100, 3)
    'take images of 96 or 104 (a data set whose size can be chosen: size = 96 or 104), or depth = 2'
    >>> _ways(3, 32, 2)
    'take images of 4 x 32'
    """
    unit = 2**depth
    below = [side - side % unit for side in (height, width)]
    above = [side + -side % unit for side in (height, width)]
    square = height == width
    sides = [f"{h}" if square else f"{h} x {w}" for h, w in (below, above) if h and w]
    sizes = " or ".join(dict.fromkeys(sides))
    chosen = f" (a data set whose size can be chosen: size = {sizes})" if square else ""
    deepest = next((d for d in range(depth - 1, 0, -1) if not (height % 2**d or width % 2**d)), 0)
    return f"take images of {sizes}{chosen}" + (f", or depth = {deepest}" if deepest else "")


def _contraction(hidden: Hidden, sizes: list[int], first: Weights, dropout: float) -> Named:
    """Yield the named parts down to the bottom; ``sizes``: channels, then filters by level."""
    *levels, bottom = pairwise(sizes)
    for k, (inputs, filters) in enumerate(levels, start=1):
        n, share = 2 * k, dropout if k == len(levels) else 0.0
        weights: Weights = first if k == 1 else "binary"
        yield f"contract{k}", _sequence(hidden.double(n - 1, inputs, filters, weights))
        yield f"skip{k}", _sequence(hidden.activate(n, filters, share))
        pool = (f"pool{n}", nn.MaxPool2d(2))
        yield f"pool{k}", _sequence([pool], hidden.activate(n, filters, share))
    n = 2 * len(levels) + 1
    ends = hidden.activate(n + 1, bottom[1], dropout)
    yield "bottom", _sequence(hidden.double(n, *bottom), ends)


def _expansion(hidden: Hidden, sizes: list[int]) -> Named:
    """Yield the named parts from the bottom up."""
    depth = len(sizes) - 2
    for k in range(depth, 0, -1):
        n, filters = 5 * depth + 3 - 3 * k, sizes[k]
        yield f"enlarge{k}", _sequence(hidden.enlarge(n, 2 * filters, filters))
        ends = hidden.activate(n + 2, filters)
        yield f"expand{k}", _sequence(hidden.double(n + 1, 2 * filters, filters), ends)


def _sequence(*layers: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(chain(*layers)))

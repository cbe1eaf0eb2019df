"""The closed set of operations of which a packed network is made.

A network is a list of nodes in the order in which they are computed. A node names those before it
whose results it takes; ``input`` are the network's inputs. A result is one of three kinds::

    real    float32, (batch, channels, height, width) or (batch, features)
    ints    int32 of such a shape: what a binary layer makes of bits
    bits    +1 or -1 of such a shape, one bit each

    binary_dense, binary_conv    bits -> ints, all else -> real
    threshold                    ints -> bits        (n >= least) != falls
    sign                         -> bits             x >= 0
    max_pool, flatten, concat, subsample, pixel_shuffle, pad      keep the kind, where they can
    all others                   -> real

What wants real numbers takes ints and bits for the numbers that they stand for. Channels, and
features where there is no image, are dimension 1.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

INPUT = "input"
MOST = 2**24  #: of anything that is counted: channels, features, the side of an image

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$", max_length=200)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Border = Annotated[int, Field(ge=0, le=MOST)]
Pair = tuple[Count, Count]
Borders = tuple[Border, Border]
Sign = Literal[-1, 0, 1]


class Part(NamedTuple):
    """A tensor that a node has in the file: its type as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


class Plain(BaseModel):
    """A part of a file's description: its fields are checked, and no other is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Node(Plain):
    """A node; its tensors are named NODE.PART."""

    name: Name
    inputs: tuple[Name]

    def parts(self) -> dict[str, Part]:
        """Return the tensors that the node has, by the ends of their names."""
        return {}


class BinaryDense(_Node):
    """Sums of the inputs, each with the sign of its weight."""

    op: Literal["binary_dense"] = "binary_dense"
    features: Count
    outputs: Count

    def parts(self) -> dict[str, Part]:
        """Return the signs: a row of bytes for each output."""
        return {"weight": Part("U8", (self.outputs, -(-self.features // 8)))}


class BinaryConv(_Node):
    """A convolution with the signs of its weights; ``pad_value`` is what its padding holds."""

    op: Literal["binary_conv"] = "binary_conv"
    channels: Count
    filters: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Borders = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    pad_value: Sign = 0

    @property
    def taps(self) -> int:
        """The number of weights of a filter."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]

    def parts(self) -> dict[str, Part]:
        """Return the signs: a row of bytes for each filter."""
        return {"weight": Part("U8", (self.filters, -(-self.taps // 8)))}


class Dense(_Node):
    """A dense layer of real weights."""

    op: Literal["dense"] = "dense"
    features: Count
    outputs: Count
    has_bias: bool = False

    def parts(self) -> dict[str, Part]:
        """Return the weights, and the bias where there is one."""
        weight = {"weight": Part("F32", (self.outputs, self.features))}
        return weight | ({"bias": Part("F32", (self.outputs,))} if self.has_bias else {})


class Conv(_Node):
    """A convolution of real weights, padded with zeros."""

    op: Literal["conv"] = "conv"
    channels: Count
    filters: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Borders = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    has_bias: bool = False

    def parts(self) -> dict[str, Part]:
        """Return the weights, and the bias where there is one."""
        shape = (self.filters, self.channels // self.groups, *self.kernel)
        bias = {"bias": Part("F32", (self.filters,))} if self.has_bias else {}
        return {"weight": Part("F32", shape)} | bias


class Threshold(_Node):
    """Bits from ints: +1 where n >= least; in channels that ``falls`` marks with 1, -1 there."""

    op: Literal["threshold"] = "threshold"
    channels: Count

    def parts(self) -> dict[str, Part]:
        """Return the least integer and the direction of each channel."""
        each = (self.channels,)
        return {"least": Part("I32", each), "falls": Part("U8", each)}


class Norm(_Node):
    """Batch normalization with fixed statistics."""

    op: Literal["norm"] = "norm"
    channels: Count
    eps: FiniteFloat
    has_scale: bool = True
    has_bias: bool = True

    def parts(self) -> dict[str, Part]:
        """Return mean and variance, and what is learned."""
        learned = {"weight": self.has_scale, "bias": self.has_bias}
        names = ["mean", "variance", *(name for name, is_there in learned.items() if is_there)]
        return {name: Part("F32", (self.channels,)) for name in names}


class Scale(_Node):
    """A factor for each channel; one channel becomes as many as there are factors."""

    op: Literal["scale"] = "scale"
    channels: Count

    def parts(self) -> dict[str, Part]:
        """Return the factors."""
        return {"scale": Part("F32", (self.channels,))}


class Bias(_Node):
    """A summand for each channel."""

    op: Literal["bias"] = "bias"
    channels: Count

    def parts(self) -> dict[str, Part]:
        """Return the summands."""
        return {"bias": Part("F32", (self.channels,))}


class PReLU(_Node):
    """x where it is positive, else a slope of each channel times x; one slope serves all."""

    op: Literal["prelu"] = "prelu"
    channels: Count

    def parts(self) -> dict[str, Part]:
        """Return the slopes."""
        return {"slope": Part("F32", (self.channels,))}


class SignOf(_Node):
    """x >= 0 as bits."""

    op: Literal["sign"] = "sign"


class ReLU(_Node):
    """max(x, 0)."""

    op: Literal["relu"] = "relu"


class HardTanh(_Node):
    """x between two ends."""

    op: Literal["hardtanh"] = "hardtanh"
    low: FiniteFloat
    high: FiniteFloat


class Add(_Node):
    """The sum of two results of one shape."""

    op: Literal["add"] = "add"
    inputs: tuple[Name, Name]  # type: ignore[assignment]


class Concat(_Node):
    """The channels of several results, side by side."""

    op: Literal["concat"] = "concat"
    inputs: Annotated[tuple[Name, ...], Field(min_length=2, max_length=64)]  # type: ignore[assignment]


class MaxPool(_Node):
    """The largest of each window."""

    op: Literal["max_pool"] = "max_pool"
    kernel: Pair
    stride: Pair
    padding: Borders = (0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False


class AvgPool(_Node):
    """The mean of each window; ``count_pad`` says whether its padding counts."""

    op: Literal["avg_pool"] = "avg_pool"
    kernel: Pair
    stride: Pair
    padding: Borders = (0, 0)
    ceil: bool = False
    count_pad: bool = True


class Mean(_Node):
    """The mean of each channel over the image, as an image of one pixel."""

    op: Literal["mean"] = "mean"


class Flatten(_Node):
    """All numbers of an example in a row: channel by channel, row by row."""

    op: Literal["flatten"] = "flatten"


class Pad(_Node):
    """A border of one value around the image (left, right, top, bottom) and its channels."""

    op: Literal["pad"] = "pad"
    image: tuple[Border, Border, Border, Border]
    channels: Borders = (0, 0)
    value: FiniteFloat = 0.0


class Subsample(_Node):
    """Every so many pixels of the rows and of the columns, from the first on."""

    op: Literal["subsample"] = "subsample"
    stride: Pair


class PixelShuffle(_Node):
    """Channels laid out as patches of ``factor`` x ``factor`` pixels."""

    op: Literal["pixel_shuffle"] = "pixel_shuffle"
    factor: Count


Node = Annotated[
    BinaryDense
    | BinaryConv
    | Dense
    | Conv
    | Threshold
    | Norm
    | Scale
    | Bias
    | PReLU
    | SignOf
    | ReLU
    | HardTanh
    | Add
    | Concat
    | MaxPool
    | AvgPool
    | Mean
    | Flatten
    | Pad
    | Subsample
    | PixelShuffle,
    Field(discriminator="op"),
]

"""The operations on real numbers, each by torch as the trained network computes it.

They are run twice: on the numbers themselves, and, when a network is loaded, on shapes alone
(torch's meta tensors), which finds what does not fit before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 -- as everybody calls it

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Arrays = Mapping[str, "NDArray[Any]"]  #: a file's tensors, by name
Parts = Mapping[str, "Tensor"]  #: a node's tensors, by the ends of their names
Operation = Callable[[Any, Parts, "list[Tensor]"], "Tensor"]


def along(values: Tensor, x: Tensor) -> Tensor:
    """Return numbers (channels,) in the shape in which they meet the channels of x."""
    return values.view(-1, *[1] * (x.ndim - 2))


def _dense(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.linear(x[0], parts["weight"], parts.get("bias"))


def _conv(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    geometry = (node.stride, node.padding, node.dilation, node.groups)
    return F.conv2d(x[0], parts["weight"], parts.get("bias"), *geometry)


def _norm(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    learned = (parts.get("weight"), parts.get("bias"))
    return F.batch_norm(x[0], parts["mean"], parts["variance"], *learned, False, 0.0, node.eps)


def _scale(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return x[0] * along(parts["scale"], x[0])


def _bias(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return x[0] + along(parts["bias"], x[0])


def _prelu(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.prelu(x[0], parts["slope"])


def _relu(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.relu(x[0])


def _hardtanh(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.hardtanh(x[0], node.low, node.high)


def _add(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return x[0] + x[1]


def _concat(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return torch.cat(x, 1)


def _max_pool(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    geometry = (node.kernel, node.stride, node.padding, node.dilation, node.ceil)
    return F.max_pool2d(x[0], *geometry)


def _avg_pool(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    geometry = (node.kernel, node.stride, node.padding, node.ceil, node.count_pad)
    return F.avg_pool2d(x[0], *geometry)


def _mean(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.adaptive_avg_pool2d(x[0], 1)


def _flatten(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return x[0].flatten(1)


def _pad(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.pad(x[0], (*node.image, *node.channels), value=node.value)


def _subsample(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    rows, columns = node.stride
    return x[0][:, :, ::rows, ::columns]


def _pixel_shuffle(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    return F.pixel_shuffle(x[0], node.factor)


REAL: dict[str, Operation] = {
    "dense": _dense,
    "conv": _conv,
    "norm": _norm,
    "scale": _scale,
    "bias": _bias,
    "prelu": _prelu,
    "relu": _relu,
    "hardtanh": _hardtanh,
    "add": _add,
    "avg_pool": _avg_pool,
    "mean": _mean,
}
#: those that only move numbers, or choose among them: they keep the kind
KEEPING: dict[str, Operation] = {
    "concat": _concat,
    "max_pool": _max_pool,
    "flatten": _flatten,
    "pad": _pad,
    "subsample": _subsample,
    "pixel_shuffle": _pixel_shuffle,
}
#: what is done to each number of a channel alone
EACH = ("scale", "bias", "norm", "relu", "hardtanh", "prelu")


def through(nodes: Iterable[Any], tensors: Arrays, numbers: Tensor, *, is_image: bool) -> Tensor:
    """Return what nodes make of numbers (values, channels), each channel by itself.

    Args:
        nodes: one after the other, of those that do something to each number alone.
        tensors: the file's.
        numbers: float32.
        is_image: whether they are images in the network: torch is given them in that shape.
    """
    channels = numbers.shape[1]
    x = numbers.T.reshape(1, channels, 1, -1) if is_image else numbers
    x = x.contiguous()
    for node in nodes:
        parts = {end: torch.from_numpy(tensors[f"{node.name}.{end}"]) for end in node.parts()}
        x = REAL[node.op](node, parts, [x])
    return x.reshape(channels, -1).T.contiguous() if is_image else x

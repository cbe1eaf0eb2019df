"""The kind and the shape of every result of a packed network, before anything is computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812 -- as everybody calls it

from bnnbench.errors import DataError
from bnnbench.packed.nodes import INPUT
from bnnbench.packed.operations import KEEPING, REAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnnbench.packed.description import Description

REALS, INTS, BITS = "real", "ints", "bits"
ROWS = ("dense", "binary_dense")
IMAGES = (
    *("binary_conv", "conv", "max_pool", "avg_pool", "mean"),
    *("pad", "subsample", "pixel_shuffle"),
)
LARGEST = 2**28  #: numbers in one example's result: more than any network of images has


class Result(NamedTuple):
    """What a node gives: its kind, and the shape (...) of one example."""

    kind: str
    shape: tuple[int, ...]


def results(description: Description) -> dict[str, Result]:
    """Return what each node gives, by name, and the inputs.

    Raises:
        DataError: in one line, a node that does not fit what it is given, or a last one that does
            not give the classes.
    """
    found = {INPUT: Result(REALS, description.shape)}
    for node in description.nodes:
        given = [found[name] for name in node.inputs]
        try:
            shape = _shape(node, given)
            kind = kind_of(node, [result.kind for result in given])
        except (IndexError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            shapes = ", ".join(str(result.shape) for result in given)
            raise DataError(
                f"the packed network does not fit together: {node.name!r}, a {node.op}, cannot take"
                f" {shapes} ({said}); export it again with 'bnnbench export'"
            ) from error
        found[node.name] = Result(kind, shape)
    _check_end(description, found)
    return found


def kind_of(node: Any, given: list[str]) -> str:
    """Return the kind of a node's result.

    Raises:
        ValueError: it is given a kind that it cannot take.
    """
    if node.op in ("binary_dense", "binary_conv"):
        return INTS if given == [BITS] else REALS
    if node.op in ("threshold", "sign"):
        if node.op == "threshold" and given != [INTS]:
            raise ValueError("it compares integers")
        return BITS
    if node.op not in KEEPING or len({*given}) > 1:
        return REALS
    if node.op == "pad" and given == [BITS] and node.value not in (-1, 1):
        return REALS
    return given[0] if _stays_whole(node) else REALS


def _stays_whole(node: Any) -> bool:
    return node.op != "pad" or float(node.value).is_integer()


def _shape(node: Any, given: list[Result]) -> tuple[int, ...]:
    """The shape that a node gives, by torch's own rules."""
    x = [torch.empty((1, *result.shape), device="meta") for result in given]
    if x[0].ndim != 2 and node.op in ROWS:
        raise ValueError("it takes a row of features")
    if x[0].ndim != 4 and node.op in IMAGES:
        raise ValueError("it takes images")
    if x[0].ndim not in (2, 4) and node.op == "sign":
        raise ValueError("it takes images, or rows of features")
    if node.op in ("threshold", "norm", "scale", "bias", "prelu"):
        _check_channels(node, given[0].shape[0])
    if node.op in ("threshold", "sign"):
        return given[0].shape
    after = _after(node, x)
    shape = tuple(after.shape[1:])
    if not 0 < math.prod(shape) <= LARGEST or after.shape[0] != 1:
        raise ValueError(f"a result of {math.prod(shape)} numbers, of {LARGEST} at most")
    return shape


def _after(node: Any, x: list[Tensor]) -> Tensor:
    if node.op == "binary_dense":
        return F.linear(x[0], torch.empty((node.outputs, node.features), device="meta"))
    if node.op == "binary_conv":
        shape = (node.filters, node.channels // node.groups, *node.kernel)
        geometry = (node.stride, node.padding, node.dilation, node.groups)
        return F.conv2d(x[0], torch.empty(shape, device="meta"), None, *geometry)
    parts: Mapping[str, Tensor] = {
        end: torch.empty(part.shape, device="meta") for end, part in node.parts().items()
    }
    return (REAL | KEEPING)[node.op](node, parts, x)


def _check_channels(node: Any, channels: int) -> None:
    """Refuse another number of channels; one becomes many by a scale, one slope serves all."""
    alone = (node.op == "scale" and channels == 1) or (node.op == "prelu" and node.channels == 1)
    if node.channels != channels and not alone:
        raise ValueError(f"it is made for {node.channels} channels")


def _check_end(description: Description, found: Mapping[str, Result]) -> None:
    last = found[description.nodes[-1].name]
    if last.kind == BITS or last.shape[0] != description.classes:
        raise DataError(
            f"a packed network of {description.classes} classes gives a number for each, this one"
            f" ends with {last.kind} of shape {last.shape}; export it again with 'bnnbench export'"
        )

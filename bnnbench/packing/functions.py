"""What the functions and methods that a forward calls become in a packed network.

A rule is given the step itself, for its constants count: of a sum or a product one side may be a
constant with a number for each channel.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.nn import functional as F  # noqa: N812 -- as everybody calls it

from bnnbench.packed import nodes as ops
from bnnbench.packing.modules import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from bnnbench.packing.lowering import Draft

    Names = Mapping[fx.Node, str]
    Rule = Callable[["Draft", fx.Node, Names], str]


def _varies(given: Any) -> bool:
    return isinstance(given, fx.Node) and bool(given.meta["varies"])


def _sides(node: fx.Node) -> tuple[fx.Node, Any]:
    """The side of a sum or product that depends on the inputs, and the other."""
    if len(node.args) != 2 or node.kwargs:
        raise refused(node.name, "has more than two sides")
    first, second = node.args
    varying, other = (first, second) if _varies(first) else (second, first)
    return varying, other  # type: ignore[return-value]


def _of_channels(node: fx.Node, x: fx.Node, constant: Any) -> Tensor:
    """A constant that has a number for each channel of x, or one for all: (channels,)."""
    value = constant.meta["value"] if isinstance(constant, fx.Node) else constant
    found = torch.as_tensor(value, dtype=torch.float32).detach()
    shape = x.meta["value"].shape
    full = found.reshape((1,) * (len(shape) - found.ndim) + found.shape)
    if full.ndim != len(shape) or any(s != 1 for d, s in enumerate(full.shape) if d != 1):
        raise refused(node.name, f"has a constant of shape {tuple(found.shape)}, not one a channel")
    return full.flatten().expand(shape[1]).clone()


def _add(draft: Draft, node: fx.Node, names: Names) -> str:
    x, other = _sides(node)
    if _varies(other):
        if x.meta["value"].shape != other.meta["value"].shape:
            raise refused(node.name, "adds results of two shapes")
        return draft.add(ops.Add, node.name, [names[x], names[other]])
    b = _of_channels(node, x, other)
    return draft.add(ops.Bias, node.name, [names[x]], channels=len(b), bias=b)


def _subtract(draft: Draft, node: fx.Node, names: Names) -> str:
    x, other = node.args
    if not _varies(x) or _varies(other) or not isinstance(x, fx.Node):
        raise refused(node.name, "subtracts what depends on the inputs")
    b = -_of_channels(node, x, other)
    return draft.add(ops.Bias, node.name, [names[x]], channels=len(b), bias=b)


def _multiply(draft: Draft, node: fx.Node, names: Names) -> str:
    x, other = _sides(node)
    if _varies(other):
        raise refused(node.name, "multiplies two results that depend on the inputs")
    s = _of_channels(node, x, other)
    return draft.add(ops.Scale, node.name, [names[x]], channels=len(s), scale=s)


def _concat(draft: Draft, node: fx.Node, names: Names) -> str:
    parts: Any = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if dim != 1 or not all(_varies(part) for part in parts):
        raise refused(node.name, "puts together more than the channels of results")
    return draft.add(ops.Concat, node.name, [names[part] for part in parts])


def _pad(draft: Draft, node: fx.Node, names: Names) -> str:
    x: Any = node.args[0]
    given: dict[str, Any] = {**node.kwargs}
    given |= zip(("pad", "mode", "value"), node.args[1:], strict=False)
    pad = [*given["pad"], *[0] * (6 - len(given["pad"]))]
    if given.get("mode", "constant") != "constant" or min(pad) < 0 or len(pad) > 6:
        raise refused(node.name, "pads otherwise than with a constant around channels and image")
    value = float(given.get("value") or 0.0)
    return draft.add(
        ops.Pad, node.name, [names[x]], image=tuple(pad[:4]), channels=tuple(pad[4:]), value=value
    )


def _getitem(draft: Draft, node: fx.Node, names: Names) -> str:
    x: Any = node.args[0]
    index: Any = node.args[1]
    steps = _steps(index) if isinstance(index, tuple) else None
    if steps is None or x.meta["value"].ndim != 4:
        raise refused(node.name, "takes a part of a result that is not every so many pixels")
    return draft.add(ops.Subsample, node.name, [names[x]], stride=steps)


def _steps(index: tuple[Any, ...]) -> tuple[int, int] | None:
    """The strides of x[:, :, ::rows, ::columns], None of all else."""
    plain = all(isinstance(s, slice) and (s.start, s.stop) == (None, None) for s in index)
    steps = [s.step or 1 for s in index] if plain else []
    if len(steps) != 4 or steps[:2] != [1, 1] or min(steps) < 1:
        return None
    return steps[2], steps[3]


def _flatten(draft: Draft, node: fx.Node, names: Names) -> str:
    """A flatten, or a view that does what one does."""
    x: Any = node.args[0]
    before, after = x.meta["value"], node.meta["value"]
    if after.shape != before.flatten(1).shape:
        raise refused(node.name, f"makes {tuple(after.shape[1:])} of {tuple(before.shape[1:])}")
    return draft.add(ops.Flatten, node.name, [names[x]])


def _relu(draft: Draft, node: fx.Node, names: Names) -> str:
    return draft.add(ops.ReLU, node.name, [names[node.all_input_nodes[0]]])


def _passed(draft: Draft, node: fx.Node, names: Names) -> str:
    return names[node.all_input_nodes[0]]


FUNCTIONS: dict[Any, Rule] = {
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    operator.sub: _subtract,
    operator.mul: _multiply,
    torch.mul: _multiply,
    torch.cat: _concat,
    F.pad: _pad,
    operator.getitem: _getitem,
    torch.flatten: _flatten,
    torch.relu: _relu,
    F.relu: _relu,
}
METHODS: dict[Any, Rule] = {
    "add": _add,
    "mul": _multiply,
    "flatten": _flatten,
    "view": _flatten,
    "reshape": _flatten,
    "relu": _relu,
    "contiguous": _passed,
}

"""How far apart float32 may take two ways to compute the same network: a bound for each sign.

    u = 2^-24,  g(n) = n u / (1 - n u)

    sum of k products      |fl(sum w x) - sum w x| <= g(k) sum |w x|, in whatever order
    packed, real inputs    g(10 + k/64) sum |w x|, see :mod:`bnnbench.packed.sums`
    packed, bits           0; 0 in the trained network too where w is +-1 and no bias is added

With e for what two ways may differ by in x, each node hands on what they may differ by in its
result: a sum of products sum |w| e + 2 g(k + 12) sum |w| (|x| + e), what is done to each number
alone its slope times e and a few u of its parts. A sign that both ways have in common ends it: e is
0 behind it. The two may have different signs of z only where |z| <= e.

source: Higham, Accuracy and Stability of Numerical Algorithms (2002), lemma 3.1 and section 4.2
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 -- as everybody calls it

from bnnbench.packed.network import BINARY
from bnnbench.packed.nodes import INPUT
from bnnbench.packed.operations import KEEPING, REAL, along
from bnnbench.packed.shapes import BITS, REALS, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Parts = Mapping[str, Tensor]

UNIT = 2.0**-24  #: of float32: the largest error of one rounding, relative
FEW = 16  #: roundings of both ways in a normalization, with room
BEHIND = 12  #: roundings of a packed sum beyond one for each product
OWN = ("scale", "bias", "add")  #: what may be part of a binary layer: then its weights are not +-1


class Near(NamedTuple):
    """A result, and by how much two ways to compute it may differ: of the same shape."""

    value: Tensor
    error: Tensor


def roundings(count: int, unit: float = UNIT) -> float:
    """Return g(n): what n roundings, one after the other, come to at most, relative."""
    return count * unit / (1 - count * unit)


@torch.no_grad()
def bounds(
    nodes: Sequence[Any],
    tensors: Mapping[str, NDArray[Any]],
    inputs: Tensor,
    signs: Mapping[str, Tensor],
    off: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return by how much the numbers before each sign may differ, by the sign's name.

    Args:
        nodes: of a network without thresholds.
        tensors: its tensors.
        inputs: of the network, float32 (batch, ...).
        signs: what each sign gave, +1 and -1; these are taken for the results.
        off: by how much the inputs may differ, likewise; not at all if left out.
    """
    exact = _exact(nodes)
    near = {INPUT: Near(inputs, torch.zeros_like(inputs) if off is None else off)}
    found = {}
    for node in nodes:
        given = [near[name] for name in node.inputs]
        if node.op == "sign":
            found[node.name], value = given[0].error, signs[node.name]
            near[node.name] = Near(value, torch.zeros_like(value))
            continue
        parts = {end: torch.from_numpy(tensors[f"{node.name}.{end}"]) for end in node.parts()}
        value = _value(node, parts, [x.value for x in given])
        error = _error(node, parts, given, value)
        if node.name in exact:
            error = torch.zeros_like(value)
        elif node.op == "bias":
            error = error + 2 * roundings(_taps(nodes, node)) * along(parts["bias"].abs(), value)
        near[node.name] = Near(value, error)
    return found


def _exact(nodes: Sequence[Any]) -> set[str]:
    """The binary layers of bits whose weights are +-1: their sums are whole, also in float32."""
    kinds = {INPUT: REALS}
    for node in nodes:
        kinds[node.name] = kind_of(node, [kinds[name] for name in node.inputs])
    users = Counter((name, node.op) for node in nodes for name in node.inputs)
    return {
        node.name
        for node in nodes
        if node.op in BINARY
        and kinds[node.inputs[0]] == BITS
        and not any(users[node.name, op] for op in OWN)
    }


def _taps(nodes: Sequence[Any], bias: Any) -> int:
    """The products of the binary layer to whose sum torch adds a bias; 0 where it is none's."""
    by_name = {node.name: node for node in nodes}
    before = by_name.get(bias.inputs[0])
    while before is not None and before.op in ("scale", "add"):
        before = by_name.get(before.inputs[0])
    return _terms(before) if before is not None and before.op in BINARY else 0


def _value(node: Any, parts: Parts, x: list[Tensor]) -> Tensor:
    """A node's result as torch computes it, of real numbers."""
    if node.op in BINARY:
        return _sums(node, _weight(node, parts), _bordered(node, x[0]))
    return (REAL | KEEPING)[node.op](node, parts, x)


def _error(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    """What two ways may differ by in a node's result."""
    if node.op in RULES:
        return RULES[node.op](node, parts, given, value)
    kept = node.model_copy(update={"value": 0.0}) if node.op == "pad" else node
    return KEEPING[node.op](kept, parts, [x.error for x in given])


def _of_products(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    rounded = 2 * roundings(_terms(node) + BEHIND)
    x, error = _bordered(node, given[0].value), _bordered(node, given[0].error, 0.0)
    found = _sums(node, _weight(node, parts).abs(), error + rounded * (x.abs() + error))
    return found + rounded * along(parts["bias"].abs(), found) if "bias" in parts else found


def _of_means(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    (x, error), kernel = given[0], getattr(node, "kernel", given[0].value.shape[2:])
    rounded = 2 * roundings(kernel[0] * kernel[1] + 1)
    return REAL[node.op](node, parts, [error + rounded * (x.abs() + error)])


def _of_norm(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    x, error = given[0]
    slope = (parts["variance"] + node.eps).rsqrt() * parts.get("weight", torch.ones(1)).abs()
    size = x.abs() + along(parts["mean"].abs(), x)
    bias = along(parts["bias"].abs(), x) if "bias" in parts else 0.0
    return along(slope, x) * error + FEW * UNIT * (along(slope, x) * (size + error) + bias)


def _of_slope(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    error = given[0].error
    steepest = along(parts["slope"].abs().clamp(min=1), error)
    return steepest * error + 2 * UNIT * (value.abs() + steepest * error)


def _of_scale(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    error = along(parts["scale"].abs(), value) * given[0].error
    return error + 2 * UNIT * (value.abs() + error)


def _of_sum(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    error = sum((x.error for x in given), torch.zeros_like(value))
    return error + 2 * UNIT * (value.abs() + error)


def _same(node: Any, parts: Parts, given: list[Near], value: Tensor) -> Tensor:
    return given[0].error


RULES: dict[str, Callable[[Any, Parts, list[Near], Tensor], Tensor]] = {
    **dict.fromkeys((*BINARY, "dense", "conv"), _of_products),
    **dict.fromkeys(("avg_pool", "mean"), _of_means),
    **dict.fromkeys(("bias", "add"), _of_sum),
    **dict.fromkeys(("relu", "hardtanh"), _same),
    "norm": _of_norm,
    "prelu": _of_slope,
    "scale": _of_scale,
}


def _terms(node: Any) -> int:
    """The products of a sum."""
    if node.op in ("dense", "binary_dense"):
        return int(node.features)
    return int(node.channels // node.groups * node.kernel[0] * node.kernel[1])


def _weight(node: Any, parts: Parts) -> Tensor:
    """The weights of a sum as torch has them; of a binary layer, their signs."""
    weight = parts["weight"]
    if node.op not in BINARY:
        return weight
    bits = np.unpackbits(weight.numpy(), axis=1, count=_terms(node), bitorder="little")
    signs = torch.from_numpy(2.0 * bits - 1).float()
    return signs if node.op == "binary_dense" else signs.view(len(signs), -1, *node.kernel)


def _bordered(node: Any, x: Tensor, value: float | None = None) -> Tensor:
    """The inputs of a sum with their border, which has the node's own value if none is given."""
    if node.op in ("dense", "binary_dense"):
        return x
    (rows, columns), own = node.padding, float(getattr(node, "pad_value", 0))
    return F.pad(x, (columns, columns, rows, rows), value=own if value is None else value)


def _sums(node: Any, weight: Tensor, x: Tensor) -> Tensor:
    """The sums of products, without a bias and without a border."""
    if node.op in ("dense", "binary_dense"):
        return F.linear(x, weight)
    return F.conv2d(x, weight, None, node.stride, 0, node.dilation, node.groups)

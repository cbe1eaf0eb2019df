"""What each kind of layer becomes in a packed network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bnnbench.binarization import sign
from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.packed import nodes as ops
from bnnbench.packing.weights import Signs, bytes_of, signs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.packing.lowering import Draft

    Rule = Callable[["Draft", str, Any, list[str]], str]


KNOWN = "docs/packed-format.md lists those that can be"


class Layer(NamedTuple):
    """The nodes of a binary layer: its weights, and the sum of its inputs where it has a shift."""

    node: str
    total: str | None


def pair(value: Any) -> tuple[int, int]:
    """Return a size of torch's as (rows, columns)."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def refused(name: str, why: str) -> UsageError:
    """Return the error of a layer, or of another step, that cannot be packed."""
    return UsageError(f"not every layer can be packed: {name!r} {why}; {KNOWN}")


def _passed(draft: Draft, name: str, module: nn.Module, inputs: list[str]) -> str:
    return inputs[0]


def _flatten(draft: Draft, name: str, module: nn.Flatten, inputs: list[str]) -> str:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise refused(name, "flattens some dimensions only")
    return draft.add(ops.Flatten, name, inputs)


def _relu(draft: Draft, name: str, module: nn.ReLU, inputs: list[str]) -> str:
    return draft.add(ops.ReLU, name, inputs)


def _hardtanh(draft: Draft, name: str, module: nn.Hardtanh, inputs: list[str]) -> str:
    return draft.add(ops.HardTanh, name, inputs, low=module.min_val, high=module.max_val)


def _prelu(draft: Draft, name: str, module: nn.PReLU, inputs: list[str]) -> str:
    return draft.add(ops.PReLU, name, inputs, channels=module.num_parameters, slope=module.weight)


def _norm(
    draft: Draft, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, inputs: list[str]
) -> str:
    if module.running_mean is None or module.running_var is None:
        raise refused(name, "normalizes each batch by itself, without running statistics")
    return draft.add(
        ops.Norm,
        name,
        inputs,
        channels=module.num_features,
        eps=module.eps,
        has_scale=module.weight is not None,
        has_bias=module.bias is not None,
        mean=module.running_mean,
        variance=module.running_var,
        weight=module.weight,
        bias=module.bias,
    )


def _max_pool(draft: Draft, name: str, module: nn.MaxPool2d, inputs: list[str]) -> str:
    if module.return_indices:
        raise refused(name, "returns indices")
    return draft.add(ops.MaxPool, name, inputs, dilation=pair(module.dilation), **_window(module))


def _avg_pool(draft: Draft, name: str, module: nn.AvgPool2d, inputs: list[str]) -> str:
    if module.divisor_override:
        raise refused(name, "divides by a number of its own")
    return draft.add(
        ops.AvgPool, name, inputs, count_pad=module.count_include_pad, **_window(module)
    )


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, Any]:
    """What a pooling looks at."""
    return {
        "kernel": pair(module.kernel_size),
        "stride": pair(module.stride),
        "padding": pair(module.padding),
        "ceil": module.ceil_mode,
    }


def _mean(draft: Draft, name: str, module: nn.AdaptiveAvgPool2d, inputs: list[str]) -> str:
    if module.output_size not in (1, (1, 1)):
        raise refused(name, f"pools to {module.output_size}, not to one pixel")
    return draft.add(ops.Mean, name, inputs)


def _pad(draft: Draft, name: str, module: nn.ConstantPad2d, inputs: list[str]) -> str:
    if min(module.padding) < 0:
        raise refused(name, "has a negative padding")
    return draft.add(ops.Pad, name, inputs, image=tuple(module.padding), value=float(module.value))


def _pixel_shuffle(draft: Draft, name: str, module: nn.PixelShuffle, inputs: list[str]) -> str:
    return draft.add(ops.PixelShuffle, name, inputs, factor=module.upscale_factor)


def _linear(draft: Draft, name: str, module: nn.Linear, inputs: list[str]) -> str:
    return draft.add(
        ops.Dense,
        name,
        inputs,
        features=module.in_features,
        outputs=module.out_features,
        has_bias=module.bias is not None,
        weight=module.weight,
        bias=module.bias,
    )


def _conv(draft: Draft, name: str, module: nn.Conv2d, inputs: list[str]) -> str:
    return draft.add(
        ops.Conv,
        name,
        inputs,
        has_bias=module.bias is not None,
        weight=module.weight,
        bias=module.bias,
        **_geometry(name, module),
    )


def _geometry(name: str, module: nn.Conv2d) -> dict[str, Any]:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise refused(name, f"is padded by {module.padding!r} with {module.padding_mode!r}")
    return {
        "channels": module.in_channels,
        "filters": module.out_channels,
        "kernel": pair(module.kernel_size),
        "stride": pair(module.stride),
        "padding": pair(module.padding),
        "dilation": pair(module.dilation),
        "groups": module.groups,
    }


def _binary_linear(draft: Draft, name: str, module: BinaryLinear, inputs: list[str]) -> str:
    size = {"features": module.in_features, "outputs": module.out_features}
    return _binary(draft, name, module, inputs, ops.BinaryDense, size, "outputs")


def _binary_conv(draft: Draft, name: str, module: BinaryConv2d, inputs: list[str]) -> str:
    size = _geometry(name, module)
    before = draft.nodes.get(inputs[0])
    if isinstance(before, ops.Pad) and _is_ours(before, module):
        left, _, top, _ = before.image
        size |= {"padding": (top, left), "pad_value": int(before.value)}
        inputs = list(before.inputs)
    return _binary(draft, name, module, inputs, ops.BinaryConv, size, "filters")


def _is_ours(pad: ops.Pad, module: nn.Conv2d) -> bool:
    """Whether a padding can be done by the convolution itself."""
    left, right, top, bottom = pad.image
    is_even = left == right and top == bottom and pad.channels == (0, 0)
    return is_even and pad.value in (-1, 0, 1) and pair(module.padding) == (0, 0)


def _binary(
    draft: Draft,
    name: str,
    module: nn.Linear | nn.Conv2d,
    inputs: list[str],
    kind: Any,
    size: dict[str, Any],
    count: str,
) -> str:
    """Add a binary layer, then what its scale, its shift and its bias ask for."""
    signs = signs_of(module.weight, name)
    made = draft.add(kind, name, inputs, weight=bytes_of(signs.bits), **size)
    filters = len(signs.bits)
    end, total = made, None
    if signs.scale is not None:
        end = draft.add(ops.Scale, f"{name}.scale", [end], channels=filters, scale=signs.scale)
    if signs.shift is not None:
        end, total = _shifted(draft, name, signs, end, inputs, (kind, size | {count: 1}))
    if module.bias is not None:
        end = draft.add(ops.Bias, f"{name}.bias", [end], channels=filters, bias=module.bias)
    draft.layers[name] = Layer(made, total)
    return end


def _shifted(
    draft: Draft, name: str, signs: Signs, end: str, inputs: list[str], layer: tuple[Any, Any]
) -> tuple[str, str]:
    """Add shift times the sum of a filter's inputs: what a filter of +1 alone makes of them.

    The node of the sum is returned after the one that gives the result.
    """
    kind, size = layer
    if size.get("groups", 1) > 1:
        raise refused(name, "has groups, and filters whose two values are no +-scale")
    ones = np.ones((1, signs.bits.shape[1]), bool)
    total = draft.add(kind, f"{name}.sum", inputs, weight=bytes_of(ones), **size)
    shift: Any = signs.shift
    shift = draft.add(ops.Scale, f"{name}.shift", [total], channels=len(shift), scale=shift)
    return draft.add(ops.Add, f"{name}.shifted", [end, shift]), total


#: numbers whose signs an activation must give: around 0, and far from it
_TRIED = (-math.inf, -3.0, -1.0, -1e-3, -1e-45, -0.0, 0.0, 1e-45, 1e-3, 1.0, 3.0, math.inf)


@torch.no_grad()
def _activation(draft: Draft, name: str, module: BinaryActivation, inputs: list[str]) -> str:
    tried = torch.tensor(_TRIED)
    if module.learned or not torch.equal(module.binarizer.forward(tried), sign(tried)):
        told = type(module.binarizer).__name__
        raise refused(name, f"is an activation by {told}, which is not the sign of its input")
    made = draft.add(ops.SignOf, name, inputs)
    draft.signs.setdefault(name, []).append(made)
    return made


MODULES: dict[type[nn.Module], Rule] = {
    nn.Identity: _passed,
    nn.Dropout: _passed,
    nn.Dropout2d: _passed,
    nn.Flatten: _flatten,
    nn.ReLU: _relu,
    nn.Hardtanh: _hardtanh,
    nn.ReLU6: _hardtanh,
    nn.PReLU: _prelu,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _mean,
    nn.ConstantPad2d: _pad,
    nn.ZeroPad2d: _pad,
    nn.PixelShuffle: _pixel_shuffle,
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    BinaryLinear: _binary_linear,
    BinaryConv2d: _binary_conv,
    BinaryActivation: _activation,
}

"""What a network is made of, layer by layer: parameters, memory, multiplications.

    parameters   1-bit weights (of the binary layers) and real parameters, of 32 bits
    statistics   numbers that are kept and not learned, of 32 bits: running means and variances
    memory       bits = 1-bit weights + 32 (real parameters + statistics)
    MACs         multiplications with an addition, for one input: of a dense layer or convolution
                 numbers of its output x weights of one filter (transposed: of its input)
    W/A          bits of a layer's weights and of its inputs; both decide what a MAC costs

Weights used more than once are counted once, their MACs each time. Products with the zeros that a
convolution pads with are counted. What other layers multiply (normalization, attention, a weight
that is used without calling its layer) is not.

A layer is a dense layer or convolution, or what stands between two of them and is called as one
module; it is left out where it neither keeps numbers nor changes the shape, as sign and dropout do.

The bits of inputs are measured: the network is given one small random input, and a layer's are of
one bit where every number among them is -1, 0 or +1. Real numbers never are: the input is small so
that none reaches the end of a hard tanh. Where zeros stand beside signs, as in the padding that a
convolution pads with, one bit is in truth too little, and ``Layer.zeros`` says so.

source: the summary of larq (Geiger et al., 2020), which shows the same of each layer
departs from larq: bits of inputs are measured, there declared; MACs of 1-bit weights with real
inputs, or the other way round, have kinds of their own, there the wider of the two decides; the
compression is above 1, there below
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnnbench.layers import binary_layers
from bnnbench.roles import places, roles
from bnnbench.seeds import RandomState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

MULTIPLIERS = (nn.Linear, nn.modules.conv._ConvNd)
REAL_BITS = 32  #: of everything that is not binary
SMALL = 0.01  #: standard deviation of the input
COUNTS = ("binary", "real", "statistics", "memory_bits", "macs")  #: what adds up over layers


@dataclass(frozen=True)
class Layer:
    """One layer, counted for one input.

    ``output`` is the shape of what it returns (without the batch), None where it was never called
    or returned no tensor; ``calls`` is how often it was. ``weight_bits`` and ``input_bits`` are 1
    or 32, or None of a layer that is no dense layer or convolution; ``zeros`` tells that its 1-bit
    inputs have 0 for a third value, among them or padded around them.
    """

    name: str
    kind: str
    place: str
    output: tuple[int, ...] | None
    calls: int
    binary: int
    real: int
    statistics: int
    weight_bits: int | None
    input_bits: int | None
    zeros: bool
    macs: int

    @property
    def memory_bits(self) -> int:
        """The memory of what it keeps, in bits."""
        return self.binary + REAL_BITS * (self.real + self.statistics)

    @property
    def counts(self) -> dict[str, int]:
        """Its numbers, by name, as they add up over the layers."""
        return {name: getattr(self, name) for name in COUNTS}


@dataclass(frozen=True)
class Summary:
    """A network's layers, in its order, and their totals."""

    layers: tuple[Layer, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The sums over the layers, by name."""
        return {name: sum(layer.counts[name] for layer in self.layers) for name in COUNTS}

    @property
    def parameters(self) -> int:
        """The number of all parameters, of one bit or real."""
        return self.counts["binary"] + self.counts["real"]

    @property
    def real_memory_bits(self) -> int:
        """The memory of the same network were all of its weights real, in bits."""
        return REAL_BITS * (self.parameters + self.counts["statistics"])

    @property
    def compression(self) -> float:
        """How many times smaller the network is than with real weights."""
        memory = self.counts["memory_bits"]
        return self.real_memory_bits / memory if memory else 1.0

    @property
    def macs(self) -> dict[str, int]:
        """The MACs by the bits of weights and inputs: "1/1", "1/32", "32/1", "32/32"."""
        found = {"1/1": 0, "1/32": 0, "32/1": 0, "32/32": 0}
        for layer in self.layers:
            if layer.input_bits is not None:
                found[f"{layer.weight_bits}/{layer.input_bits}"] += layer.macs
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return layers and totals as plain values, as JSON has them."""
        layers = [asdict(layer) | layer.counts for layer in self.layers]
        totals = {
            "parameters": self.parameters,
            **self.counts,
            "real_memory_bits": self.real_memory_bits,
            "compression": self.compression,
            "macs_by_bits": self.macs,
        }
        return {"layers": layers, "totals": totals}


def summarize(network: nn.Module, shape: tuple[int, ...]) -> Summary:
    """Return what a network is made of, for one input of this shape (without the batch).

    The network is called once, in eval mode, and left in the mode it was found in; the random
    generators of the caller are not touched.
    """
    return Summary(tuple(_layers(network, _traced(network, shape))))


def _layers(network: nn.Module, calls: dict[str, _Calls]) -> Iterator[Layer]:
    kept, place, binary = _kept(network), places(network), binary_layers(network)
    for name, module, whole in _parts(network, calls):
        seen, multiplies = calls[name], isinstance(module, MULTIPLIERS)
        owners = [owner for owner in kept if owner == name or (whole and _inside(owner, name))]
        counts = sum((kept[owner] for owner in owners), Counter[str]())
        if not (counts or (whole and seen.reshapes)):
            continue
        yield Layer(
            name=name,
            kind=type(module).__name__,
            place=place.get(f"{name}.weight", ""),
            output=seen.output,
            calls=seen.count,
            binary=counts["binary"],
            real=counts["real"],
            statistics=counts["statistics"],
            weight_bits=(1 if name in binary else REAL_BITS) if multiplies else None,
            input_bits=seen.bits if multiplies and seen.count else None,
            zeros=seen.zeros and seen.bits == 1,
            macs=seen.macs,
        )


def _parts(network: nn.Module, calls: dict[str, _Calls]) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield modules with their names, in order, and whether they stand for all inside of them.

    Those do that multiply and, of the others, the outermost that are called and hold none that
    does: a learned activation is one layer, whatever it is made of.
    """
    last: str | None = None
    for name, module in network.named_modules():
        if last is not None and _inside(name, last):
            continue
        plain = not any(isinstance(part, MULTIPLIERS) for part in module.modules())
        whole = isinstance(module, MULTIPLIERS) or (plain and calls[name].count > 0)
        last = name if whole else last
        yield name, module, whole


def _inside(name: str, outer: str) -> bool:
    return not outer or name.startswith(f"{outer}.")


def _kept(network: nn.Module) -> dict[str, Counter[str]]:
    """The numbers that each module keeps itself, by module and kind, each counted once."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for role in roles(network):
        owner = role["parameter"].rpartition(".")[0]
        found[owner][role["role"]] += math.prod(role["shape"])
    stored = network.state_dict()
    for name, buffer in network.named_buffers():
        if name in stored and buffer.is_floating_point():  # neither scratch nor a count of batches
            found[name.rpartition(".")[0]]["statistics"] += buffer.numel()
    return dict(found)


@dataclass
class _Calls:
    """What was seen of a module while the network was called."""

    count: int = 0
    output: tuple[int, ...] | None = None
    reshapes: bool = False
    bits: int = 1
    zeros: bool = False
    macs: int = 0

    def add(self, module: nn.Module, x: Tensor | None, y: Tensor | None) -> None:
        """Take one call into account; real inputs in one of them are real inputs."""
        self.count += 1
        self.output = None if y is None else tuple(y.shape[1:])
        self.reshapes |= x is not None and y is not None and x.shape[1:] != y.shape[1:]
        if isinstance(module, MULTIPLIERS) and x is not None and y is not None:
            bits, zeros = _input_bits(x, padded=_pads_zeros(module))
            self.bits, self.zeros = max(self.bits, bits), self.zeros or zeros
            each = x if getattr(module, "transposed", False) else y
            self.macs += each.numel() * module.weight[0].numel()


@torch.no_grad()
def _traced(network: nn.Module, shape: tuple[int, ...]) -> dict[str, _Calls]:
    """Call the network once; returns what was seen of each module, by its name."""
    with _watched(network) as calls, RandomState(0).in_force():
        network(SMALL * torch.randn(1, *shape))
    return calls


@contextmanager
def _watched(network: nn.Module) -> Iterator[dict[str, _Calls]]:
    """Write down the calls of every module, in eval mode, until the block ends."""
    training = {module: module.training for module in network.modules()}
    calls, hooks = {}, []
    for name, module in network.named_modules():
        calls[name] = seen = _Calls()

        def see(m: nn.Module, given: Any, named: Any, output: Any, seen: _Calls = seen) -> None:
            seen.add(m, _tensor((*given, *named.values())), _tensor((output,)))

        hooks.append(module.register_forward_hook(see, with_kwargs=True))
    try:
        network.eval()
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode


def _tensor(values: tuple[Any, ...]) -> Tensor | None:
    return next((value for value in values if isinstance(value, torch.Tensor)), None)


def _input_bits(x: Tensor, *, padded: bool) -> tuple[int, bool]:
    """The bits of a layer's inputs, and whether zeros are among them or around them beside signs.

    Nothing but zeros is what dead real activations look like: 32. Zeros and ones may be the two
    values of a step, to which a padding of zeros adds none.
    """
    zero = x == 0
    if zero.all() or not (zero | (x.abs() == 1)).all():
        return REAL_BITS, False
    return 1, bool((x == -1).any()) if zero.any() else padded


def _pads_zeros(layer: Any) -> bool:
    """Whether a layer is a convolution that surrounds its inputs by zeros."""
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    padding = layer.padding
    return any(size > 1 for size in layer.kernel_size) if padding == "same" else any(padding)

"""A network's answers timed in turns: by packed bits, and by PyTorch in several ways.

    packed      the packed network
    fp32        the trained network, as PyTorch comes
    fp32-best   the fastest of it with oneDNN's products (where they are as exact) and with
                channels last, or as it comes
    bf16        the trained network in bfloat16
    int8        its dense layers with 8-bit integers, made anew for each batch; no convolutions

In every round each way answers the same batch often enough to be timed, in an order drawn anew: a
machine that slows down slows all of them. What a way cannot compute, it is left out of. The energy
of each turn is read where the machine lets us.
"""

from __future__ import annotations

import copy
import random
import statistics
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from bnnbench.deployments import BEST, BF16, DEFAULT, INT8, PACKED, WAYS, Timing
from bnnbench.energy import Meter
from bnnbench.pace import SETTINGS, onednn_is_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor

    Answer = Callable[[Tensor], Tensor]

VISIT = 0.02  #: seconds that a visit of a way lasts at least
QUARTILES = 4


class Turn(NamedTuple):
    """What an answer took in a turn: milliseconds, and joules for each example, None: not known."""

    ms: float
    joules: float | None


class Way(NamedTuple):
    """How a batch is computed: what answers, the kind of torch's products, and the batch."""

    answer: Answer
    products: str
    inputs: Tensor

    def seconds(self, calls: int) -> float:
        """Return the seconds of so many answers."""
        with _products(self.products):
            begun = time.perf_counter()
            for _ in range(calls):
                self.answer(self.inputs)
            return time.perf_counter() - begun

    def turn(self, calls: int, meter: Meter) -> Turn:
        """Return what one of so many answers takes."""
        before = meter.read()
        seconds = self.seconds(calls)
        joules = meter.joules(before, meter.read())
        each = None if joules is None else joules / (calls * len(self.inputs))
        return Turn(1000 * seconds / calls, each)


def timed(
    network: nn.Module,
    packed: Answer,
    inputs: Tensor,
    rounds: int,
    seed: int = 0,
    *,
    wanted: Collection[str] = tuple(WAYS),
    meter: Meter | None = None,
) -> list[Timing]:
    """Return how long a batch takes each way, in the order of the ways above.

    Args:
        network: trained, in evaluation mode; it is left as it is.
        packed: its packed form.
        inputs: (batch, ``*shape``), float32.
        rounds: visits of each way that count; one more is warm-up.
        seed: of the order in a round.
        wanted: the ways that are timed, packed bits among them.
        meter: reads the energy; by default the machine's.
    """
    meter = meter or Meter()
    with torch.inference_mode():
        ways = _ways(network, packed, inputs, wanted)
        calls = {name: _calls(way) for name, way in ways.items()}
        found: dict[str, list[Turn]] = {name: [] for name in ways}
        order, chance = list(ways), random.Random(seed)  # noqa: S311  # an order, no secret
        for _ in range(rounds):
            chance.shuffle(order)
            for name in order:
                found[name].append(ways[name].turn(calls[name], meter))
    return _best_of(found, len(inputs))


def _ways(
    network: nn.Module, packed: Answer, inputs: Tensor, wanted: Collection[str]
) -> dict[str, Way]:
    """All ways that give an answer; those that may be the best begin with its name."""
    default = SETTINGS["default"]
    ways = {PACKED: Way(packed, default, inputs), DEFAULT: Way(network, default, inputs)}
    others = [SETTINGS["onednn"]] if onednn_is_exact() else []
    ways |= {f"{BEST} {kind}": Way(network, kind, inputs) for kind in others}
    if inputs.ndim == 4:
        order: Any = {"memory_format": torch.channels_last}
        last, other = inputs.contiguous(**order), copy.deepcopy(network).to(**order)
        ways |= {f"{BEST} {kind} last": Way(other, kind, last) for kind in (default, *others)}
    ways[BF16] = Way(copy.deepcopy(network).bfloat16(), default, inputs.bfloat16())
    if (whole := _in_bytes(network)) is not None:
        ways[INT8] = Way(whole, default, inputs)
    return {n: way for n, way in ways.items() if n.split()[0] in wanted and _answers(way)}


def _in_bytes(network: nn.Module) -> nn.Module | None:
    """The network with 8-bit products in its dense layers, None where it has convolutions."""
    if any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in network.modules()):
        return None
    whole = copy.deepcopy(network)
    for name, layer in list(whole.named_modules()):
        if isinstance(layer, nn.Linear) and name:
            parent, _, last = name.rpartition(".")
            setattr(whole.get_submodule(parent), last, _plain(layer))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch is about to move this elsewhere
            made: nn.Module = torch.ao.quantization.quantize_dynamic(whole, {nn.Linear})
    except (AttributeError, RuntimeError):  # it has moved, or this processor has no such products
        return None
    return made


def _plain(layer: nn.Linear) -> nn.Linear:
    """The layer as torch's own class, the one that is looked for."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.load_state_dict({name: p.detach() for name, p in layer.named_parameters()})
    return plain


def _answers(way: Way) -> bool:
    """Whether a way has an answer; the first call is warm-up too."""
    try:
        way.seconds(1)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _calls(way: Way) -> int:
    """How many answers a visit takes."""
    calls = 1
    while (spent := way.seconds(calls)) < VISIT:
        calls = max(calls + 1, min(10 * calls, int(1.2 * calls * VISIT / max(spent, 1e-9))))
    return calls


def _best_of(found: dict[str, list[Turn]], batch: int) -> list[Timing]:
    """The timings of each way; the best is that of the least median, which may be the default."""
    timings = {name: _timing(name, batch, turns) for name, turns in found.items()}
    candidates = [t for name, t in timings.items() if name.split()[0] in (DEFAULT, BEST)]
    timings[BEST] = min(candidates, key=lambda t: t.median)._replace(way=BEST)
    return [timings[way] for way in WAYS if way in timings]


def _timing(way: str, batch: int, turns: list[Turn]) -> Timing:
    low, median, high = _quartiles([turn.ms for turn in turns])
    joules = [turn.joules for turn in turns if turn.joules is not None]
    if len(joules) < len(turns):
        return Timing(way, batch, median, low, high)
    least, middle, most = _quartiles(joules)
    return Timing(way, batch, median, low, high, middle, least, most)


def _quartiles(values: list[float]) -> list[float]:
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=QUARTILES, method="inclusive")


@contextmanager
def _products(kind: str) -> Iterator[None]:
    """Let torch's products in float32 be of a kind, until the block ends."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(kind)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

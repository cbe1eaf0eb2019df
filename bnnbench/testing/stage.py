"""What the checks let a component play on: small networks, data that can be learned, trainings."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Adam

from bnnbench.binarization import sign
from bnnbench.interfaces import Dataset, InferenceMode, Split
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Scheduled
from bnnbench.testing.checks import Failure
from bnnbench.training import Settings, Training

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from bnnbench.interfaces import Binarizer, Probe
    from bnnbench.measurements import Measurement

CLASSES, NUMBERS = 4, 16  #: of the data
BATCH, SEED = 32, 1


@dataclass(frozen=True)
class Straight:
    """The sign with the gradient handed on as it is: a binarizer to check optimizers with."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return the signs."""
        return sign(latent)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary", the signs."""
        return {"binary": InferenceMode(sign)}


class Whole(nn.Module):
    """The mean over the positions of each channel: an image becomes a vector."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels)."""
        return x.mean((2, 3))


def network(binary: int = 2, seed: int = 0, *, affine: bool = True) -> nn.Module:
    """Return a network of dense layers, so many of them binary; without any, of two real ones.

    If not ``affine``, normalization has no parameters: nothing but the layers can learn.
    """
    sizes = [NUMBERS, *[32] * (max(binary, 2) - 1), CLASSES]
    if binary == 1:
        sizes = [NUMBERS, CLASSES]
    kind = BinaryLinear if binary else nn.Linear
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(sizes):
            layers += [
                kind(narrow, wide, bias=False),
                nn.BatchNorm1d(wide, affine=affine),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers[:-1])


def convolutions(seed: int = 0) -> nn.Module:
    """Return a network with a binary convolution, a binary layer and frozen real parameters.

    Its inputs are the same as those of :func:`network`, as images of 4 x 4.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Unflatten(1, (1, 4, 4)),
            BinaryConv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            Whole(),
            BinaryLinear(6, CLASSES, bias=False),
            nn.BatchNorm1d(CLASSES),
        )
    made[2].requires_grad_(False)
    return made


@cache
def data(train: int = 256) -> Dataset:
    """Return noisy corners of a cube, a class for each of four: easily learned."""
    generator = torch.Generator().manual_seed(5)
    corners = sign(torch.randn(CLASSES, NUMBERS, generator=generator))

    def split(n: int) -> Split:
        targets = torch.arange(n) % CLASSES
        noise = torch.randn(n, NUMBERS, generator=generator)
        return Split(corners[targets] + 0.7 * noise, targets)

    return Dataset(split(train), split(128), split(64), CLASSES, synthetic=True)


def cross_entropy(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy."""
    return functional.cross_entropy(outputs, targets)


def method_of(
    binarizer: Scheduled[Binarizer] | None = None, binary: Scheduled[Optimizer] | None = None
) -> Method:
    """Return a method of one phase; what is left out is the checks' own."""
    phase = Phase(
        binarizer=binarizer or Scheduled(Straight),
        binary=binary or Scheduled(Adam, lr=1e-2),
        real=Scheduled(Adam, lr=1e-2),
    )
    return Method("checked", (phase,))


def training(
    method: Method,
    epochs: int,
    model: nn.Module | None = None,
    probes: Sequence[Probe] = (),
    train: int = 256,
    **settings: Any,
) -> Training:
    """Return a training of the harness's own, not yet begun."""
    chosen: dict[str, Any] = {"batch_size": BATCH, "seed": SEED, "update": "separate"} | settings
    return Training(
        model or network(),
        method,
        data(train),
        cross_entropy,
        Settings(epochs, **chosen),
        probes,
    )


def epochs_of(method: Method, least: int = 2) -> int:
    """Return a few epochs, and two for each phase."""
    return max(least, 2 * len(method.phases))


def finish(under_way: Training) -> list[Measurement]:
    """Train to the end; return all measurements but those of time."""
    return [m for told in under_way for m in timeless(told)]


def timeless(measured: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements that do not depend on the clock."""
    return [m for m in measured if not m.metric.startswith("seconds.")]


def end(under_way: Training) -> dict[str, Any]:
    """Return what a training has come to: network and latents."""
    model = {n: t.detach().clone() for n, t in under_way.model.state_dict().items()}
    return {"model": model, "latents": under_way.latents.state()}


def copied(state: Any, path: str = "its state") -> Any:
    """Return a state as it comes out of a file.

    Raises:
        Failure: there is something in it that no file of the harness can hold.
    """
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {copied(k, path): copied(v, f"{path}[{k!r}]") for k, v in state.items()}
    if type(state) in (list, tuple):
        return type(state)(copied(v, f"{path}[{i}]") for i, v in enumerate(state))
    if state is None or isinstance(state, bool | int | float | str):
        return copy.copy(state)
    raise Failure(
        f"{path} is a {type(state).__name__}; a checkpoint holds tensors, numbers, texts, lists and"
        " dicts"
    )


def difference(one: Any, other: Any, path: str = "") -> str:
    """Return where two states differ first, bit for bit; nothing where they are equal."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return "" if _equal(one, other) else path or "a tensor"
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs: Iterator[tuple[Any, Any, Any]] = ((k, one[k], other[k]) for k in one)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"the length of {path or 'a list'}"
        pairs = ((k, a, b) for k, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return "" if one == other or (one != one and other != other) else path or f"{one!r}"
    return next((d for k, a, b in pairs if (d := difference(a, b, f"{path}[{k!r}]"))), "")


def _equal(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and torch.equal(one.nan_to_num(), other.nan_to_num())

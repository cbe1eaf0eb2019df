"""How a machine trains a network fastest: its threads, its matrix products, its memory order.

All three are measured on the network itself, forward and backward, on zeros. What is found is kept
in a file, so that a training that is taken up goes on with sums in the same order; the first
process that measures decides for all.

    threads        one, or all that torch has
    products       "default", or "onednn", which on some processors is twice as fast in fp32
    channels_last  images with their channels innermost, for convolutions; not tried where torch
                   would break memory

A choice must be a fifth faster than what it replaces: less may be noise. oneDNN must also be as
exact as fp32: the same setting means products in bf16 on processors with matrix units.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from bnnbench.environment import processor
from bnnbench.seeds import RandomState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Products = Literal["default", "onednn"]

#: what torch calls the two kinds of products on CPU
SETTINGS: dict[Products, str] = {"default": "highest", "onednn": "medium"}
GAIN = 1.2  #: how many times as fast a choice must be
LOOKS = 9  #: timed steps of each, as long as they fit into a second


@dataclass(frozen=True)
class Pace:
    """How to train a network on this machine."""

    threads: int = 1
    products: Products = "default"
    channels_last: bool = False

    def set(self) -> None:
        """Let torch compute so, for the whole process."""
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(SETTINGS[self.products])


def pace_of(
    network: nn.Module,
    batch: tuple[int, ...],
    threads: int | None,
    most: int,
    folder: Path | None = None,
) -> Pace:
    """Return the pace for a network and inputs of this shape.

    Args:
        network: is left as it is.
        batch: the shape of the inputs, the batch's size first.
        threads: so many, whatever is fastest; None measures.
        most: the threads to try in place of one.
        folder: where what was found is kept, so that it is measured once for each machine.
    """
    if folder is None:
        return _fastest(network, batch, threads, most)
    path = folder / f"pace-{_digest(network, batch, threads, most)}.json"
    known = _known(path)
    return known or _kept(path, _fastest(network, batch, threads, most))


def gain(network: nn.Module, batch: tuple[int, ...], threads: int) -> float:
    """Return how many times as fast as on one thread a step is on several.

    Args:
        network: is left as it is, and so are torch's threads.
        batch: the shape of the inputs, the batch's size first.
        threads: how many.
    """
    if threads == 1:
        return 1.0
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        one, several = _seconds(network, batch, (Pace(), Pace(threads)))
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
    return one / several


def _known(path: Path) -> Pace | None:
    try:
        return Pace(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        with suppress(OSError):
            path.unlink()  # damaged: it is measured again
        return None


def _fastest(network: nn.Module, batch: tuple[int, ...], threads: int | None, most: int) -> Pace:
    """The best so far, changed in one way after the other where that pays."""
    best = Pace(threads or 1)
    for change in _changes(network, batch, threads, most):
        changed = replace(best, **change)
        spent, other = _seconds(network, batch, (best, changed))
        if other * GAIN < spent:
            best = changed
    return best


def _changes(
    network: nn.Module, batch: tuple[int, ...], threads: int | None, most: int
) -> Iterator[dict[str, Any]]:
    if threads is None and most > 1:
        yield {"threads": most}
    if onednn_is_exact():
        yield {"products": "onednn"}
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if len(batch) == 4 and convolutions and not any(map(breaks_memory, convolutions)):
        yield {"channels_last": True}


def breaks_memory(layer: nn.Conv2d) -> bool:
    """Whether torch may write beyond a layer's memory where images have channels innermost.

    torch 2.13 does on CPU, in the backward pass of 1x1 convolutions that leave pixels out, of 2 to
    7 input channels: sooner or later the process dies.
    """
    is_point = max(layer.kernel_size) == 1 and max(layer.stride) > 1
    return is_point and layer.in_channels in range(2, 8)


def _seconds(
    network: nn.Module, batch: tuple[int, ...], paces: tuple[Pace, Pace]
) -> tuple[float, float]:
    """The least of the times of a step at each pace, in turns: what the machine can do."""
    steps = [_step(network, batch, pace) for pace in paces]
    times: tuple[list[float], list[float]] = ([], [])
    with RandomState(0).in_force():
        while len(times[0]) <= 1 or (len(times[0]) <= LOOKS and sum(map(sum, times)) < 1):
            for pace, step, spent in zip(paces, steps, times, strict=True):
                pace.set()
                begun = time.perf_counter()
                step()
                spent.append(time.perf_counter() - begun)
    first, second = (min(spent[1:]) for spent in times)  # the first sets up memory
    return first, second


def _step(network: nn.Module, batch: tuple[int, ...], pace: Pace) -> Callable[[], None]:
    order = torch.channels_last if pace.channels_last else torch.contiguous_format
    model = copy.deepcopy(network).train().to(memory_format=order)  # type: ignore[call-overload]
    inputs = torch.zeros(batch)
    inputs = inputs.contiguous(memory_format=order) if inputs.ndim == 4 else inputs
    return lambda: model(inputs).sum().backward()


@functools.cache
def onednn_is_exact() -> bool:
    """Whether fp32 products stay fp32 when torch is allowed to take oneDNN's."""
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact, errors = a.double() @ b.double(), {}
    try:
        for products, setting in SETTINGS.items():
            torch.set_float32_matmul_precision(setting)
            errors[products] = float((a @ b - exact).abs().max())
    finally:
        torch.set_float32_matmul_precision(before)
    return errors["onednn"] <= 4 * errors["default"]


def _digest(network: nn.Module, batch: tuple[int, ...], threads: int | None, most: int) -> str:
    """What the choice may depend on, in a few digits."""
    text = repr((str(network), batch, threads, most, processor(), torch.__version__))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _kept(path: Path, pace: Pace) -> Pace:
    """Keep a pace, unless another process was first: then the choice is that one's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(asdict(pace), file)
        try:
            os.link(file.name, path)  # fails where the file exists, and appears whole
        finally:
            Path(file.name).unlink()
        return pace
    except FileExistsError:
        return _known(path) or pace
    except OSError:
        return pace  # a folder that cannot be written to: this process keeps to it

"""What layers of one bit cost, as ratios: ``python -m benchmarks.packed``.

The same product by packed bits and by torch, in turns, in an order drawn anew each round; the
first rounds are warm-up. A ratio is the median over the rounds of torch's time over ours, within a
round: how many times as fast packed bits are. Each is repeated within a round so that a turn takes
a millisecond or more.

    dense         1024 and 4096 wide, batch 1 and 100, sums as int32 and as packed signs
    real          the same weights with real inputs, by tables of sums
    convolution   BinaryNet's 3x3 layers for CIFAR-10, images in words
    mlp, vgg      whole networks with binary activations, exported and loaded again

    packing       the signs of real activations into words, against the fp32 product that follows
    fp32          torch's default;      onednn   torch allowed to take oneDNN's fp32 products
    bf16          both sides in bf16;   int8     the faster of torch._int_mm and quantized linear;
                  not for convolutions: bf16 takes seconds where the processor does not have it

Goals are the ratios of a prototype on a processor with AVX-512's vector popcount; see
docs/packed.md for what AVX2 can reach. Prints a line each, and JSON with ``--json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.turns import Step, rounds
from bnnbench.environment import processor
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import binary_layers
from bnnbench.pace import SETTINGS
from bnnbench.packed import product
from bnnbench.packed.bits import pack, pack_images
from bnnbench.packed.convolution import BinaryConvolution, Geometry, pack_filters
from bnnbench.packed.dense import BinaryDense, RealDense
from bnnbench.packed.thresholds import batch_norm
from bnnbench.packing.export import export
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp

WIDTHS, BATCHES = (1024, 4096), (1, 100)
#: channels in, channels out, side: BinaryNet for CIFAR-10, all 3x3 with padding
CONVOLUTIONS = ((128, 128, 32), (128, 256, 16), (256, 256, 16), (256, 512, 8), (512, 512, 8))
NETWORKS = (
    ("mlp 784-1024-1024-1024-10", mlp, (784,)),
    ("vgg of BinaryNet", binarynet, (3, 32, 32)),
)
TURN = 1e-3  #: seconds that a turn takes at least

#: batch 100, one thread: width to baseline to how many times as fast
GOALS = {
    1024: {"fp32": 41.0, "onednn": 18.0, "bf16": 9.5, "int8": 4.9},
    4096: {"fp32": 60.0, "onednn": 24.0, "bf16": 12.0, "int8": 8.5},
}


def signs(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape).float() * 2 - 1


def allowed(products: str, step: Step) -> Step:
    """A step with torch's setting for the library of its fp32 products."""
    setting = SETTINGS[products]  # type: ignore[index]

    def set_and_step() -> None:
        torch.set_float32_matmul_precision(setting)
        step()

    return set_and_step


def torch_products(x: Tensor, w: Tensor) -> dict[str, Step]:
    """The product x w' by all that torch has for it."""
    half = x.bfloat16(), w.bfloat16()
    found: dict[str, Step] = {
        "fp32": allowed("default", lambda: functional.linear(x, w)),
        "onednn": allowed("onednn", lambda: functional.linear(x, w)),
        "bf16": lambda: functional.linear(*half),
    }
    found["int8"] = min(int8_products(x, w), key=seconds)
    return found


def int8_products(x: Tensor, w: Tensor) -> Iterator[Step]:
    """The product of signs by torch's two ways to multiply bytes."""
    one, other = x.to(torch.int8), w.to(torch.int8).t()
    if len(x) > 16:  # torch asks for more rows
        yield lambda: torch._int_mm(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantized tensors are to go, but nothing else is as fast
        weight = torch.quantize_per_tensor(w, 1.0, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(weight, None)
        quantized = torch.quantize_per_tensor(x, 1.0, 1, torch.quint8)
    yield lambda: torch.ops.quantized.linear(quantized, packed, 8.0, 128)


def seconds(step: Step) -> float:
    """The least of three times of a step."""
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def norm(channels: int, length: int) -> Any:
    """Thresholds as a batch normalization gives them."""
    deviation = length**0.5
    mean, variance = torch.randn(channels) * deviation, torch.rand(channels) * length
    return batch_norm(length, mean, variance, torch.randn(channels), torch.randn(channels))


def dense_steps(width: int, batch: int) -> dict[str, Step]:
    """A layer as wide as its input, by packed bits and by torch."""
    x, w = signs(batch, width), signs(width, width)
    weight, thresholds = pack(w.numpy()), norm(width, width)
    layer, words, real = BinaryDense(weight, width), pack(x.numpy()), torch.randn(batch, width)
    return {
        "packed": lambda: layer(words),
        "packed signs": lambda: layer.signs(words, thresholds),
        "packing": lambda: pack(real.numpy()),
        **torch_products(x, w),
    }


def real_steps(width: int, batch: int) -> dict[str, Step]:
    """Binary weights and real inputs."""
    x, w = torch.randn(batch, width), signs(width, width)
    layer = RealDense(pack(w.numpy()), width)
    return {
        "packed": lambda: layer(x.numpy()),
        "fp32": allowed("default", lambda: functional.linear(x, w)),
        "onednn": allowed("onednn", lambda: functional.linear(x, w)),
        "bf16": lambda: functional.linear(x.bfloat16(), w.bfloat16()),
    }


def convolution_steps(channels: int, filters: int, side: int, batch: int) -> dict[str, Step]:
    """A 3x3 convolution with a rim of zeros."""
    x, w = signs(batch, channels, side, side), signs(filters, channels, 3, 3)
    geometry = Geometry((3, 3), padding=(1, 1))
    layer = BinaryConvolution(pack_filters(w.numpy()), channels, geometry)
    words, thresholds = pack_images(x.numpy()), norm(filters, 9 * channels)
    last = x.contiguous(memory_format=torch.channels_last)
    kernel = w.contiguous(memory_format=torch.channels_last)
    return {
        "packed": lambda: layer(words),
        "packed signs": lambda: layer.signs(words, thresholds),
        "fp32": allowed("default", lambda: functional.conv2d(x, w, padding=1)),
        "onednn": allowed("onednn", lambda: functional.conv2d(last, kernel, padding=1)),
    }


def network_steps(build: Callable[..., nn.Module], shape: tuple[int, ...], batch: int) -> Any:
    """A whole network of random weights and sign activations, exported and loaded again."""
    model = build(shape=shape, classes=10, activation="sign").eval().requires_grad_(False)
    for layer in binary_layers(model).values():
        layer.weight.copy_(signs(*layer.weight.shape))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            randomized(module)
    split = Split(torch.randn(4, *shape), torch.randint(10, (4,)))
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(split, split, split, classes=10)
        packed = export(model, data, Path(folder) / "packed.safetensors").packed
    inputs = torch.randn(batch, *shape)

    def plain() -> None:
        with torch.inference_mode():
            model(inputs)

    return {
        "packed": lambda: packed(inputs),
        "fp32": allowed("default", plain),
        "onednn": allowed("onednn", plain),
    }


def randomized(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Give a batch normalization statistics about as large as sums of signs have."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 5)
    norm.running_var.uniform_(50, 500)
    if norm.weight is not None:
        norm.weight.normal_()
        norm.bias.normal_()


def repeated(step: Step) -> tuple[Step, int]:
    """A step as often as it takes to fill a turn, and how often that is."""
    times = max(1, int(TURN / max(seconds(step), 1e-7)))

    def many() -> None:
        for _ in range(times):
            step()

    return many, times


def compared(name: str, steps: dict[str, Step], count: int, goals: dict[str, float]) -> Any:
    """The milliseconds of each step, and how many times as fast the packed ones are."""
    for step in steps.values():
        step()  # compiles
    turns = {key: repeated(step) for key, step in steps.items()}
    found = rounds({key: turn for key, (turn, _) in turns.items()}, count)
    each = {key: [s / turns[key][1] for s in found[key]] for key in found}
    ratios: dict[str, Any] = {}
    for ours in (key for key in steps if key.startswith("pack")):
        for theirs in (key for key in steps if not key.startswith("pack")):
            if ours != "packing" or theirs == "fp32":
                pairs = zip(each[theirs], each[ours], strict=True)
                goal = goals.get(theirs) if ours == "packed" else None
                ratios[f"{theirs} / {ours}"] = summary([a / b for a, b in pairs], goal)
    ms = {key: summary([s * 1e3 for s in times], None) for key, times in each.items()}
    return {"name": name, "ms": ms, "ratios": ratios}


def summary(values: list[float], goal: float | None) -> dict[str, Any]:
    """The median, quartiles and whether a goal is met."""
    ordered, quarter = sorted(values), len(values) // 4
    found: dict[str, Any] = {
        "median": float(f"{statistics.median(ordered):.4g}"),
        "quartiles": [float(f"{ordered[i]:.4g}") for i in (quarter, -1 - quarter)],
    }
    if goal is not None:
        found |= {"goal": goal, "met": found["median"] >= goal}
    return found


def all_steps(batches: tuple[int, ...]) -> Iterator[tuple[str, dict[str, Step], dict[str, float]]]:
    """Every layer and network: its name, steps and goals."""
    for width in WIDTHS:
        for batch in batches:
            goals = GOALS[width] if batch == 100 and torch.get_num_threads() == 1 else {}
            yield f"dense {batch}x{width}x{width}", dense_steps(width, batch), goals
            yield f"real {batch}x{width}x{width}", real_steps(width, batch), {}
    for channels, filters, side in CONVOLUTIONS:
        for batch in batches:
            few = min(batch, 10)
            name = f"convolution {few}x{channels}x{side}x{side}, {filters} of 3x3"
            yield name, convolution_steps(channels, filters, side, few), {}
    for name, build, shape in NETWORKS:
        for batch in batches:
            few = min(batch, 100 if len(shape) == 1 else 10)
            yield f"{name} batch {few}", network_steps(build, shape, few), {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--only", default="", help="those whose name has this text")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    told = {
        "processor": processor(), "torch": torch.__version__, "numpy": np.__version__,
        "counted by": product.fastest(), "threads": arguments.threads,
        "rounds": arguments.rounds, "layers": [],
    }  # fmt: skip
    for name, steps, goals in all_steps(tuple(arguments.batches)):
        if arguments.only in name:
            layer = compared(name, steps, arguments.rounds, goals)
            told["layers"].append(layer)
            if not arguments.json:
                print(_lines(layer))
    print(json.dumps(told, indent=2) if arguments.json else _head(told))


def _head(told: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in told.items() if name != "layers")


def _lines(layer: dict[str, Any]) -> str:
    lines = [layer["name"]]
    for name, ms in layer["ms"].items():
        low, high = ms["quartiles"]
        lines.append(f"    {name:22} {ms['median']:9.4g} ms  ({low:.4g} to {high:.4g})")
    for name, ratio in layer["ratios"].items():
        low, high = ratio["quartiles"]
        goal = (
            f"  goal {ratio['goal']:g} {'met' if ratio['met'] else 'MISSED'}"
            if "goal" in ratio
            else ""
        )
        lines.append(f"    {name:22} {ratio['median']:9.4g}     ({low:.4g} to {high:.4g}){goal}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Public training loops that you have checked out, beside ours: ``python -m benchmarks.peers``.

An epoch of 20 steps of the MLP 784-1024-1024-1024-10, batch 100, on random images in memory, one
thread. Each loop takes its steps with its own layers and its own optimizer; ours is the harness's
whole epoch of the same method, its evaluation of one image and its count of flips included, which
the others do not have. They take turns; times are of the processor.

    --binaryconnect-pytorch DIR   github.com/CoolSunflower/BinaryConnect-PyTorch, at c1aad2c:
                                  stochastic BinaryConnect, its layers, optimizer and epoch
    --binarynet DIR               github.com/itayhubara/BinaryNet.pytorch, at b99870a (the newest
                                  fails on MNIST's input): binary weights and activations, its
                                  layers and the step of its MNIST script, which is not a function

Code in these folders is run as it is: name only what you would run yourself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import random
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnnbench.interfaces import Dataset, Split
from bnnbench.pace import pace_of
from bnnbench.probes import FlipProbe
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.losses import cross_entropy, squared_hinge
from bnnbench_plugins.ste import ste

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH, STEPS, WIDTH, DEPTH, WARMUP = 100, 20, 1024, 3, 2
SIZES = (784, *[WIDTH] * DEPTH, 10)


def ours(method: Any, loss: Any, activation: str) -> Callable[[], object]:
    """The harness's epoch."""
    images, targets = torch.rand(BATCH * STEPS, 1, 28, 28), torch.randint(10, (BATCH * STEPS,))
    one = Split(images[:1], targets[:1])
    data = Dataset(Split(images, targets), one, one, classes=10)
    torch.manual_seed(0)
    model = mlp(shape=(1, 28, 28), classes=10, depth=DEPTH, width=WIDTH, activation=activation)  # type: ignore[arg-type]
    settings = Settings(10**6, BATCH, 0, update="compiled", select="last")
    training = iter(Training(model, method, data, loss, settings, [FlipProbe()]))
    next(training)
    return lambda: next(training)


def binaryconnect_pytorch(folder: Path) -> Callable[[], object]:
    """Its network of its layers, trained by its ``train_epoch``."""
    names = ("model", "hyperparams", "utils")  # the last imports the others
    parts, _, utils = (loaded(folder / f"{name}.py") for name in names)
    layers: list[nn.Module] = []
    for place, (n, m) in enumerate(pairwise(SIZES)):
        layers.append(parts.BinaryDenseLayer(n, m, stochastic=True, bias=False))
        nonlinearity = nn.ReLU() if place < DEPTH else nn.Identity()
        layers.append(parts.BatchNormLayer(m, epsilon=1e-4, alpha=0.15, nonlinearity=nonlinearity))
    network = nn.Sequential(*layers)
    with contextlib.redirect_stdout(sys.stderr):
        optimizer = utils.BinaryConnectOptimizer(network, lr=1e-3)
    images = torch.rand(BATCH * STEPS, 1, 28, 28)
    targets = 2 * torch.eye(10)[torch.randint(10, (BATCH * STEPS,))] - 1
    arguments = (images, targets, 1e-3, network, utils.squared_hinge_loss, optimizer, "cpu")
    return lambda: utils.train_epoch(*arguments)


def binarynet(folder: Path) -> Callable[[], object]:
    """Its layers in a network of our sizes, and the order of its script's step."""
    layer = loaded(folder / "models" / "binarized_modules.py").BinarizeLinear
    layers: list[nn.Module] = []
    for n, m in pairwise(SIZES[:-1]):
        layers += [layer(n, m), nn.BatchNorm1d(m), nn.Hardtanh()]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, 10), nn.LogSoftmax(1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    images, targets = torch.rand(BATCH * STEPS, 784), torch.randint(10, (BATCH * STEPS,))

    def epoch() -> None:
        for inputs, labels in zip(images.split(BATCH), targets.split(BATCH), strict=True):
            loss = nn.functional.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            real = [p for p in network.parameters() if hasattr(p, "org")]
            for parameter in real:
                parameter.data.copy_(parameter.org)
            optimizer.step()
            for parameter in real:
                parameter.org.copy_(parameter.data.clamp_(-1, 1))

    return epoch


def loaded(path: Path) -> ModuleType:
    """The module of a file, under the name by which its neighbours import it."""
    sys.modules.setdefault("torch.nn._functions", ModuleType("gone"))  # imported, not used
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} must be a Python file of the named checkout, there is none")
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(one: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    """The seconds of both, and the median ratio of the first to the second."""
    found: dict[Any, list[float]] = {one: [], other: []}
    for number in range(rounds + WARMUP):
        for epoch in random.sample((one, other), 2):
            begun = time.process_time()
            epoch()
            if number >= WARMUP:
                found[epoch].append((time.process_time() - begun) / STEPS)
    ratios = sorted(a / b for a, b in zip(found[one], found[other], strict=True))
    return {
        "ours, ms a step": round(statistics.median(found[one]) * 1e3, 2),
        "theirs, ms a step": round(statistics.median(found[other]) * 1e3, 2),
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(ratios[0], 3), round(ratios[-1], 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--binaryconnect-pytorch", type=Path)
    parser.add_argument("--binarynet", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = mlp(shape=(1, 28, 28), classes=10, depth=DEPTH, width=WIDTH)
    pace_of(network, (BATCH, 1, 28, 28), 1, 1).set()
    found = {}
    if arguments.binaryconnect_pytorch:
        mine = ours(binaryconnect(binarization="stochastic"), squared_hinge(), "relu")
        theirs = binaryconnect_pytorch(arguments.binaryconnect_pytorch)
        found["BinaryConnect-PyTorch, stochastic"] = measured(mine, theirs, arguments.rounds)
    if arguments.binarynet:
        mine = ours(ste(lr_scale="none"), cross_entropy(), "sign")
        found["BinaryNet.pytorch"] = measured(
            mine, binarynet(arguments.binarynet), arguments.rounds
        )
    if not found:
        parser.error("name the folder of at least one checkout; see --help")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

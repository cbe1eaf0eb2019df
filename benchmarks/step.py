"""What a training step costs, as ratios: ``python -m benchmarks.step``.

Steps of the MLP 784-1024-1024-1024-10, batch 100, on random inputs, flips counted in every step,
take turns in an order drawn anew each round, so that a machine that slows down slows them all; the
first rounds are warm-up. A ratio is the median over the rounds of the ratio within a round.

    default    PyTorch as it comes: default products, its default Adam (one kernel per operation)
    reference  real weights, fused Adam or SGD: the fastest real-valued step that we know
    naive      BinaryConnect as public repositories write it: copy, binarize, restore, each weight
    NAME       a method through the compiled pass, and "NAME separate" through torch's operations
    harness    BinaryConnect in the harness's own loop against the bare loop of the same pass
    pass       the compiled pass over as many weights, with its count of flips and without, one
               thread; and a step against what is left of it without the count

``--bf16`` lets the products of the methods be computed in bf16. ``--vgg`` times BinaryConnect's
CIFAR-10 network instead, with batches of 50. Products are those that the harness would choose on
this machine (:mod:`bnnbench.pace`); a floor, the time of the products alone, says what no update
can change. Prints a line each, or JSON with ``--json``: {name: {ratio, low, high, goal, met}}, from
quartile to quartile, and under "machine" what it ran on and the milliseconds of every step.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.turns import Step, ratio, rounds
from bnnbench import kernels
from bnnbench.binarization import sign
from bnnbench.elementwise import passed
from bnnbench.environment import processor
from bnnbench.interfaces import Binarizer, Dataset, Split
from bnnbench.latents import Latents
from bnnbench.layers import binary_layers, real_parameters
from bnnbench.pace import SETTINGS, pace_of
from bnnbench.probes import FlipProbe
from bnnbench.training import Settings, Training
from bnnbench.updates import OnePass, Separate, Update
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binarizers import Sign, Stochastic
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import Tanh
from bnnbench_plugins.bnew import Bnew, Relaxed
from bnnbench_plugins.bop import Bop, Latentless
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.optimizers import ClippedAdam, ClippedSGD, FusedAdam

#: binarizer, optimizer, its hyperparameters, binary activations or not, goal against the reference
METHODS: dict[str, tuple[Binarizer, Any, dict[str, float], bool, float]] = {
    "bc-stochastic sgd": (Stochastic(), ClippedSGD, {"lr": 1e-3}, False, 1.05),
    "bc-stochastic adam": (Stochastic(), ClippedAdam, {"lr": 1e-4}, False, 1.05),
    "bc-deterministic sgd": (Sign(), ClippedSGD, {"lr": 1e-3}, False, 1.05),
    "bc-deterministic adam": (Sign(), ClippedAdam, {"lr": 1e-4}, False, 1.05),
    "bmd": (Tanh(3.0), FusedAdam, {"lr": 1e-4}, False, 1.05),
    "bnew": (Relaxed(), Bnew, {"lr": 1e-4, "lam": 1e-4}, False, 1.05),
    "ste 1W1A": (Sign(), ClippedAdam, {"lr": 1e-4}, True, 1.10),
    "bop 1W1A": (Latentless(), Bop, {"gamma": 1e-4, "tau": 1e-8}, True, 1.10),
}
DEFAULT_GOAL, BF16_GOAL = 0.60, 0.40
COUNT_GOAL = 1.02
COUNTED, UNCOUNTED = "bc-deterministic sgd", "bc-deterministic sgd without count"
SCALED = (torch.optim.SGD, {"lr": 1e-3}), (torch.optim.Adam, {"lr": 1e-4})


class Task:
    """A network's shape and a batch, and what is computed with it in a step."""

    def __init__(
        self,
        *,
        vgg: bool = False,
        bf16: bool = False,
        width: int = 1024,
        depth: int = 3,
        batch: int = 100,
    ) -> None:
        self.vgg, self.bf16, self.width, self.depth = vgg, bf16, width, depth
        self.shape = (3, 32, 32) if vgg else (1, 28, 28)
        self.batch = 50 if vgg else batch
        self.inputs = torch.rand(self.batch, *self.shape)
        self.targets = torch.randint(10, (self.batch,))
        self.loss = squared_hinge()
        self.last = False

    def network(self, activation: str = "relu") -> nn.Module:
        torch.manual_seed(0)
        if self.vgg:
            return binarynet(shape=self.shape, classes=10, activation=activation).train()  # type: ignore[arg-type]
        sizes = {"width": self.width, "depth": self.depth}
        return mlp(shape=self.shape, classes=10, activation=activation, **sizes).train()  # type: ignore[arg-type]

    def backward(self, model: nn.Module, *, bf16: bool | None = None) -> None:
        inputs = self.inputs
        if self.last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16 if bf16 is None else bf16):
            outputs = model(inputs)
        self.loss(outputs.float(), inputs, self.targets).backward()


def real_step(task: Task, kind: Any, hyper: dict[str, Any], *, plain: bool = False) -> Step:
    """Real weights; ``plain`` is PyTorch as it comes."""
    model = task.network()
    if task.last and not plain:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = kind(model.parameters(), **hyper)

    def step() -> None:
        with products("highest" if plain else None):
            task.backward(model, bf16=False if plain else None)
        optimizer.step()
        optimizer.zero_grad()

    return step


class products:  # noqa: N801 a context manager reads as one
    """Torch's setting for products within a block; None leaves it."""

    def __init__(self, setting: str | None) -> None:
        self.setting, self.before = setting, torch.get_float32_matmul_precision()

    def __enter__(self) -> None:
        torch.set_float32_matmul_precision(self.setting or self.before)

    def __exit__(self, *_: object) -> None:
        torch.set_float32_matmul_precision(self.before)


def naive_step(task: Task) -> Step:
    """Stochastic BinaryConnect: every weight is copied, drawn, used, restored, clipped."""
    model = task.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    weights = [layer.get_parameter("weight") for layer in binary_layers(model).values()]

    def step() -> None:
        kept = [weight.data.clone() for weight in weights]
        for weight in weights:
            p = ((weight.data + 1) / 2).clamp(0, 1)
            weight.data = torch.where(
                torch.bernoulli(p) > 0, torch.ones_like(p), -torch.ones_like(p)
            )
        with products("highest"):
            task.backward(model, bf16=False)
        for weight, old in zip(weights, kept, strict=True):
            weight.data = old
        before = [sign(weight.data) for weight in weights]
        optimizer.step()
        optimizer.zero_grad()
        for weight, signs in zip(weights, before, strict=True):
            weight.data.clamp_(-1, 1)
            (sign(weight.data) != signs).sum().item()

    return step


def method_step(task: Task, name: str, way: Callable[[Latents, Any], Update]) -> Step:
    """The bare loop by hand: the method's pass, and the real parameters' own optimizer."""
    binarizer, kind, hyper, binary_activations, _ = METHODS[name]
    model = task.network("sign" if binary_activations else "relu")
    latents = Latents(model)
    if task.last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        latents.lie_as_weights()
    binary = kind(latents.groups(), **hyper)
    real = torch.optim.Adam(real_parameters(model).values(), lr=1e-4, fused=True)
    update, flips = way(latents, binary), FlipProbe()
    list(flips.epoch(latents))

    def step() -> None:
        update.project(binarizer)
        task.backward(model)
        update.step(binarizer, binarizer)
        real.step()
        real.zero_grad()
        flips.step(latents)
        latents.flips.clear()

    return step


def count_steps() -> tuple[Step, Step]:
    """The pass over 2.9 million weights, deterministic SGD, with its count and without."""
    weights = [torch.rand(2_910_208) - 0.5 for _ in range(3)]
    arrays = [w.numpy() for w in weights]
    numbers, height = (np.float32(1e-3), np.float32(1)), (np.float32(1),)
    movement = ClippedSGD([weights[0]], lr=1e-3).elementwise(
        {"lr": 1e-3, "momentum": 0, "clip": 1}, 1
    )
    look = Sign().elementwise(weights[0].view(1, -1)).forward
    kernel = kernels.compiled(movement.rule, look, passed, np.float32, random=False, parallel=False)
    move, view = (kernels._typed(rule, np.float32) for rule in (movement.rule, look))

    @kernels.njit
    def uncounted(w, g, out, numbers, height):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for i in range(w.size):
            new = move(w[i], g[i], numbers[0], numbers[1])
            w[i] = new
            out[i] = view(new, height[0])

    key = kernels.U32(0), kernels.U32(0)
    return (
        lambda: kernel(*arrays, (), numbers, (), height, *key),
        lambda: uncounted(*arrays, numbers, height),
    )


def floor_step(task: Task) -> Step:
    """Forward and backward, without any update."""
    model = task.network()

    def step() -> None:
        task.backward(model)
        model.zero_grad()

    return step


def harness(task: Task, steps: int) -> tuple[Step, Step]:
    """An epoch of the harness, its evaluation of few images included, and the bare loop."""
    count = task.batch * steps
    inputs, targets = torch.rand(count, *task.shape), torch.randint(10, (count,))
    few = Split(inputs[:1], targets[:1])
    data = Dataset(Split(inputs, targets), few, few, classes=10)
    settings = Settings(10**6, task.batch, 0, update="compiled", select="last")
    training = iter(
        Training(
            task.network(),
            binaryconnect(optimizer="adam"),
            data,
            task.loss,
            settings,
            [FlipProbe()],
        )
    )
    next(training)
    bare, order = method_step(task, "bc-deterministic adam", OnePass), torch.randperm(count)

    def by_hand() -> None:
        for chosen in order.split(task.batch):
            task.inputs, task.targets = inputs[chosen], targets[chosen]
            bare()

    return lambda: next(training), by_hand


def comparisons(task: Task) -> Iterator[tuple[str, str, str, float | None]]:
    """What is compared: a name, the two steps, and the goal of their ratio."""
    cheap = BF16_GOAL if task.bf16 else DEFAULT_GOAL
    if task.vgg:
        cheap = 0.46 if task.bf16 else 0.82
    for name, (_, kind, _, _, goal) in METHODS.items():
        reference = "reference sgd" if kind is ClippedSGD else "reference adam"
        yield f"{name} / reference", name, reference, goal
        if "sgd" not in name:
            yield f"{name} / default", name, "default adam", cheap
        yield f"{name}, separate / reference", f"{name} separate", reference, None
    yield "naive bc-stochastic / default", "naive", "default adam", None
    yield "reference adam / default", "reference adam", "default adam", None
    yield "products alone / default", "floor", "default adam", None
    yield "harness / bare loop", "harness", "bare loop", 1.03
    yield "pass / pass without count", "pass", "uncounted", None
    if not task.vgg:  # the pass above is over the weights of the other network
        yield "step / step without count", COUNTED, UNCOUNTED, COUNT_GOAL


def all_steps(task: Task, per_epoch: int) -> dict[str, Step]:
    """Every step that is compared, by name."""
    (sgd, sgd_hyper), (adam, adam_hyper) = SCALED
    steps: dict[str, Step] = {
        "default adam": real_step(task, adam, adam_hyper, plain=True),
        "reference sgd": real_step(task, sgd, {**sgd_hyper, "fused": True}),
        "reference adam": real_step(task, adam, {**adam_hyper, "fused": True}),
        "naive": naive_step(task),
        "floor": floor_step(task),
    }
    for name in METHODS:
        steps[name] = method_step(task, name, OnePass)
        steps[f"{name} separate"] = method_step(task, name, Separate)
    steps["pass"], steps["uncounted"] = count_steps()
    own = Task(vgg=task.vgg, bf16=False)
    steps["harness"], steps["bare loop"] = harness(own, per_epoch)
    return steps


def without_count(seconds: dict[str, list[float]]) -> list[float]:
    """The seconds of a step whose pass counts no flips, round by round."""
    parts = zip(seconds[COUNTED], seconds["pass"], seconds["uncounted"], strict=True)
    return [step - counted + uncounted for step, counted, uncounted in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vgg", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", default="", help="comparisons whose name has this text")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    task = Task(vgg=arguments.vgg, bf16=arguments.bf16)
    pace = pace_of(task.network(), tuple(task.inputs.shape), arguments.threads, arguments.threads)
    pace.set()
    task.last = pace.channels_last
    steps = all_steps(task, 2 if arguments.vgg else 100)
    chosen = [c for c in comparisons(task) if arguments.only in c[0]]
    used = {name for _, one, other, _ in chosen for name in (one, other)}
    if UNCOUNTED in used:
        used |= {"pass", "uncounted"}
    seconds = rounds({name: step for name, step in steps.items() if name in used}, arguments.rounds)
    if UNCOUNTED in used:
        seconds[UNCOUNTED] = without_count(seconds)
    found = {name: ratio(seconds[a], seconds[b], goal) for name, a, b, goal in chosen}
    machine = {
        "processor": processor(), "torch": torch.__version__, "threads": arguments.threads,
        "products": pace.products, "torch's setting": SETTINGS[pace.products],
        "channels_last": pace.channels_last, "bf16": arguments.bf16, "rounds": arguments.rounds,
        "ms": {name: round(statistics.median(s) * 1e3, 2) for name, s in seconds.items()},
    }  # fmt: skip
    told = {**found, "machine": machine}
    print(json.dumps(told, indent=2) if arguments.json else _lines(found, machine))


def _lines(found: dict[str, Any], machine: dict[str, Any]) -> str:
    head = [f"{name}: {value}" for name, value in machine.items() if name != "ms"]
    lines = [
        f"{name:45} {r['ratio']:.3f}  ({r['low']:.3f} to {r['high']:.3f})"
        + (f"  goal {r['goal']:.2f} {'met' if r['met'] else 'MISSED'}" if r["goal"] else "")
        for name, r in found.items()
    ]
    return "\n".join([", ".join(head), *lines])


if __name__ == "__main__":
    main()

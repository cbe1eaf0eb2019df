"""Studies that nobody trained, written through the store as training writes them.

Two tasks, ten methods, a fifth of the runs tuning trials, one run in fifty failed, each with what
a run of an MLP writes; for :mod:`benchmarks.scale`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bnnbench.measurements import Measurement
from bnnbench.runs import Part, Run
from bnnbench.store import CONFIRM, DONE, FAILED, TUNE, Store
from bnnbench.studies import Study
from bnnbench.studyfile import parse_study

TASKS = ("digits-a", "digits-b")
METHODS = ("real", "ste", "bop", "bop2", "bmd", "bnew", "xnor", "ternary", "proxquant", "frozen")
CELLS = [(task, method) for task in TASKS for method in METHODS]
FAILING = 50  #: one run in so many
BUCKETS = ("evaluation", "probes", "database", "other")


class Size(NamedTuple):
    """How large a study is."""

    runs: int
    epochs: int
    layers: int
    trials: bool = True


def study(seeds: int, trials: int, epochs: int) -> Study:
    task = {"dataset": "digits", "architecture": "mlp", "epochs": epochs}
    return parse_study(
        {
            "title": "A large study that nobody trained",
            "tasks": [task | {"name": name} for name in TASKS],
            "protocol": {"seeds": seeds, "trials": trials},
            "methods": [{"name": name, "method": name} for name in METHODS],
        },
        "scale",
    )


def fill(store: Store, name: str, size: Size) -> None:
    """Write a study with all its runs, seed after seed, as training does."""
    each = size.runs // len(CELLS)
    trials = each // 5 if size.trials else 0
    store.create_study(name, study(each - trials, trials, size.epochs), "bnnbench", "0")
    numbers = [(TUNE, number) for number in range(trials)]
    numbers += [(CONFIRM, number) for number in range(1, each - trials + 1)]
    for serial, ((role, number), cell) in enumerate(itertools.product(numbers, CELLS)):
        write(store, name, (*cell, role, number), size, failing=serial % FAILING == FAILING - 1)


def write(
    store: Store, name: str, place: tuple[str, str, str, int], size: Size, *, failing: bool
) -> None:
    """Write a run at once; one that fails does so halfway."""
    run_id = begin(store, name, place, size)
    epochs = list(measured(place, size))
    shown = epochs[: size.epochs // 2] if failing else epochs
    store.write(run_id, [m for each in shown for m in each])
    store.end_run(run_id, FAILED if failing else DONE, error="ValueError: a bug" * failing)


def begin(store: Store, name: str, place: tuple[str, str, str, int], size: Size) -> int:
    task, method, role, number = place
    part = Part(method, {"lr": 1e-3 * (number + 1 if role == TUNE else 1), "decay": "cosine"})
    net = Part("mlp", {"activation": "relu", "depth": size.layers - 1, "width": 128, "task": task})
    seed = 0 if role == TUNE else number
    run = Run(Part("digits"), net, Part("squared-hinge"), part, seed, size.epochs, 100)
    entry = store.enter(name, task, method, role, number, run)
    facts = {
        "judged": judged(method),
        "roles": roles(size.layers),
        "phases": [{"name": "", "first": 1, "last": size.epochs, "selectable": True}],
        "splits": dict.fromkeys(("train", "validation", "test"), "f4f7fe20d8b8c6c7"),
        "examples": {"train": 1000, "validation": 297, "test": 500},
        "synthetic": False,
        "remark": "",
        "task": "classification",
    }
    store.start_run(entry.run_id, facts, {"cores": 2, "packages": {"torch": "2.13.0"}})
    return entry.run_id


def judged(method: str) -> str:
    return "real" if method == "real" else "binary"


def roles(layers: int) -> list[dict[str, Any]]:
    found = []
    for number in range(1, layers + 1):
        place = {1: "first", layers: "last"}.get(number, "")
        weight = {"parameter": f"dense{number}.weight", "role": "binary", "shape": [128, 128]}
        found.append(weight | {"place": place})
        for name in ("weight", "bias"):
            norm = {"parameter": f"norm{number}.{name}", "role": "real", "shape": [128]}
            found.append(norm | {"place": ""})
    return found


def measured(place: tuple[str, str, str, int], size: Size) -> Iterator[list[Measurement]]:
    """Yield what a run measures: nothing before training, each epoch, the end."""
    task, method, role, number = place
    seed = [CELLS.index((task, method)), role == TUNE, number]
    random = np.random.default_rng(seed)
    modes = (judged(method), "binary" if method == "real" else "real")
    top = 97.0 - METHODS.index(method) - 5 * TASKS.index(task) + random.normal()
    noise = random.normal(size=(size.epochs + 1, 8 + size.layers))
    for epoch in range(1, size.epochs + 1):
        yield list(an_epoch(epoch, modes, top, noise[epoch], size.layers))
    yield list(the_end(size.epochs, modes, top, role == CONFIRM))


def an_epoch(
    epoch: int, modes: tuple[str, str], top: float, noise: Any, layers: int
) -> Iterator[Measurement]:
    left = math.exp(-epoch / 20)
    yield Measurement("loss", 0.1 + left * (1 + 0.05 * noise[0]), epoch, "train")
    yield Measurement("binary.lr", 1e-3 * left, epoch)
    yield Measurement("real.lr", 1e-3 * left, epoch)
    for number, mode in enumerate(modes):
        accuracy = (top - 30 * number) * (1 - 0.5 * left) + 0.2 * noise[1 + number]
        yield Measurement("accuracy", accuracy, epoch, "validation", mode)
        yield Measurement("loss", 1 - accuracy / 100, epoch, "validation", mode)
    for number in range(layers + 1):
        layer = f"dense{number}" if number else ""
        share = 0.01 * left * math.exp(0.2 * noise[7 + number]) / (1 + number)
        yield Measurement("flip_step", share, epoch, layer=layer)
        yield Measurement("pi", math.log(share + math.exp(-9)), epoch, layer=layer)
        yield Measurement("flip_epoch", min(1.0, 8 * share), epoch, layer=layer)
        yield Measurement("flip_init", 0.4 * (1 - left), epoch, layer=layer)
    train = "seconds.warmup" if epoch == 1 else "seconds.train"
    yield Measurement(train, 0.05 * math.exp(0.1 * noise[3]), epoch)
    for bucket in BUCKETS:
        yield Measurement(f"seconds.{bucket}", 0.003, epoch)


def the_end(epochs: int, modes: tuple[str, str], top: float, tested: bool) -> Iterator[Measurement]:
    yield Measurement("selected_epoch", epochs, epochs)
    yield Measurement("activation_bits", 32, epochs)
    for number, mode in enumerate(modes):
        yield Measurement("weight_bits", 32 if mode == "real" else 1, epochs, mode=mode)
        if tested:
            yield Measurement("accuracy", top - 30 * number - 1, epochs, "test", mode)
            yield Measurement("loss", 0.3, epochs, "test", mode)
    yield Measurement("seconds.evaluation", 0.003, epochs + 1)

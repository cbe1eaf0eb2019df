"""What a large study costs to show and to report: ``python -m benchmarks.scale --json``.

Databases are filled through the store with runs that nobody trained: two tasks, ten methods, a
fifth of the runs tuning trials, one run in fifty failed, each with what a run of an MLP of
``--layers`` binary layers writes in ``--epochs`` epochs. Then ``bnnbench study show`` and
``bnnbench report`` are timed as whole processes, the quickest of ``--rounds``.

Beside them stands the time of plain SELECTs, through Python's sqlite3, of the rows that a report
reads: its runs, and the series of those confirming runs that are done. Up to 10,000 runs have a
goal; a line says "MISSED" where one is missed.

A further study of 320 confirming runs of 200 epochs is reported for the size of its page, and one
run is written epoch by epoch into the largest database for the speed of writing.

``growth`` is the exponent p in seconds ~ runs^p between two sizes, once the seconds of a study with
one run for each task and method are taken off: 1 is linear.

The databases are made below ``--folder``, by default that of temporary files, and removed again
unless ``--keep`` is given; 10,000 runs need some minutes and 1.5 GB.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
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
GOALS = {"study show": 2.0, "report": 20.0}  #: seconds with 10,000 runs or fewer
GOAL_RUNS, GOAL_MB = 10_000, 10.0
READ = (
    "SELECT r.* FROM bnnbench_runs r JOIN bnnbench_entries e ON e.run_id = r.id",
    "SELECT s.* FROM bnnbench_series s JOIN bnnbench_entries e ON e.run_id = s.run_id"
    " JOIN bnnbench_runs r ON r.id = s.run_id WHERE e.role = ? AND r.state = ?",
)
CURVES, CURVE_EPOCHS = 320, 200
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


def alone(*arguments: str) -> tuple[float, float, float]:
    """Seconds on the wall and of the processor, and MiB, of a command as a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "bnnbench", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"bnnbench {' '.join(arguments)} failed")
    wall = time.perf_counter() - began
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def timed(rounds: int, *arguments: str) -> dict[str, float]:
    """The quickest of several runs of a command, and the most memory that one of them took."""
    found = [alone(*arguments) for _ in range(rounds)]
    return {
        "seconds": round(min(wall for wall, _, _ in found), 3),
        "processor_seconds": round(min(processor for _, processor, _ in found), 3),
        "peak_mib": round(max(memory for _, _, memory in found)),
    }


def measure(database: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Time both commands on the study of a database."""
    page = database.with_suffix(".html")
    storage = ("--storage", str(database))
    shown = timed(rounds, "study", "show", "scale", *storage)
    reported = timed(rounds, "report", "scale", "-o", str(page), *storage)
    size = {"html_mb": round(page.stat().st_size / 1e6, 2)}
    return {"study show": shown, "report": reported | size}


def read(database: Path, rounds: int) -> dict[str, Any]:
    """The quickest of several plain readings of a report's rows."""
    seconds = []
    with closing(sqlite3.connect(database)) as connection:
        for _ in range(rounds):
            began = time.perf_counter()
            runs = connection.execute(READ[0]).fetchall()
            series = connection.execute(READ[1], (CONFIRM, DONE)).fetchall()
            seconds.append(time.perf_counter() - began)
    size = sum(len(row[-1]) for row in series)
    rows = {"runs": len(runs), "series": len(series), "series_mb": round(size / 1e6, 1)}
    return {"seconds": round(min(seconds), 3), **rows}


def made(folder: Path, size: Size) -> tuple[Path, dict[str, Any]]:
    """Fill a database, unless it is there from before."""
    database = folder / f"{size.runs}x{size.epochs}x{size.layers}.db"
    began = time.perf_counter()
    if not database.exists():
        store = Store(str(database))
        fill(store, "scale", size)
        store.engine.dispose()
    seconds = round(time.perf_counter() - began, 1)
    return database, {"seconds": seconds, "database_mb": round(database.stat().st_size / 1e6, 1)}


def writing(database: Path, size: Size, runs: int = 5) -> dict[str, Any]:
    """The speed of writing runs epoch by epoch, from their beginning to their end."""
    store = Store(str(database))
    store.create_study("writing", study(runs, 0, size.epochs), "bnnbench", "0")
    try:
        return written(store, "writing", size, runs)
    finally:
        store.delete_study("writing")
        store.engine.dispose()


def written(store: Store, name: str, size: Size, runs: int) -> dict[str, Any]:
    places = [(*CELLS[0], CONFIRM, 10**6 + number) for number in range(runs)]
    lists = {place: list(measured(place, size)) for place in places}
    rows = sum(len(each) for epochs in lists.values() for each in epochs)
    slowest, began = 0.0, time.perf_counter()
    for place, epochs in lists.items():
        run_id = begin(store, name, place, size)
        for each in epochs:
            before = time.perf_counter()
            store.write(run_id, each)
            slowest = max(slowest, time.perf_counter() - before)
        store.end_run(run_id, DONE)
    seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 3),
        "rows": rows,
        "rows_per_second": round(rows / seconds),
        "milliseconds_per_epoch": round(1e3 * seconds / (runs * size.epochs), 3),
        "slowest_epoch_milliseconds": round(1e3 * slowest, 3),
    }


def growth(seconds: dict[int, float]) -> dict[str, float | None]:
    """The exponents between neighbouring sizes, without what the smallest study takes."""
    (_, start), *sizes = sorted(seconds.items())
    return {
        f"{few:,} to {many:,}": exponent(many / few, less - start, more - start)
        for (few, less), (many, more) in itertools.pairwise(sizes)
    }


def exponent(times: float, less: float, more: float) -> float | None:
    """The power of ``times`` that makes more of less, None where there is no more."""
    return round(math.log(more / less, times), 2) if more > 0 < less else None


def scaled(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    processor: dict[str, dict[int, float]] = {command: {} for command in GOALS}
    for runs in sorted({len(CELLS), *arguments.runs}):
        size = Size(runs, arguments.epochs, arguments.layers)
        database, found[f"fill, {runs:,} runs"] = made(folder, size)
        for command, figures in measure(database, arguments.rounds).items():
            if runs <= GOAL_RUNS:
                figures |= {"goal": GOALS[command]}
                figures |= {"met": figures["seconds"] <= GOALS[command]}
            found[f"{command}, {runs:,} runs"] = figures
            processor[command][runs] = figures["processor_seconds"]
        found[f"read, {runs:,} runs"] = read(database, arguments.rounds)
    for command, seconds in processor.items():
        found[f"growth, {command}"] = growth(seconds)
    found["write"] = writing(database, size)
    page = Size(CURVES, CURVE_EPOCHS, arguments.layers, trials=False)
    figures = measure(made(folder, page)[0], 1)["report"]
    figures |= {"goal_mb": GOAL_MB, "met": figures["html_mb"] <= GOAL_MB}
    found[f"report, {CURVES} curves of {CURVE_EPOCHS} epochs"] = figures
    return found


def line(name: str, figures: dict[str, Any]) -> str:
    """All figures in words, and a goal that is missed in capitals."""
    told = [f"{key} {value}" for key, value in figures.items() if key != "met"]
    if "met" in figures:
        told[-1] += " met" if figures["met"] else " MISSED"
    return f"{name}: {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to make the databases")
    parser.add_argument("--keep", action="store_true", help="leave them there, for another time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.keep and not arguments.folder:
        parser.error("--keep needs a --folder to keep them in")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made_here:
        found = scaled(arguments.folder if arguments.keep else Path(made_here), arguments)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        print(line(name, figures))


if __name__ == "__main__":
    main()

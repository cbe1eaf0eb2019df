"""What a large study costs to show and to report: ``python -m benchmarks.scale --json``.

Databases are filled with runs that nobody trained (:mod:`benchmarks.untrained`), each with what a
run of an MLP of ``--layers`` binary layers writes in ``--epochs`` epochs. Then ``bnnbench study
show`` and ``bnnbench report`` are timed as whole processes, the quickest of ``--rounds``.

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
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.untrained import CELLS, Size, begin, fill, measured, study
from bnnbench.store import CONFIRM, DONE, Store

GOALS = {"study show": 2.0, "report": 20.0}  #: seconds with 10,000 runs or fewer
GOAL_RUNS, GOAL_MB = 10_000, 10.0
READ = (
    "SELECT r.* FROM bnnbench_runs r JOIN bnnbench_entries e ON e.run_id = r.id",
    "SELECT s.* FROM bnnbench_series s JOIN bnnbench_entries e ON e.run_id = s.run_id"
    " JOIN bnnbench_runs r ON r.id = s.run_id WHERE e.role = ? AND r.state = ?",
)
CURVES, CURVE_EPOCHS = 320, 200


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

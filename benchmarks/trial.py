"""What a trial costs beside its training: ``python -m benchmarks.trial``.

A study of digits with Bop, tuned, in a new SQLite database and in this one process, as the command
``study run`` does it, with trials whose training takes about a second. Beside the training are
Optuna, the database, building the network, evaluating it after every epoch, and looking at its
flips. The first trials are warm-up. Prints JSON: medians of the seconds of a trial and of its
training, the share of the rest (the goal is a tenth), and where it goes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from bnnbench.checkpoints import Checkpoints
from bnnbench.experiments import Workbench
from bnnbench.measurements import Measurement
from bnnbench.plugins import load_plugins
from bnnbench.store import Entry, Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

WARMUP, GOAL = 2, 0.10
TRAINING = ("seconds.train", "seconds.warmup")


class Stopwatch:
    """When each run was over, and what its own clock says."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.buckets: list[Counter[str]] = []

    def run_started(self, entry: Entry) -> None:
        self.buckets.append(Counter())

    def epochs_skipped(self, entry: Entry, epochs: int) -> None:
        pass

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        for m in measured:
            if m.metric.startswith("seconds."):
                self.buckets[-1][m.metric] += m.value

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        self.ends.append(time.perf_counter())


def study(epochs: int, trials: int, batch: int) -> dict[str, object]:
    architecture = {"name": "mlp", "depth": 2, "width": 128}
    task = {"dataset": "digits", "architecture": architecture, "batch_size": batch}
    return {
        "task": {**task, "epochs": epochs},
        "protocol": {"trials": trials, "seeds": 1},
        "methods": [{"method": "bop"}],
    }


def measured(epochs: int, trials: int, batch: int) -> Stopwatch:
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "trial.db"))
        store.create_study("trial", parse_study(study(epochs, trials, batch), "trial.toml"), "", "")
        workbench = Workbench(
            load_plugins(), threads=1, checkpoints=Checkpoints(Path(folder) / "checkpoints")
        )
        StudyRunner(store, "trial", workbench, watch).run()
        store.engine.dispose()
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--batch", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch = measured(arguments.epochs, arguments.trials + WARMUP, arguments.batch)
    whole = [b - a for a, b in zip(watch.ends, watch.ends[1:], strict=False)][WARMUP - 1 :]
    buckets = watch.buckets[WARMUP : WARMUP + len(whole)]
    training = [sum(found[name] for name in TRAINING) for found in buckets]
    rest = [1 - t / w for t, w in zip(training, whole, strict=True)]
    parts = {name: statistics.median(found[name] for found in buckets) for name in buckets[0]}
    found = {
        "seconds of a trial": round(statistics.median(whole), 3),
        "seconds of its training": round(statistics.median(training), 3),
        "beside training": round(statistics.median(rest), 3),
        "range": [round(min(rest), 3), round(max(rest), 3)],
        "goal": GOAL,
        "its own clock": {name: round(spent, 4) for name, spent in parts.items()},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

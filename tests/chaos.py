"""Chaos: a study of several workers, of which any may be killed, stopped or asked to go.

``python -m tests.chaos --seconds 3600 [--storage URL]`` runs a study undisturbed, then again while
signals fall at random on its workers and their supervisor, and compares the two: every run, trial
and measurement must be there once, bit for bit. Prints what fell, and ends with 1 on a difference.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from bnnbench.store import Store

from .test_tuning import fingerprint, optuna_trials

STUDY = """
title = "chaos"
[task]
name = "t"
dataset = "digits"
architecture = {{ name = "mlp", depth = 1, width = 16 }}
epochs = {epochs}
batch_size = 100
[protocol]
trials = 2
seeds = {seeds}
[[methods]]
method = "real"
[[methods]]
method = "bop"
[[methods]]
method = "bnew"
start_from = "relaxed"
[[methods]]
method = "bmd"
[runs.relaxed]
method = "relaxed"
"""
BLOWS = [signal.SIGKILL] * 4 + [signal.SIGTERM] * 2 + [signal.SIGSTOP]
WHAT = ("runs", "measurements", "trials")
PATIENCE = 4.0  #: seconds until a worker that is stopped is passed over


class Storm:
    """A supervisor and its workers, and what falls on them."""

    def __init__(self, folder: Path, workers: int, chance: random.Random) -> None:
        self.folder, self.workers, self.chance = folder, workers, chance
        self.fallen: Counter[str] = Counter()
        self.supervisor = self._started()

    def rage(self, seconds: float) -> None:
        """Let blows fall for so long, or until the study is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.5, 3.0))
            if self.supervisor.poll() == 0:
                return
            self._strike()

    def calm(self) -> None:
        """Let the study come to its end."""
        if self._ended() != 0:
            self.supervisor = self._started()
            code = self._ended()
            assert code == 0, (self.folder / "log.txt").read_text()[-2000:]

    def _strike(self) -> None:
        blow = self.chance.choice(BLOWS)
        workers = children(self.supervisor.pid)
        if not workers:  # they are still being started
            return
        if self.chance.random() < 0.15:
            self.fallen[f"supervisor {blow.name}"] += 1
            if blow is not signal.SIGSTOP:
                self.supervisor.send_signal(blow)
                self._ended()
                self.supervisor = self._started()
            return
        struck = self.chance.choice(workers)
        self.fallen[f"worker {blow.name}"] += 1
        hit(struck, blow)
        if blow is signal.SIGSTOP:
            time.sleep(self.chance.choice([0.5, 1.5 * PATIENCE]))
            hit(struck, signal.SIGCONT)

    def _started(self) -> subprocess.Popen[bytes]:
        more = ["--workers", str(self.workers), "--checkpoint-every", "0.2"]
        return started(self.folder, "study", "run", "s", *more)

    def _ended(self) -> int:
        """The exit code, once its workers are gone too."""
        workers = children(self.supervisor.pid)
        code = self.supervisor.wait()
        for worker in workers:
            hit(worker, signal.SIGCONT)
        while any(Path(f"/proc/{worker}/exe").exists() for worker in workers):
            time.sleep(0.05)
        return code


def hit(process: int, what: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(process, what)


def children(process: int) -> list[int]:
    """The children of a process."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of bnnbench under way; what it says goes into a file."""
    given = {"OMP_NUM_THREADS": "1", "BNNBENCH_LEASE_SECONDS": str(PATIENCE)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bnnbench", *arguments],
            cwd=folder,
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def contents(store: Store) -> tuple[Any, ...]:
    """All that must not depend on what fell."""
    entries = sorted((e.method, e.role, e.number, e.run.key, e.state) for e in store.entries("s"))
    return entries, fingerprint(store, "s"), optuna_trials(store, "s")


def made(folder: Path, storage: str, epochs: int, seeds: int) -> str:
    """A new study in a folder, and in a database there or elsewhere."""
    folder.mkdir()
    (folder / "s.toml").write_text(STUDY.format(epochs=epochs, seeds=seeds))
    url = storage or str(folder / "bnnbench.db")
    os.environ["BNNBENCH_STORAGE"] = url
    assert started(folder, "study", "create", "s", "--from", "s.toml").wait() == 0
    return url


def read(url: str) -> tuple[Any, ...]:
    """The contents of a database."""
    store = Store(url, create=False)
    try:
        return contents(store)
    finally:
        store.engine.dispose()


def undisturbed(epochs: int, seeds: int) -> tuple[Any, ...]:
    """What the study holds when nothing falls."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "quiet"
        url = made(folder, "", epochs, seeds)
        assert started(folder, "study", "run", "s", "--workers", "2").wait() == 0
        return read(url)


def weather(
    seconds: float, wanted: tuple[Any, ...], storage: str = "", *, workers: int, **study: int
) -> Counter[str]:
    """Run the study in a storm and compare it with what is wanted; return what fell.

    Raises:
        AssertionError: the two differ.
    """
    seed = study.pop("seed")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "wild"
        url = made(folder, storage, **study)
        storm = Storm(folder, workers, random.Random(seed))
        storm.rage(seconds)
        storm.calm()
        found = read(url)
        for what, expected, here in zip(WHAT, wanted, found, strict=True):
            assert expected == here, f"other {what}"
        return storm.fallen


def main() -> None:
    """Let it storm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--storage", default="", help="an empty database; a new SQLite file")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    study = {"epochs": given.epochs, "seeds": given.seeds}
    wanted = undisturbed(**study)
    more = {"workers": given.workers, "seed": given.seed, **study}
    fallen = weather(given.seconds, wanted, given.storage, **more)
    for what, count in sorted(fallen.items()):
        print(f"{count:5d} {what}")
    print("nothing lost, nothing doubled, every bit the same")


if __name__ == "__main__":
    main()

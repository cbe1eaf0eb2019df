"""Chaos: studies of several workers, of which any may be killed, stopped or asked to go.

``python -m tests.chaos --seconds 3600 [--postgres | --storage URL]`` runs one study after the other
until the time is up, each of other seeds and in one database, while signals fall at random on the
workers and their supervisor. Each is compared with an undisturbed run of it in a database of its
own: every run, trial and measurement must be there once, bit for bit, and the database consistent.
Prints what fell, and ends with 1 on a difference, or when a kind of blow never fell.
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bnnbench.checkpoints import Checkpoints
from bnnbench.consistency import look
from bnnbench.store import Store

from .postgres import running
from .test_tuning import fingerprint, optuna_trials

if TYPE_CHECKING:
    from collections.abc import Iterator

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
seed = {seed}
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
BLOWS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
KINDS = [(struck, blow) for struck in ("worker", "supervisor") for blow in BLOWS]
#: dealt once each kind has fallen: mostly workers die
OFTEN = [*KINDS, *[("worker", signal.SIGKILL)] * 6, *[("worker", signal.SIGTERM)] * 3]
WHAT = ("runs", "measurements", "trials")
PATIENCE = 4.0  #: seconds until a worker that is stopped is passed over
STOPS = (0.5, 1.5 * PATIENCE)  #: seconds for which somebody is stopped: unnoticed, and passed over
LATEST = 4  #: times the seconds asked for, by which each kind of blow must have fallen


@dataclass
class Calm:
    """What studies hold when nothing falls; each is run once."""

    epochs: int
    seeds: int
    known: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def wanted(self, number: int) -> tuple[Any, ...]:
        """The contents of a study that two workers have run."""
        if number not in self.known:
            with tempfile.TemporaryDirectory() as place:
                folder = Folder(Path(place))
                folder.create(f"s{number}", self.text(number))
                assert folder.started("study", "run", f"s{number}", "--workers", "2").wait() == 0
                self.known[number] = folder.read(f"s{number}")
        return self.known[number]

    def text(self, number: int) -> str:
        """The file of a study; no two of them have a run in common."""
        return STUDY.format(epochs=self.epochs, seeds=self.seeds, seed=1000 * number)


@dataclass
class Folder:
    """Where commands are run, and their database: a file there if no other is given."""

    path: Path
    url: str = ""

    def __post_init__(self) -> None:
        self.url = self.url or str(self.path / "bnnbench.db")
        self.checkpoints = self.path / "checkpoints"

    def started(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of bnnbench under way; what it says goes into a file."""
        given = {
            "OMP_NUM_THREADS": "1",
            "BNNBENCH_CHECKPOINTS": str(self.checkpoints),
            "BNNBENCH_LEASE_SECONDS": str(PATIENCE),
            "BNNBENCH_STORAGE": self.url,
        }
        with (self.path / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bnnbench", *arguments],
                cwd=self.path,
                env={**os.environ, **given},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def create(self, study: str, text: str) -> None:
        """Create a study from the text of its file."""
        (self.path / f"{study}.toml").write_text(text)
        assert self.started("study", "create", study, "--from", f"{study}.toml").wait() == 0

    def read(self, study: str) -> tuple[Any, ...]:
        """The contents of a study."""
        with opened(self.url) as store:
            return contents(store, study)

    def faults(self) -> list[str]:
        """What ``bnnbench db check`` finds."""
        with opened(self.url) as store:
            return look(store, Checkpoints(self.checkpoints)).faults


class Storm:
    """What falls on the supervisors and workers of studies in one database."""

    def __init__(self, folder: Folder, seconds: float, workers: int, seed: int) -> None:
        self.folder, self.seconds, self.workers = folder, seconds, workers
        self.chance, self.begun = random.Random(seed), time.monotonic()
        self.fallen: Counter[str] = Counter()
        self.seen: set[int] = set()
        self.left, self.all_fell = self.chance.sample(KINDS, len(KINDS)), False

    @property
    def is_over(self) -> bool:
        """Whether the time is up and each kind has fallen, or none will."""
        spent = time.monotonic() - self.begun
        return spent > (self.seconds if self.all_fell else LATEST * self.seconds)

    def rage(self, study: str) -> None:
        """Run a study; let blows fall until it, or the storm, is over."""
        self.study = study
        self.supervisor = self._started()
        while self.supervisor.poll() != 0 and not self.is_over:
            time.sleep(self.chance.uniform(0.5, 3.0))
            if self.supervisor.poll() not in (None, 0):  # one worker died too often
                self.fallen["supervisor given up"] += 1
                self.supervisor = self._started()
            self._strike()

    def calm(self) -> None:
        """Let the study come to its end, and all who worked at it go."""
        if self.supervisor.wait() != 0:
            self.supervisor = self._started()
            assert self.supervisor.wait() == 0, (self.folder.path / "log.txt").read_text()[-2000:]
        while any(map(is_alive, self.seen)):
            time.sleep(0.05)

    def _strike(self) -> None:
        """Let the next blow fall; while workers are still being started none does."""
        workers = children(self.supervisor.pid)
        self.seen.update(workers)
        if not workers:
            return
        struck, blow = self.left.pop()
        target = self.supervisor.pid if struck == "supervisor" else self.chance.choice(workers)
        hit(target, blow)
        self.fallen[f"{struck} {blow.name}"] += 1
        if blow is signal.SIGSTOP:
            time.sleep(self.chance.choice(STOPS))
            hit(target, signal.SIGCONT)
        elif struck == "supervisor":
            self.supervisor.wait()
            self.supervisor = self._started()  # orphans may still be at their epoch
        if not self.left:
            self.left, self.all_fell = self.chance.sample(OFTEN, len(OFTEN)), True

    def _started(self) -> subprocess.Popen[bytes]:
        more = ["--workers", str(self.workers), "--checkpoint-every", "0.2"]
        return self.folder.started("study", "run", self.study, *more)


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """A database that is there, until the block ends."""
    store = Store(url, create=False)
    try:
        yield store
    finally:
        store.engine.dispose()


def hit(process: int, what: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(process, what)


def is_alive(process: int) -> bool:
    """Whether a process is there, and not only its exit code."""
    return Path(f"/proc/{process}/exe").exists()


def children(process: int) -> list[int]:
    """The living children of a process."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [child for child in map(int, text.split()) if is_alive(child)]


def contents(store: Store, study: str = "s") -> tuple[Any, ...]:
    """All that must not depend on what fell."""
    entries = sorted((e.method, e.role, e.number, e.run.key, e.state) for e in store.entries(study))
    return entries, fingerprint(store, study), optuna_trials(store, study)


def weather(
    seconds: float, calm: Calm, url: str = "", *, workers: int = 4, seed: int = 0
) -> Counter[str]:
    """Run studies in a storm and compare each with what is wanted; return what fell.

    Raises:
        AssertionError: they differ, the database is not sound, or some kind of blow never fell.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), url)
        storm, number = Storm(folder, seconds, workers, seed), 0
        while not storm.is_over:
            number += 1
            wanted, study = calm.wanted(number), f"s{number}"
            folder.create(study, calm.text(number))
            storm.rage(study)
            storm.calm()
            for what, expected, found in zip(WHAT, wanted, folder.read(study), strict=True):
                assert expected == found, f"other {what} in study {number}"
            print(f"study {number}: {len(wanted[0])} runs equal", flush=True)
        assert [] == folder.faults()
    missing = [
        f"{who} {blow.name}" for who, blow in KINDS if not storm.fallen[f"{who} {blow.name}"]
    ]
    assert not missing, f"too quiet: no {', '.join(sorted(missing))}"
    return storm.fallen


def main() -> None:
    """Let it storm.

    Raises:
        SystemExit: there is no server for ``--postgres``.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=120)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--storage", default="", help="an empty database; a new SQLite file")
    where.add_argument("--postgres", action="store_true", help="a server of its own")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with ExitStack() as stack:
        url = given.storage
        if given.postgres:
            try:
                url = stack.enter_context(running()).database()
            except pytest.skip.Exception as reason:
                raise SystemExit(str(reason)) from None
        calm = Calm(given.epochs, given.seeds)
        fallen = weather(given.seconds, calm, url, workers=given.workers, seed=given.seed)
    for what, count in sorted(fallen.items()):
        print(f"{count:5d} {what}")
    print("nothing lost, nothing doubled, every bit the same")


if __name__ == "__main__":
    main()

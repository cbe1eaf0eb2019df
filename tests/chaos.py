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
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .calm import PATIENCE, Calm, Folder, opened
from .postgres import running

if TYPE_CHECKING:
    from bnnbench.store import Store

BLOWS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
KINDS = [(struck, blow) for struck in ("worker", "supervisor") for blow in BLOWS]
#: dealt once each kind has fallen: mostly workers die
OFTEN = [*KINDS, *[("worker", signal.SIGKILL)] * 6, *[("worker", signal.SIGTERM)] * 3]
WHAT = ("runs", "measurements", "trials")
STOPS = (0.5, 1.5 * PATIENCE)  #: seconds for which somebody is stopped: unnoticed, and passed over
LULL = 20.0  #: seconds that are waited for somebody to get on, at most
LATEST = 4  #: times the seconds asked for, by which each kind of blow must have fallen


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
        with opened(self.folder.url) as store:
            while self.supervisor.poll() != 0 and not self.is_over:
                self._wait(store)
                if self.supervisor.poll() not in (None, 0):  # one worker died too often
                    self.fallen["supervisor given up"] += 1
                    self.supervisor = self._started()
                self._strike()

    def _wait(self, store: Store) -> None:
        """Let time pass, mostly until somebody gets on: else there were nothing to be lost."""
        until = time.monotonic() + self.chance.choice([0.0, LULL, LULL])
        before = epochs(store, self.study)
        while time.monotonic() < until and self.supervisor.poll() is None:
            if epochs(store, self.study) != before:
                break
            time.sleep(0.1)
        time.sleep(self.chance.uniform(0.2, 2.0))

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


def epochs(store: Store, study: str) -> int:
    """The epochs of all runs of a study so far."""
    return sum(store.reached(entry.run_id) for entry in store.entries(study))


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

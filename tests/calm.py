"""Studies that nothing befalls, and the folders and databases in which studies are run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnbench.checkpoints import Checkpoints
from bnnbench.consistency import look
from bnnbench.store import Store

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
PATIENCE = 4.0  #: seconds until a worker that is stopped is passed over


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


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """A database that is there, until the block ends."""
    store = Store(url, create=False)
    try:
        yield store
    finally:
        store.engine.dispose()


def contents(store: Store, study: str = "s") -> tuple[Any, ...]:
    """All that must not depend on what fell."""
    entries = sorted((e.method, e.role, e.number, e.run.key, e.state) for e in store.entries(study))
    return entries, fingerprint(store, study), optuna_trials(store, study)

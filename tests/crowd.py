"""Many processes at one study, each of them the loop of a worker on a task that costs nothing.

``python -m tests.crowd URL PROCESSES TRIALS`` makes the study "s" in an empty database, and prints
the label of each run that one of the processes has trained. What they do is what
``bnnbench study run s --as-worker`` does; but all of them are forks of one process, and open the
database themselves: what is imported costs its seconds once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch

from bnnbench.checkpoints import Checkpoints
from bnnbench.experiments import Workbench
from bnnbench.holding import shared
from bnnbench.plugins import load_plugins
from bnnbench.search import optuna_storage, optuna_study
from bnnbench.stopping import Stop
from bnnbench.store import Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

EPOCHS = 3
STUDY = """
[task]
name = "t"
dataset = {{ name = "synthetic-mnist", train = 20, validation = 10, test = 10 }}
architecture = {{ name = "mlp", depth = 1, width = 2 }}
epochs = {epochs}
batch_size = 10
[protocol]
trials = {trials}
sampler = "random"
seeds = 1
[[methods]]
method = "bop"
"""


def tell(entry, state: str, message: str) -> None:
    """Say that a run was trained, in one write: others write, too."""
    os.write(1, f"{entry.label}: {state} {message}\n".encode())


WATCHING = SimpleNamespace(
    run_started=lambda entry: None,
    epochs_skipped=lambda entry, epochs: None,
    epoch_ended=lambda entry, measured: None,
    run_ended=tell,
)


class Stopping(Stop):
    """Stops a process whose parent is gone."""

    parent = os.getpid()

    def obey(self) -> None:
        if os.getppid() != self.parent:
            raise KeyboardInterrupt


def work(url: str, workbench: Workbench) -> None:
    """Be a worker, until all is over."""
    store = Store(url)
    with shared(store, "s", places=0) as leases:
        StudyRunner(store, "s", workbench, WATCHING, None, leases, Stopping()).run()


def forked(url: str, workbench: Workbench) -> int:
    """The number of a new process that works."""
    child = os.fork()
    if child:
        return child
    try:
        work(url, workbench)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def main(url: str, processes: int, trials: int) -> int:
    """Let so many processes work at so many trials; return how many of them broke."""
    torch.set_num_threads(1)  # a process that has threads cannot be forked
    study = parse_study(tomllib.loads(STUDY.format(trials=trials, epochs=EPOCHS)), "crowd")
    with tempfile.TemporaryDirectory() as kept:
        workbench = Workbench(load_plugins(), "cpu", 1, Checkpoints(Path(kept)))
        store = Store(url)
        store.create_study("s", study, "cmd", "0")
        runner = StudyRunner(store, "s", workbench, WATCHING)
        runner.check()
        optuna_study(store, runner.cells[0])  # what it imports, the forks have
        optuna_storage(store).engine.dispose()
        store.engine.dispose()
        children = [forked(url, workbench) for _ in range(processes)]
        return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

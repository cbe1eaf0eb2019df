"""Many processes at the trials of one study: they claim, ask, enter, end and tell, nothing else.

``python -m tests.crowd URL PROCESSES TRIALS`` makes the study "s" in an empty database, and prints
"trained NUMBER" for each run that one of the processes has written. All of them are forks of one
process, and open the database themselves: what is imported costs its seconds once.
"""

from __future__ import annotations

import os
import random
import sys
import time
import tomllib
from typing import Any

from bnnbench.cells import Cell
from bnnbench.leases import ElsewhereError, Leases
from bnnbench.measurements import Measurement
from bnnbench.runs import Part, Run
from bnnbench.search import optuna_storage, optuna_study, suggest, take
from bnnbench.spaces import Float
from bnnbench.store import DONE, TUNE, Store
from bnnbench.studyfile import parse_study

EPOCHS = 3
STUDY = """
[task]
name = "t"
dataset = "digits"
architecture = "mlp"
epochs = 3
[protocol]
trials = {trials}
sampler = "random"
[[methods]]
method = "bop"
"""


def cell_of(trials: int) -> Cell:
    """The study's (task, method), with one hyperparameter to search."""
    study = parse_study(tomllib.loads(STUDY.format(trials=trials)), "crowd")
    space, default = {"lr": Float(1e-4, 1.0, log=True)}, {"lr": 0.1}
    return Cell("s", study, study.tasks[0], study.methods[0], space, default, {}, {}, {}, "best")


def objective(lr: float) -> float:
    """What a trial comes to."""
    return 100 - abs(lr - 0.01)


class Hand:
    """One of the processes."""

    def __init__(self, url: str, trials: int) -> None:
        self.store, self.cell = Store(url), cell_of(trials)
        self.leases, self.left = Leases(self.store), set(range(trials))
        self.study: Any = None
        self.parent = os.getppid()

    def work(self) -> None:
        """Train what no other is at, until all is over; asked for as bnnbench.tuning does it."""
        with self.leases.kept_alive():
            while self.left and os.getppid() == self.parent:
                for number in sorted(self.left):
                    claim = self.leases.take(f"trial {self.cell.optuna_name}/{number}")
                    if claim is None:
                        continue
                    try:
                        self._trial(number)
                    except ElsewhereError:  # another asks; what is later is not asked for either
                        break
                    finally:
                        self.leases.give_back(claim)
                time.sleep(random.uniform(0.2, 0.8))  # all of them waiting are the load

    def _trial(self, number: int) -> None:
        with self.leases.claimed(f"cell {self.cell.optuna_name}"):
            study = self.study = self.study or optuna_study(self.store, self.cell)
            trial, state = take(study, number, self.cell)
        if not state.is_finished():
            lr = suggest(trial, self.cell)["lr"]
            self._train(number, lr)
            study.tell(number, objective(lr))
        self.left.remove(number)

    def _train(self, number: int, lr: float) -> None:
        """Write what a training would write, an epoch in a transaction."""
        run = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": lr}), number, EPOCHS, 10)
        entry = self.store.enter("s", "t", "bop", TUNE, number, run)
        with self.leases.claimed(f"run {run.key}") as claim:
            self.store.start_run(entry.run_id, {"judged": "binary"}, {"cores": 2}, claim=claim)
            for epoch in range(1, EPOCHS + 1):
                made = objective(lr) if epoch == EPOCHS else 0.0
                measured = [
                    Measurement("loss", number, epoch, "train"),
                    Measurement("accuracy", made, epoch, "validation", "binary"),
                ]
                self.store.write(entry.run_id, measured, claim)
            last = [Measurement("selected_epoch", EPOCHS, EPOCHS)]
            self.store.end_run(entry.run_id, DONE, measured=last, claim=claim)
            os.write(1, f"trained {number}\n".encode())


def forked(url: str, trials: int) -> int:
    """The number of a new process that works."""
    child = os.fork()
    if child:
        return child
    try:
        Hand(url, trials).work()
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def main(url: str, processes: int, trials: int) -> int:
    """Let so many processes work at so many trials; return how many of them broke."""
    store, cell = Store(url), cell_of(trials)
    store.create_study("s", cell.study, "cmd", "0")
    optuna_study(store, cell)  # what it imports, the forks have
    optuna_storage(store).engine.dispose()
    store.engine.dispose()
    children = [forked(url, trials) for _ in range(processes)]
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

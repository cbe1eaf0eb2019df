"""``python -m bnnbench.parallel.helping``: trains a run beside the process that holds it.

It is started by :mod:`bnnbench.parallel.helpers`, which says what is told, and what a helper may
touch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnbench.parallel.helpers import Task
    from bnnbench.training import Training


def main() -> int:
    """Follow one training to its end; return the exit code."""
    for each in (signal.SIGINT, signal.SIGTERM):  # the first process decides when all stop
        signal.signal(each, signal.SIG_IGN)
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what plugins print is not for the first process
    line = sys.stdin.readline()
    threading.Thread(target=_go_with_the_first, daemon=True).start()

    def tell(**told: Any) -> None:
        print(json.dumps(told), file=said, flush=True)

    from bnnbench.failures import kind_of
    from bnnbench.parallel.helpers import Task
    from bnnbench.plugins import describe

    try:
        follow(Task.from_json(line), lambda: tell(ready=True))
    except Exception as error:  # a plugin may raise anything
        tell(error=describe(error), kind=kind_of(error))
        return 1
    return 0


def follow(task: Task, ready: Any) -> None:
    """Train what a task says beside the others; call ``ready`` when all is built."""
    from bnnbench.parallel.lockstep import joined

    training = _training(task)
    ready()
    with joined(training, task.rank, task.team.size, task.place):
        training.follow()


def _training(task: Task) -> Training:
    """The training, where the first process has taken it up."""
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.experiments import Workbench
    from bnnbench.pace import Pace
    from bnnbench.plugins import load_plugins
    from bnnbench.runs import Run

    plugins, run = load_plugins(task.team.blocked, task.team.files), Run.from_json(task.run)
    checkpoints = Checkpoints(task.checkpoints)
    bench = Workbench(plugins, task.device, checkpoints=checkpoints, pace=Pace(**task.pace))
    experiment = bench.prepare(run)
    experiment.probes = []  # the first process looks
    training, state = experiment.training(), checkpoints.training(run) if task.epoch else None
    if state is not None:
        training.load(state | {"probes": [], "random": _chance(state["random"], task)})
    return training


def _chance(states: dict[str, Any], task: Task) -> dict[str, Any]:
    """The random numbers of the first process, whose GPU is another one than ours."""
    first = int(task.device.partition(":")[2] or 0) - task.rank
    cuda = states["cuda"]
    return states | {"cuda": cuda[first : first + 1] * len(cuda)}


def _go_with_the_first() -> None:
    """End this process when the first one has closed our standard input, or is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

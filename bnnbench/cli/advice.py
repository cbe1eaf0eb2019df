"""How many workers a study is worth on this machine, for ``bnnbench study run --plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.environment import cores
from bnnbench.errors import BnnbenchError
from bnnbench.holding import MOST_ON_SQLITE
from bnnbench.pace import GAIN, gain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.cells import Cell
    from bnnbench.needs import Need
    from bnnbench.tuning import StudyRunner


def advice(runner: StudyRunner, needs: Sequence[Need]) -> str:
    """Return what to give ``--workers`` and why, nothing where there is no choice.

    Workers of few threads each are compared with one process of all threads by what is measured of
    a step of each task's network; a data set that cannot be loaded yet leaves it open.
    """
    runs = sum(need.runs for need in needs)
    if runner.workbench.device != "cpu":
        return _for_gpus(runs)
    most = MOST_ON_SQLITE if runner.store.url.get_backend_name() == "sqlite" else runs
    count = min(cores(), runs, most)
    if count < 2:
        return ""
    missing = {need.task for need in needs if need.runs}
    tasks = {cell.task.name: cell for cell in runner.cells if cell.task.name in missing}
    try:
        alone, shared = _gains(runner, list(tasks.values()), count)
    except BnnbenchError:  # a run says so when it is its turn
        return ""
    return worded(count, alone, shared)


def worded(count: int, alone: float, shared: float) -> str:
    """Return the advice for so many workers at most.

    Args:
        count: of workers, at least two.
        alone: how many times as fast as on one thread a step is on all.
        shared: the same on a worker's share of them.

    >>> from unittest.mock import patch
    >>> with patch("bnnbench.cli.advice.cores", return_value=8):
    ...     worded(8, 3.2, 1.0).split(": ")[1:]
    ['--workers 8, one thread each', 'a step on 8 threads is 3.2 times as fast as on one, just now']
    """
    share, told = cores() // count, f"{alone:.1f} times as fast as on one, just now"
    if count * shared < GAIN * alone:
        return f"suggested: one process with all threads: a step on {cores()} of them is {told}"
    threads = "one thread each" if share == 1 else f"{share} threads each"
    return f"suggested: --workers {count}, {threads}: a step on {cores()} threads is {told}"


def _for_gpus(runs: int) -> str:
    import torch

    count = min(torch.cuda.device_count(), runs)
    return f"suggested: --workers {count}: one for each GPU" if count > 1 else ""


def _gains(runner: StudyRunner, cells: Sequence[Cell], count: int) -> tuple[float, float]:
    """What all threads and a worker's share of them gain, in the task that gains most by all."""
    share, found = cores() // count, []
    for cell in cells:
        run = cell.run({}, runner.protocol.seed, test=False)
        network = runner.workbench.network(run)
        shape = (run.batch_size, *runner.workbench.dataset(run.dataset).shape)
        found.append((gain(network, shape, cores()), gain(network, shape, share)))
    return max(found)

"""``bnnbench study run --workers``: the workers' commands, and their progress as one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli.progress import PlainProgress, WorkerProgress
from bnnbench.cli.progress import observer as watcher
from bnnbench.environment import cores
from bnnbench.errors import BnnbenchError, InterruptedStudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.cli import Settings
    from bnnbench.cluster import Cluster
    from bnnbench.workers import Crew


class CrewProgress(PlainProgress):
    """The progress of all workers, a line for each run that ends."""

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self.warnings: set[str] = set()

    def told(self, worker: int, event: dict[str, Any]) -> None:
        """Take what a worker tells."""
        self.epochs_left -= int(event.get("epochs", 0)) + int(event.get("skipped", 0))
        if "ended" in event:
            self.done += 1
            self.runs = max(self.runs, self.done)
            self.say(self.counted(f"worker {worker + 1}: {event['ended']}"))
        elif "line" in event:
            self.say(f"worker {worker + 1}: {event['line']}")

    def warned(self, worker: int, line: str) -> None:
        """Print what several workers say once."""
        if line and line not in self.warnings and not line.startswith("error: interrupted"):
            self.warnings.add(line)
            click.echo(f"worker {worker + 1}: {line}", err=True)

    def died(self, worker: int, how: str, *, again: bool) -> None:
        """Say that a worker died."""
        then = "another takes its place" if again else "it is given up"
        self.say(f"worker {worker + 1} died {how}; what it was at is taken up again; {then}")


def observer(
    threads: int | None, *, supervises: bool, as_worker: bool
) -> PlainProgress | CrewProgress:
    """Return who watches the runs: of this process, of its workers, or on a supervisor's behalf."""
    if as_worker:
        return WorkerProgress(threads)
    return CrewProgress(threads) if supervises else watcher(threads)


def commands(
    settings: Settings, name: str, devices: Sequence[str], threads: int | None, options: list[str]
) -> list[list[str]]:
    """Return what Python is told by a worker for each device, with its share of the threads."""
    share = threads or max(1, cores() // len(devices))
    blocked = [word for plugin in settings.blocked for word in ("-p", f"no:{plugin}")]
    files = [word for file in settings.files for word in ("--plugin", file)]
    study = ["study", "run", name, "--as-worker", "--threads", str(share), *options]
    begin = ["-m", "bnnbench", *blocked, *files, *study]
    return [[*begin, "--device", device] for device in devices]


def slots(device: str, count: int, processes: int = 1) -> list[str]:
    """Return the (first) device of each worker: they share the GPUs in turn.

    A worker whose runs are trained by several ``processes`` has a GPU for each.

    >>> slots("cpu", 2)
    ['cpu', 'cpu']
    """
    if device != "cuda":
        return [device] * count
    import torch

    groups = torch.cuda.device_count() // processes
    return [f"cuda:{number % groups * processes}" for number in range(count)]


def work(progress: CrewProgress, name: str, crew: Crew | Cluster) -> None:
    """Let workers finish a study.

    Raises:
        InterruptedStudyError: Ctrl-C or SIGTERM.
        BnnbenchError: what a worker ended with.
    """
    progress.began = time.monotonic()
    code, message = crew.run()
    if code == InterruptedStudyError.exit_code:
        raise InterruptedStudyError(
            f"interrupted; nothing that is finished is lost, 'bnnbench study run {name}' continues"
        )
    if code:
        error = BnnbenchError(f"a worker stopped: {message}")
        error.exit_code = code
        raise error

"""Who trains the runs of a study: this process, others that it supervises, or Ray's workers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.cli import Settings
    from bnnbench.cluster import Cluster
    from bnnbench.store import Store
    from bnnbench.workers import Audience, Crew

PROCESSES, RAY = "processes", "ray"
HANDED_ON = ("BNNBENCH_", "PG", "OMP_")  #: how the variables begin that workers elsewhere get, too


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--processes-per-run``, ``--engine``, ``--address`` and ``--gpus-per-run``."""
    options = (
        click.option(
            "--processes-per-run",
            "processes",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Train each run in so many processes, each on its part of every batch: on a GPU"
            " each, or on CPU with its share of the threads. The result is the same but for"
            " rounding.",
        ),
        click.option(
            "--engine",
            "kind",
            type=click.Choice([PROCESSES, RAY]),
            default=PROCESSES,
            show_default=True,
            help="What starts workers: this command, on its machine, or Ray, on a cluster.",
        ),
        click.option(
            "--address",
            metavar="ADDRESS",
            help="Of the Ray cluster, or auto. [default: a Ray of its own, on this machine]",
        ),
        click.option(
            "--gpus-per-run",
            "gpus",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="SHARE",
            help="GPUs that Ray counts for each worker, up to 1; with 0.5 two share one.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class Engine:
    """What the options say of who trains."""

    kind: str
    address: str | None
    gpus: float | None
    workers: int | None
    threads: int | None
    processes: int = 1

    @property
    def supervises(self) -> bool:
        """Whether others train, and this process watches them."""
        return self.workers is not None or self.kind == RAY

    def device(self, asked: str) -> str:
        """Return the device of this process, for the one that was asked for.

        Raises:
            UsageError: what cannot be asked for together.
        """
        if self.kind != RAY:
            for option, value in (("--address", self.address), ("--gpus-per-run", self.gpus)):
                if value is not None:
                    raise UsageError(f"{option} is for Ray's workers; give --engine ray, too")
            return asked
        if self.processes > 1:
            raise UsageError(
                "Ray's workers train a run in one process each, got --processes-per-run"
                f" {self.processes}; give --engine processes, or one process"
            )
        if find_spec("ray") is None:
            raise UsageError(
                "--engine ray needs the Python package 'ray'; pip install 'bnnbench[ray]'"
            )
        if asked not in ("auto", "cpu") or (self.gpus and asked == "cpu"):
            raise UsageError(
                f"Ray chooses the device of a worker, got --device {asked}; give --gpus-per-run 1"
                " for a GPU each, nothing for the CPU, and no --device"
            )
        return "cpu"

    def check_store(self, store: Store) -> None:
        """Refuse a database of one machine for workers on several.

        Raises:
            UsageError: in one line.
        """
        if self.address is not None and store.url.get_backend_name() == "sqlite":
            raise UsageError(
                "workers of a Ray cluster share a PostgreSQL database, got an SQLite file; give"
                " --storage postgresql://USER@HOST/DATABASE (pip install 'bnnbench[postgres]'), or"
                " no --address for a Ray on this machine alone"
            )

    def check_devices(self, device: str) -> None:
        """Refuse a run in more processes than there are GPUs from the first one on.

        Raises:
            UsageError: in one line.
        """
        if self.processes == 1 or not device.startswith("cuda"):
            return
        import torch

        first = int(device.partition(":")[2] or 0)
        found = torch.cuda.device_count()
        if first + self.processes > found:
            raise UsageError(
                "each process of a run has a GPU of its own, got --processes-per-run"
                f" {self.processes} on {device} and {found} in all; take fewer, or --device cpu"
            )

    @property
    def places(self) -> int:
        """The workers that this command stands for, as far as Ray need not be asked for them."""
        from bnnbench.cluster import Share
        from bnnbench.environment import cores

        if self.workers or self.kind != RAY or self.address is not None:
            return self.workers or 1
        return Share(self.threads or 1).count({"CPU": cores()})

    def crew(
        self,
        settings: Settings,
        name: str,
        device: str,
        storage: str,
        options: list[str],
        audience: Audience,
    ) -> Crew | Cluster:
        """Return the workers, not yet begun."""
        from bnnbench.cli.crew import commands, slots
        from bnnbench.workers import Crew

        if self.kind == RAY:
            return self._cluster(settings, name, storage, options, audience)
        devices = slots(device, self.workers or 1, self.processes)
        options = [*options, "--processes-per-run", str(self.processes)]
        # the environment, not the command, which others see: a URL may hold a password
        environment = {**os.environ, "BNNBENCH_STORAGE": storage}
        begun = commands(settings, name, devices, self.threads, options)
        return Crew([[sys.executable, *each] for each in begun], environment, audience)

    def _cluster(
        self, settings: Settings, name: str, storage: str, options: list[str], audience: Audience
    ) -> Cluster:
        from bnnbench.cli.crew import commands
        from bnnbench.cluster import LOCAL, Cluster, Share
        from bnnbench.database import parse_url

        url = parse_url(storage)
        if url.get_backend_name() == "sqlite":
            storage = str(Path(str(url.database)).absolute())
        share = Share(self.threads or 1, self.gpus or 0.0, self.workers)
        devices = ["cuda" if self.gpus else "cpu"]
        (command,) = commands(settings, name, devices, share.threads, options)
        environment = {k: v for k, v in os.environ.items() if k.startswith(HANDED_ON)}
        environment["BNNBENCH_STORAGE"] = storage
        return Cluster(self.address or LOCAL, share, command, environment, audience)

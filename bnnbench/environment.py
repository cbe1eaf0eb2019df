"""What a run was trained on: hardware and versions, and no name of a host, a user or a path."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnbench.plugins import Plugins

PACKAGES = ("bnnbench", "torch", "numpy", "optuna", "sqlalchemy", "plotly", "scikit-learn")
FOREIGN = 0.1  #: share of the machine that others may use before a time is not trusted


def describe_environment(plugins: Plugins, device: str, processes: int = 1) -> dict[str, Any]:
    """Return the hardware, the versions and the settings that times and results depend on.

    ``processes`` are those that train one run together; the threads are of each.
    """
    import torch

    return {
        "processor": processor(),
        "cores": cores(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
        "memory_gib": _memory(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "packages": versions(),
        "plugins": {
            plugin.name: f"{plugin.distribution} {plugin.version}"
            for plugin in plugins.plugins
            if not plugin.reason
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide about results."""
    return {name: _version(name) for name in PACKAGES}


def cores() -> int:
    """Return how many cores this process may use: a container's or a batch job's, not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Neighbours:
    """Whether other processes used the machine while we did, as far as Linux tells."""

    def __init__(self) -> None:
        self.start = _busy()

    def foreign_share(self) -> float | None:
        """Return the share of all cores that others used since the start, None if unknown."""
        end = _busy()
        if self.start is None or end is None or end[1] <= self.start[1]:
            return None
        busy, total = end[0] - self.start[0], end[1] - self.start[1]
        own = end[2] - self.start[2]
        return max(0.0, (busy - own) / total)


def _busy() -> tuple[float, float, float] | None:
    """Busy and total seconds of all cores, and busy seconds of this process and its children."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    own = sum(os.times()[:4])  # with that of other processes of the run, which have ended by then
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks), own


def processor() -> str:
    """Return the name of the processor's model, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

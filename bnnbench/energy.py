"""The energy that a machine has taken, where its processor counts it and lets us read the counters.

    joules = sum over counters of ((after - before) mod (range + 1)) / 10^6

Counters run over: between two looks at one there may be one turn of it, which at hundreds of watts
takes minutes. They count whole processors, with what they take idle and for other processes, and
the memory where it has a counter of its own. Many systems let only root read them.

source: Linux's power capping framework (powercap): folders ``intel-rapl:N``, of AMD's processors
too, with ``name``, ``energy_uj`` and ``max_energy_range_uj``
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/class/powercap")
ZONES = "intel-rapl:*"
COUNTED = ("package", "dram")  #: how their names begin; parts of a package are in it already
MICRO = 1e-6


class Counter(NamedTuple):
    """A counter of energy: the file that has its microjoules, and the most that it counts to."""

    path: Path
    most: int

    def read(self) -> int:
        """Return the microjoules that it stands at.

        Raises:
            OSError: it cannot be read.
            ValueError: what is there is no number.
        """
        return int(self.path.read_text(encoding="ascii"))


class Meter:
    """Reads the counters that can be read; without one it knows of no energy.

    Args:
        root: the folder in which the system shows them.
    """

    def __init__(self, root: Path = ROOT) -> None:
        zones = sorted(root.glob(ZONES))
        self.counters = [counter for zone in zones if (counter := _counter(zone)) is not None]

    def read(self) -> tuple[int, ...] | None:
        """Return what the counters stand at, None where there is none that can be read."""
        try:
            return tuple(counter.read() for counter in self.counters) or None
        except (OSError, ValueError):
            return None

    def joules(self, before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> float | None:
        """Return the energy between two looks at the counters, None where one of them failed."""
        if before is None or after is None:
            return None
        looks = zip(self.counters, before, after, strict=True)
        return MICRO * sum((end - start) % (counter.most + 1) for counter, start, end in looks)


def _counter(zone: Path) -> Counter | None:
    """The counter of a folder, None where it counts a part of another or cannot be read."""
    try:
        if not (zone / "name").read_text(encoding="ascii").startswith(COUNTED):
            return None
        most = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
        counter = Counter(zone / "energy_uj", most)
        counter.read()
    except (OSError, ValueError):
        return None
    return counter

"""Series: the measurements of a run that differ in nothing but the epoch, packed.

A run under way has its measurements one by one, as they come. When it has ended they are bound into
series: of a run of 100 epochs that is one row in place of seventy, and a fifth of the bytes, and a
study of thousands of runs is read in the time that a database needs to hand out so many rows.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

POINT = struct.Struct("<iid")  #: epoch, phase, value; a value that is no number is NaN


class Measured(NamedTuple):
    """A measurement of a run as it is read; ``value`` is None where it is not a number."""

    run_id: int
    metric: str
    split: str
    mode: str
    layer: str
    epoch: int
    phase: int
    value: float | None


class Series(NamedTuple):
    """All that was measured of one thing in a run; ``points`` are packed, by epoch."""

    run_id: int
    metric: str
    split: str
    mode: str
    layer: str
    points: bytes

    def values(self) -> dict[int, float]:
        """Return the values by epoch, in its order."""
        return {epoch: value for epoch, _, value in POINT.iter_unpack(self.points)}

    def measured(self) -> Iterator[Measured]:
        """Return the measurements one by one."""
        for epoch, phase, value in POINT.iter_unpack(self.points):
            yield Measured(*self[:5], epoch, phase, None if math.isnan(value) else value)


def bound(rows: Iterable[Sequence[Any]]) -> list[Series]:
    """Return measurements, with the fields of :class:`Measured` and by epoch, as series.

    >>> loss = Measured(1, "loss", "train", "", "", 1, 0, 0.5)
    >>> [series.values() for series in bound([loss, loss._replace(epoch=2, value=0.25)])]
    [{1: 0.5, 2: 0.25}]
    """
    found: dict[tuple[int, str, str, str, str], bytearray] = {}
    for row in rows:
        epoch, phase, value = row[5:]
        point = POINT.pack(epoch, phase, math.nan if value is None else value)
        kind: Any = row[:5]
        found.setdefault(kind, bytearray()).extend(point)
    return [Series(*kind, bytes(points)) for kind, points in found.items()]

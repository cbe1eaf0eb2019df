"""Where the time of a run goes: buckets that add up to the wall time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bnnbench.buckets import BUCKETS, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """A stopwatch that always runs in exactly one bucket.

    On CUDA a change of bucket records an event in the queue of the device; :meth:`lap` synchronizes
    once and reads them all, so that no step waits for the clock.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.cuda = device, device.startswith("cuda")
        self.bucket = OTHER
        self.marks: list[tuple[str, Any]] = [(OTHER, self._now())]

    def enter(self, bucket: str) -> None:
        """Stop the present bucket and start another."""
        if bucket != self.bucket:
            self.bucket = bucket
            self.marks.append((bucket, self._now()))

    @contextmanager
    def within(self, bucket: str) -> Iterator[None]:
        """Run in a bucket until the block ends, then in the one before."""
        before = self.bucket
        self.enter(bucket)
        try:
            yield
        finally:
            self.enter(before)

    def lap(self) -> dict[str, float]:
        """Return the seconds in each bucket since the last lap, and start the next."""
        now = self._now()
        ends = [mark for _, mark in self.marks[1:]] + [now]
        if self.cuda:
            now.synchronize()
        seconds = dict.fromkeys(BUCKETS, 0.0)
        for (bucket, start), end in zip(self.marks, ends, strict=True):
            seconds[bucket] += self._between(start, end)
        self.marks = [(self.bucket, now)]
        return seconds

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        import torch

        event: Any = torch.cuda.Event(enable_timing=True)
        with torch.cuda.device(self.device):  # which need not be the process's current one
            event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end) / 1000 if self.cuda else end - start)

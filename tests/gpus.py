"""A machine with two GPUs that is none: what torch.cuda would be asked, and what it would say."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace


class Gpus:
    """Two GPUs, each with a clock in milliseconds and a generator's state."""

    def __init__(self):
        self.started, self.current = False, "cuda:0"
        self.clocks = {"cuda:0": 0.0, "cuda:1": 0.0}
        self.states = [7, 8]
        self.waits = []

    def replace(self, monkeypatch):
        """Take the place of torch.cuda's functions."""
        for name in (
            "device", "Event", "is_available", "is_initialized", "init", "device_count",
            "get_rng_state_all", "set_rng_state_all", "manual_seed_all",
        ):  # fmt: skip
            monkeypatch.setattr(f"torch.cuda.{name}", getattr(self, name))
        return self

    @contextmanager
    def device(self, name):
        before, self.current = self.current, name
        try:
            yield
        finally:
            self.current = before

    def Event(self, *, enable_timing):
        assert enable_timing
        event = SimpleNamespace()

        def record():
            event.device, event.time = self.current, self.clocks[self.current]

        def elapsed(other):
            assert event.device == other.device
            return other.time - event.time

        event.record, event.elapsed_time = record, elapsed
        event.synchronize = lambda: self.waits.append(event.device)
        return event

    def is_available(self):
        return True

    def is_initialized(self):
        return self.started

    def init(self):
        self.started = True

    def device_count(self):
        return len(self.states)

    def get_rng_state_all(self):
        assert self.started
        return list(self.states)

    def set_rng_state_all(self, states):
        assert len(states) <= len(self.states)
        self.states[: len(states)] = states

    def manual_seed_all(self, seed):
        self.states = [seed] * len(self.states)

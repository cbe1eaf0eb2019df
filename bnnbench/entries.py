"""A run's place in a study, and the words for what it is there and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from bnnbench.runs import Run

TUNE, CONFIRM = "tune", "confirm"
BASE = "base"  #: a run that others start from or learn from
PENDING, RUNNING, DONE = "pending", "running", "done"
PRUNED, DIVERGED, FAILED = "pruned", "diverged", "failed"
ENDED = (DONE, PRUNED, DIVERGED, FAILED)


class Entry(NamedTuple):
    """A run in its place in a study: ``number`` is the trial of a tuning run, else the seed."""

    task: str
    method: str
    role: str
    number: int
    run_id: int
    run: Run
    state: str
    facts: Mapping[str, Any]
    error: str
    shared: bool
    environment: str
    started_at: float | None
    finished_at: float | None

    @property
    def label(self) -> str:
        """What the run is, in a few words."""
        number = f"{'trial' if self.role == TUNE else 'seed'} {self.number}"
        return f"{self.task} {self.method} {self.role} {number}"


def entry_of(row: Any) -> Entry:
    """Return the entry in a row of the tables of entries and runs."""
    return Entry(
        row.task,
        row.method,
        row.role,
        row.number,
        row.id,
        Run.from_json(row.spec),
        row.state,
        json.loads(row.facts),
        row.error,
        row.shared,
        row.environment or "",
        row.started_at,
        row.finished_at,
    )

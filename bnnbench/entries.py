"""A run's place in a study, and the words for what it is there and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from bnnbench.runs import Run

TUNE, CONFIRM = "tune", "confirm"
BASE = "base"  #: a run that others start from or learn from
PENDING, RUNNING, DONE = "pending", "running", "done"
PRUNED, DIVERGED, FAILED = "pruned", "diverged", "failed"
ENDED = (DONE, PRUNED, DIVERGED, FAILED)


class Entry(NamedTuple):
    """A run in its place in a study: ``number`` is the trial of a tuning run, else the seed.

    ``failure`` is the kind of a failure, where it is known: see :mod:`bnnbench.failures`.
    """

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
    failure: str = ""

    @property
    def label(self) -> str:
        """What the run is, in a few words."""
        number = f"{'trial' if self.role == TUNE else 'seed'} {self.number}"
        return f"{self.task} {self.method} {self.role} {number}"


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry in a row with its fields, of which run and facts are text."""
    entry = Entry._make(row)
    run, facts = Run.from_json(row[5]), _facts(row[7])
    return entry._replace(run=run, facts=facts, environment=entry.environment or "")


@lru_cache(maxsize=64)
def _facts(text: str) -> Mapping[str, Any]:
    """The facts of a run; those of a method's other seeds are the same text, parsed once."""
    facts: Mapping[str, Any] = json.loads(text)
    return facts

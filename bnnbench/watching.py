"""Watching studies: when what the database has of them changes, and whether they are complete."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.entries import CONFIRM, DONE, ENDED, TUNE
from bnnbench.holding import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bnnbench.results import Results
    from bnnbench.store import Store


def changes(
    store: Store, names: Sequence[str], every: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """Yield the mark of some studies, then each other one that they have; without an end.

    Args:
        store: where they are.
        names: the studies.
        every: the seconds between two looks.
        sleep: waits for so many seconds.

    Raises:
        UsageError: a study is not there, or no longer.
    """
    before = ""
    while True:
        if (now := mark(store, names)) != before:
            yield now
            before = now
        sleep(every)


def mark(store: Store, names: Sequence[str]) -> str:
    """Return a digest that differs once a run has begun or ended, or a study has changed hands.

    It reads counts and sums, no measurements.
    """
    told = [_counts(store, name) for name in names]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _counts(store: Store, name: str) -> tuple[object, ...]:
    """How many runs of each role are in each state, and when they began and ended.

    An extension of the study is an event.
    """
    s, e, r, v = schema.studies, schema.entries, schema.runs, schema.events
    times = [sa.func.sum(r.c.started_at), sa.func.sum(r.c.finished_at)]
    kinds = e.c.role, r.c.state
    runs = sa.select(*kinds, sa.func.count(), sa.func.sum(e.c.run_id), *times)
    runs = runs.join(r, r.c.id == e.c.run_id).join(s, s.c.id == e.c.study_id)
    runs = runs.where(s.c.name == name).group_by(*kinds).order_by(*kinds)
    events = sa.select(sa.func.count(v.c.id)).join(s, s.c.id == v.c.study_id)
    events = events.where(s.c.name == name)
    with store.begin() as connection:
        known = connection.execute(runs).all()
        logged = connection.execute(events).scalar()
    return workers(store, name), logged, *map(tuple, known)


def is_complete(results: Results, *, held: bool) -> bool:
    """Return whether nothing of a study, or of several, is still to come.

    All confirming runs that are asked for have ended. A method of which every trial ended badly has
    none to come; ``held`` says that somebody runs the study, who may try another one.
    """
    return all(_is_complete(results, *cell, held=held) for cell in results.asked)


def _is_complete(results: Results, task: str, method: str, *, held: bool) -> bool:
    mine = results.cell(task, method)
    ended = [e for e in mine if e.role == CONFIRM and e.state in ENDED]
    tuned = [e.state for e in mine if e.role == TUNE]
    hopeless = bool(tuned) and DONE not in tuned and set(tuned) <= set(ENDED)
    return len(ended) >= results.asked[task, method] or (hopeless and not held)

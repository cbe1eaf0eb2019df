"""What tuning a method may cost and has cost: trials, and seconds of training.

A run's seconds are those that it spent in training, as they are stored; of one that ended before
its first epoch did, which has none, those from its beginning to its end. They are the same whoever
reads them and whenever, so that a study that was broken off goes on with what was spent.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from bnnbench import binding
from bnnbench.buckets import TRAIN, WARMUP
from bnnbench.catalogue import chunks
from bnnbench.store import ENDED, TUNE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bnnbench.store import Entry, Store
    from bnnbench.studies import Protocol

IDLE = 10  #: after so many trials in a row that took no time at all, all of which failed, no more
_SECONDS = [f"seconds.{bucket}" for bucket in (WARMUP, TRAIN)]


class Spent(NamedTuple):
    """What tuning a method on a task has cost: trials that have ended, and their seconds."""

    trials: int = 0
    seconds: float = 0.0


def spent(store: Store, study: str) -> dict[tuple[str, str], Spent]:
    """Return what each (task, method) of a study has spent of its budget."""
    tuned = [e for e in store.entries(study, role=TUNE) if e.state in ENDED]
    seconds = trained(store, tuned)
    found: dict[tuple[str, str], Spent] = {}
    for entry in tuned:
        trials, before = found.get((entry.task, entry.method), Spent())
        found[entry.task, entry.method] = Spent(trials + 1, before + seconds[entry.run_id])
    return found


def trained(store: Store, ended: Collection[Entry]) -> dict[int, float]:
    """Return the seconds that some runs, which have ended, were trained for, by run."""
    found = {entry.run_id: 0.0 for entry in ended}
    with store.begin() as connection:
        for some in chunks(list(found), 500):
            for series in binding.read(connection, some, metric=_SECONDS):
                found[series.run_id] += sum(series.values().values())
    return {e.run_id: found[e.run_id] or _lasted(e) for e in ended}


def is_open(protocol: Protocol, seconds: Sequence[float]) -> bool:
    """Whether there is another trial after those that took so many seconds, in their order.

    >>> from bnnbench.studies import Protocol
    >>> timed = Protocol(seconds=10)
    >>> is_open(timed, []), is_open(timed, [6.0, 3.0]), is_open(timed, [6.0, 5.0])
    (True, True, False)
    """
    if not protocol.tunes or (protocol.trials and len(seconds) >= protocol.trials):
        return False
    if protocol.seconds is None or not seconds:
        return True
    idle = len(seconds) >= IDLE and not any(seconds[-IDLE:])
    return sum(seconds) < protocol.seconds and not idle


def missing(protocol: Protocol, seconds: Sequence[float]) -> int:
    """Return how many trials are missing; in a budget of seconds, at the pace so far.

    >>> from bnnbench.studies import Protocol
    >>> [missing(Protocol(seconds=10), s) for s in ([], [2.0], [1.0, 3.0], [9.0, 9.0])]
    [1, 4, 3, 0]
    """
    if not is_open(protocol, seconds):
        return 0
    left = [protocol.trials - len(seconds)] if protocol.trials else []
    if protocol.seconds is not None:
        pace = sum(seconds) / len(seconds) if any(seconds) else protocol.seconds
        left.append(ceil((protocol.seconds - sum(seconds)) / pace))
    return min(left)


def _lasted(entry: Entry) -> float:
    """The seconds from the beginning of a run to its end; 0 where it was not even begun."""
    if entry.started_at is None or entry.finished_at is None:
        return 0.0
    return max(entry.finished_at - entry.started_at, 0.0)

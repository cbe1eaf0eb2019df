"""Leases: who works at what, in the database, so that no two workers do the same.

A lease is a row with a name, its holder and a count of heartbeats. A holder that dies stops
beating: on its own machine it is known to be gone at once, elsewhere when its count has not moved
for ``patience`` seconds of the observer's own clock, so that no two clocks are ever compared.
Whoever takes a stale lease over shuts its former holder out: what that one still writes names its
claim, and is refused (:func:`confirm`).
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.errors import BnnbenchError, StoreError
from bnnbench.outages import let_persevere
from bnnbench.waits import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from bnnbench.store import Store

PATIENCE = 60.0  #: seconds without a heartbeat after which a holder elsewhere is believed gone
BEATS = 4  #: heartbeats in that time


class LostLeaseError(BnnbenchError):
    """Somebody else has taken over what this process was working at."""


class ElsewhereError(BnnbenchError):
    """Another worker is at it now; look again later."""


class Claim(NamedTuple):
    """A lease that was had: its name, its holder, and who held it before and was lost."""

    name: str
    holder: str
    former: str = ""


def confirm(connection: Connection, claim: Claim | None) -> None:
    """Let a transaction go on only while the claim stands; None claims nothing.

    Raises:
        LostLeaseError: the lease has another holder.
    """
    if claim is None:
        return
    lease = schema.leases.c
    mine = sa.update(schema.leases).where(lease.name == claim.name, lease.holder == claim.holder)
    if connection.execute(mine.values(beats=lease.beats + 1)).rowcount != 1:
        raise LostLeaseError(
            f"another worker has taken over {claim.name!r}; it is left to that one"
        )


class Leases:
    """The leases of one worker, kept alive by a thread until the block ends that they are in.

    ``patience`` is set by BNNBENCH_LEASE_SECONDS too; ``take_over`` says that whoever is on another
    machine is gone.
    """

    def __init__(
        self, store: Store, patience: float | None = None, *, take_over: bool = False
    ) -> None:
        self.store, self.take_over = store, take_over
        given = seconds("BNNBENCH_LEASE_SECONDS", PATIENCE)
        self.patience = given if patience is None else patience
        self.holder = f"{_process(os.getpid())}:{uuid.uuid4().hex[:8]}"
        self._seen: dict[str, tuple[str, int, float, int]] = {}
        self._beaten: int | None = None  # so often; None while nobody beats
        let_persevere(self, ("take", "give_back", "enrol", "others", "_beat"), store.place)

    def take(self, name: str) -> Claim | None:
        """Return a claim on a name, or None while somebody else has one who seems to live."""
        row = self._row(name)
        if row is None:
            return self._inserted(name)
        if row.holder == self.holder:
            return Claim(name, self.holder)
        if not self._is_stale(row):
            return None
        lease = schema.leases.c
        stale = (lease.name == name, lease.holder == row.holder, lease.beats == row.beats)
        change = sa.update(schema.leases).where(*stale)
        with self.store.begin() as connection:
            taken = connection.execute(change.values(holder=self.holder, beats=row.beats + 1))
        return Claim(name, self.holder, row.holder) if taken.rowcount == 1 else None

    @contextmanager
    def claimed(self, name: str) -> Iterator[Claim]:
        """Hold a lease until the block ends.

        Raises:
            ElsewhereError: another worker has it.
        """
        claim = self.take(name)
        if claim is None:
            raise ElsewhereError(f"another worker is at {name!r}")
        try:
            yield claim
        finally:
            self.give_back(claim)

    def give_back(self, claim: Claim) -> None:
        """Release a lease; one that was lost is left alone."""
        lease = schema.leases.c
        mine = (lease.name == claim.name, lease.holder == claim.holder)
        with self.store.begin() as connection:
            connection.execute(sa.delete(schema.leases).where(*mine))

    def enrol(self, prefix: str, rest: str, check: Callable[[list[str]], None]) -> None:
        """Take a lease of one's own beside those of others whose names begin so, too.

        Those of holders that are gone are removed. ``check`` is given the names that stand then,
        without the prefix; what it raises undoes all of it.
        """
        lease = schema.leases.c
        row = {"name": f"{prefix}{rest} {self.holder}", "holder": self.holder, "beats": 0}
        with self.store.begin() as connection:
            connection.execute(schema.leases.insert(), row)  # first: one at a time writes to SQLite
            rows = _beginning(connection, prefix)
            gone = {r.name for r in rows if r.holder != self.holder and self._is_stale(r)}
            connection.execute(sa.delete(schema.leases).where(lease.name.in_(gone)))
            check([r.name.removeprefix(prefix) for r in rows if r.name not in gone])

    def others(self, prefix: str) -> list[str]:
        """Return the living holders, but for this one, of leases whose names begin so."""
        with self.store.begin() as connection:
            rows = _beginning(connection, prefix)
        return [r.holder for r in rows if r.holder != self.holder and not self._is_stale(r)]

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Beat for all leases of this worker until the block ends; then give all of them back."""
        over = threading.Event()
        self._beaten = 0

        def beat() -> None:
            while not over.wait(self.patience / BEATS):
                with suppress(StoreError):  # the next may get through
                    self._beat()
                    self._beaten = (self._beaten or 0) + 1

        thread = threading.Thread(target=beat, name="bnnbench heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._beaten = None
            with suppress(StoreError), self.store.begin() as connection:
                mine = schema.leases.c.holder == self.holder
                connection.execute(sa.delete(schema.leases).where(mine))

    def _beat(self) -> None:
        lease = schema.leases.c
        mine = sa.update(schema.leases).where(lease.holder == self.holder)
        with self.store.begin() as connection:
            connection.execute(mine.values(beats=lease.beats + 1))

    def _row(self, name: str) -> Any:
        with self.store.begin() as connection:
            query = sa.select(schema.leases).where(schema.leases.c.name == name)
            return connection.execute(query).first()

    def _inserted(self, name: str) -> Claim | None:
        row = {"name": name, "holder": self.holder, "beats": 0}
        try:
            with self.store.begin() as connection:
                connection.execute(schema.leases.insert(), row)
        except StoreError as error:
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                return None  # another was quicker
            raise
        return Claim(name, self.holder)

    def _is_stale(self, row: Any) -> bool:
        """Whether a holder is gone: known here, and elsewhere where its count stands still.

        Time in which we could not beat ourselves does not count: the database was away, or this
        machine was asleep, and nobody's count could move.
        """
        if is_gone(row.holder) or (self.take_over and not is_here(row.holder)):
            return True
        holder, beats, since, beaten = self._seen.get(row.name, ("", -1, 0.0, 0))
        now = time.monotonic()
        if (holder, beats) != (row.holder, row.beats):
            self._seen[row.name] = row.holder, row.beats, now, self._beaten or 0
            return False
        awake = self._beaten is None or self._beaten - beaten >= BEATS - 1
        return awake and now - since > self.patience


def _beginning(connection: Connection, prefix: str) -> Sequence[Any]:
    """The leases whose names begin so."""
    named = schema.leases.c.name.startswith(prefix, autoescape=True)
    return connection.execute(sa.select(schema.leases).where(named)).all()


def told(holder: str) -> str:
    """Return a holder in words.

    >>> told("node1:4026531836:123:456:0a1b2c3d")
    'process 123 on node1'
    """
    host, _, pid, _, _ = holder.rsplit(":", 4)
    return f"process {pid} on {host}"


def is_here(holder: str) -> bool:
    """Whether a holder is on this machine, where its process can be seen."""
    host, space, *_ = holder.rsplit(":", 4)
    return (host, space) == (platform.node(), _space())


def is_gone(holder: str) -> bool:
    """Whether a holder is known to run no longer; one on another machine is not."""
    if not is_here(holder):
        return False
    _, _, pid, started, _ = holder.rsplit(":", 4)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return started != _started(int(pid))


def _process(pid: int) -> str:
    return f"{platform.node()}:{_space()}:{pid}:{_started(pid)}"


def _space() -> str:
    """The space that process numbers are of: two containers may have one host name."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot: a process number may be used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "0"
    fields = stat.rpartition(")")[2].split()
    return "0" if fields[0] == "Z" else fields[19]

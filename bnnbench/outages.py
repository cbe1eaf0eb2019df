"""What is done while a database's server is away: wait, and try again what did not come to its end.

A transaction was kept or it was not. Where the answer to a COMMIT is lost with the connection, the
server is asked afterwards (PostgreSQL's ``txid_status``), so that nothing is lost and nothing is
written twice. All else that was under way was not kept, and is done again from its beginning.
"""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from bnnbench.errors import StoreError, causes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Engine

PATIENCE = 120.0  #: seconds for which a server may be away
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  #: seconds between two attempts; each is twice the last
RIVALS = 5  #: attempts of a transaction that another process came before
RIVALRY = ("40001", "40P01")  #: PostgreSQL's codes: could not be put in a row; a deadlock
IN_TRANSACTION = 2  #: libpq's status of a connection whose transaction may be committed

C = TypeVar("C")
T = TypeVar("T")


class AwayError(StoreError):
    """The server was away for longer than we wait."""


def is_outage(error: BaseException) -> bool:
    """Whether an exception says that the connection to a server was lost, or cannot be had."""
    if isinstance(error, AwayError):
        return False
    return any(_is_lost(each) for each in causes(error))


def _is_lost(error: BaseException) -> bool:
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    of_server = type(error.orig).__module__.startswith("psycopg")
    not_made = isinstance(error, sa.exc.OperationalError) and error.statement is None
    return of_server and (error.connection_invalidated or not_made)


def is_rivalry(error: BaseException) -> bool:
    """Whether a transaction was undone because of another process's."""
    found = [each for each in causes(error) if isinstance(each, sa.exc.DBAPIError)]
    return any(
        isinstance(each, sa.exc.IntegrityError) or getattr(each.orig, "sqlstate", None) in RIVALRY
        for each in found
    )


class _Patience:
    """Waits between the attempts, longer and longer, until it is over."""

    def __init__(self, place: str) -> None:
        self.place, self.pause, self.until = place, FIRST_PAUSE, 0.0

    def wait(self, error: BaseException) -> None:
        """Let the next attempt come.

        Raises:
            AwayError: that was the last one.
        """
        now = time.monotonic()
        if not self.until:
            self.until = now + PATIENCE
            at = time.strftime("%H:%M:%S")
            said = f"the database {self.place} does not answer at {at}; it is tried again for"
            warnings.warn(f"{said} {PATIENCE:g} s", stacklevel=2)
        if now >= self.until:
            raise AwayError(
                f"the database {self.place} has not answered for {PATIENCE:g} s; what was written"
                " is not lost, give the same command again when the server is back"
            ) from error
        time.sleep(min(self.pause, self.until - now))
        self.pause = min(2 * self.pause, LONGEST_PAUSE)


def persevere(attempt: Callable[[], T], place: str) -> T:
    """Return what an attempt gives, made again while the server is away; ``place`` is for the eye.

    Raises:
        AwayError: the server was away for too long.
    """
    patience, rivals = _Patience(place), 0
    while True:
        try:
            return attempt()
        except Exception as error:
            if is_outage(error):
                patience.wait(error)
            elif is_rivalry(error) and rivals < RIVALS:
                rivals += 1
            else:
                raise


def persevering(cls: type[C]) -> type[C]:
    """Let a store do each public method of its bases again, whole, while the server is away.

    So a method has at most one transaction that must not be repeated, and that is its last.
    """
    for base in cls.__mro__[1:]:
        for name, method in vars(base).items():
            if inspect.isfunction(method) and name[0] != "_" and name not in vars(cls):
                setattr(cls, name, _repeated(method))
    return cls


def _repeated(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def repeated(self: Any, *values: Any, **named: Any) -> T:
        values = tuple(_lasting(value) for value in values)
        named = {name: _lasting(value) for name, value in named.items()}
        return persevere(lambda: method(self, *values, **named), self.place)

    return repeated


def _lasting(value: Any) -> Any:
    """What can be gone through more than once."""
    return list(value) if isinstance(value, Iterator) else value


def let_persevere(made: Any, names: Iterable[str], place: str) -> None:
    """Let some methods of an object be done again while the server is away."""
    for name in names:
        method = getattr(made, name)
        setattr(made, name, _bound(method, place))


def _bound(method: Callable[..., T], place: str) -> Callable[..., T]:
    @functools.wraps(method)
    def repeated(*values: Any, **named: Any) -> T:
        return persevere(lambda: method(*values, **named), place)

    return repeated


def commit_exactly(engine: Engine, place: str) -> None:
    """Let an engine find out whether a transaction was kept whose COMMIT was not answered."""
    plain = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        number = _number(connection)
        try:
            plain(connection)
        except Exception as error:
            if number is None or not connection.dbapi_connection.closed:
                raise
            ask = functools.partial(_was_kept, engine, number, error)
            if not persevere(ask, place):
                raise
            connection.invalidate(error)  # it was lost after the end of its transaction

    engine.dialect.do_commit = do_commit  # type: ignore[assignment,method-assign]


def _number(connection: Any) -> int | None:
    """The server's number of a transaction; one that only reads has none."""
    if connection.dbapi_connection.info.transaction_status != IN_TRANSACTION:
        return None
    with connection.dbapi_connection.cursor() as cursor:
        cursor.execute("SELECT txid_current_if_assigned()")
        number: int | None = cursor.fetchone()[0]
    return number


def _was_kept(engine: Engine, number: int, lost: BaseException) -> bool:
    """Whether a transaction was committed; of one that is still under way the end is waited for.

    Raises:
        StoreError: the server no longer knows.
    """
    query = sa.text("SELECT txid_status(:number)")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with engine.connect() as connection:
            status = connection.execute(query, {"number": number}).scalar()
        if status in ("committed", "aborted"):
            return bool(status == "committed")
        if status is None:
            break
        time.sleep(FIRST_PAUSE)
    raise StoreError(
        "the database's answer to a COMMIT was lost, and it no longer knows the transaction; run"
        " 'bnnbench db check', then the same command again"
    ) from lost

"""The database: our tables through SQLAlchemy Core, on SQLite or PostgreSQL.

A store is a catalogue of studies and the ledger of their runs. Every method is one transaction, or
says so. While a server is away, what a method does is tried again: see bnnbench.outages.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bnnbench.backup import quiet
from bnnbench.catalogue import StudySummary
from bnnbench.database import check_file, make_engine, migrate, parse_url
from bnnbench.entries import (
    BASE,
    CONFIRM,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    PRUNED,
    RUNNING,
    TUNE,
    Entry,
)
from bnnbench.errors import StoreError
from bnnbench.ledger import Ledger
from bnnbench.outages import persevere, persevering
from bnnbench.passwords import scrubbed, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

__all__ = [
    "BASE",
    "CONFIRM",
    "DIVERGED",
    "DONE",
    "ENDED",
    "FAILED",
    "PENDING",
    "PRUNED",
    "RUNNING",
    "TUNE",
    "Entry",
    "Store",
    "StudySummary",
]


@persevering
class Store(Ledger):
    """A database that holds studies and their runs.

    Opening it brings its tables up to date; ``told`` hears of that, of a copy made before, and of
    how far it has come.
    """

    def __init__(
        self, url: str, *, create: bool = True, told: Callable[[str], None] = quiet
    ) -> None:
        self.url = parse_url(url)
        self.place = shown(self.url)  #: the URL as it may be shown
        check_file(self.url, create=create)
        with self._explained():
            self.engine = make_engine(self.url)
            migrate(self.engine, told)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
            cause = scrubbed(said.splitlines()[0], self.url)
            raise StoreError(f"the database {self.place} cannot be used: {cause}") from error
        except ModuleNotFoundError as error:
            raise StoreError(
                f"{self.url.get_backend_name()} needs the Python package {error.name!r}: SQLite is"
                " built in, PostgreSQL comes with pip install 'bnnbench[postgres]', others are not"
                " supported"
            ) from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction; database errors come out as one line.

        A server that is away when it begins is waited for. One that goes away later ends it with an
        error, and then nothing of it was kept.
        """
        with (
            self._explained(),
            persevere(self.engine.connect, self.place) as connection,
            connection.begin(),
        ):
            yield connection

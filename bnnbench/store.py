"""The database: our tables through SQLAlchemy Core, on SQLite or PostgreSQL.

A store is a catalogue of studies and the ledger of their runs. Every method is one transaction, or
says so.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

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

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class Store(Ledger):
    """A database that holds studies and their runs."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.url = parse_url(url)
        check_file(self.url, create=create)
        with self._explained():
            self.engine = make_engine(self.url)
            migrate(self.engine)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            shown = self.url.render_as_string(hide_password=True)
            raise StoreError(f"the database {shown} cannot be used: {cause}") from error
        except ModuleNotFoundError as error:
            raise StoreError(
                f"{self.url.get_backend_name()} needs the Python package {error.name!r}: SQLite is"
                " built in, PostgreSQL comes with pip install 'bnnbench[postgres]', others are not"
                " supported"
            ) from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction; database errors come out as one line."""
        with self._explained(), self.engine.begin() as connection:
            yield connection

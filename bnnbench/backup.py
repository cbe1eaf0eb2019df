"""Copies of an SQLite database, made while others write: all of it as it was at one moment.

A copy appears whole or not at all, takes nobody's place, and is on the disk when its name is.
"""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

from bnnbench.errors import StoreError, UsageError
from bnnbench.passwords import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

PAGES = 4096  #: copied at once: 16 MiB as SQLite comes
EVERY = 2.0  #: seconds between two reports of progress


def quiet(_text: str) -> None:
    """Tell nobody."""


class Progress:
    """Tells how far something has come that may take long, every other second."""

    def __init__(self, what: str, told: Callable[[str], None]) -> None:
        self.what, self.told, self.last = what, told, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Tell it, if it is time."""
        now = time.monotonic()
        if now - self.last >= EVERY:
            self.told(f"{self.what}: {done:,} of {total:,}")
            self.last = now


def backup(url: sa.URL, target: Path | None = None, told: Callable[[str], None] = quiet) -> Path:
    """Copy a database and return where to; by default beside it, with the time in the name.

    Raises:
        UsageError: there is a file already, or the database is not SQLite's.
        StoreError: it cannot be read, or the copy cannot be written; nothing of it stays.
    """
    if url.get_backend_name() != "sqlite":
        raise UsageError(
            f"bnnbench copies SQLite databases; of {shown(url)} a copy is made by PostgreSQL:"
            f" pg_dump --format=custom --file=bnnbench.dump {postgres_url(url)!r}"
        )
    source = Path(str(url.database))
    return copy(source, target, told) if target else copy_beside(source, "", told)


def postgres_url(url: sa.URL) -> str:
    """Return a URL as PostgreSQL's own programs take it, without its password."""
    return shown(url._replace(drivername="postgresql", password=None))


def copy_beside(source: Path, mark: str = "", told: Callable[[str], None] = quiet) -> Path:
    """Copy a database into its folder; ``mark`` is put into the copy's name, before the time."""
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name = f"{source.name}.{mark}{now}"
    for count in itertools.count(1):
        more = f"-{count}" if count > 1 else ""
        target = source.with_name(f"{name}{more}.backup")
        try:
            return copy(source, target, told)
        except UsageError:
            if not target.exists():
                raise
    raise AssertionError


def copy(source: Path, target: Path, told: Callable[[str], None] = quiet) -> Path:
    """Copy a database to a file that is not there yet, and return its path.

    Raises:
        UsageError: it is there, or its folder is not.
        StoreError: it cannot be written; nothing of it stays.
    """
    if target.exists():
        raise UsageError(f"a copy takes nobody's place, but {target} exists; name another file")
    if not target.resolve().parent.is_dir():
        raise UsageError(f"the copy's folder does not exist: {target.resolve().parent}")
    beside = target.with_name(f"{target.name}.{os.getpid()}-{get_ident()}.part")
    try:
        _copy(source, beside, Progress("pages copied", told))
        put_on_disk(beside)
        _name(beside, target)
        put_on_disk(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the database {source} cannot be copied to {target}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return target


def _copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy page by page what one transaction sees; those who write go on writing."""
    target.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(source, timeout=120, isolation_level=None)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.execute("BEGIN")
        old.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # from here on it sees no more
        old.backup(new, pages=PAGES, progress=lambda _, left, all_: progress(all_ - left, all_))
        found = new.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged ({found})")


def _name(beside: Path, target: Path) -> None:
    """Give a file its name, which nothing else may have got meanwhile."""
    try:
        os.link(beside, target)
    except FileExistsError:
        raise UsageError(f"a copy takes nobody's place, but {target} exists") from None
    except OSError:  # a file system without links
        beside.rename(target)


def put_on_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlive a power cut.

    Raises:
        OSError: they would not; a disk that is full may say so only here.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # folders of some file systems
            raise
    finally:
        os.close(descriptor)

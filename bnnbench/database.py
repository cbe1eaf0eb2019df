"""Opening a database: its URL, its engine, and our migrations in it."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine


def parse_url(url: str) -> sa.URL:
    """Return a URL; a bare path is an SQLite file, PostgreSQL is reached through psycopg 3."""
    if not url or url in (":memory:", "sqlite://", "sqlite:///:memory:"):
        raise StoreError(f"a storage must outlive the command, got {url!r}; give a path or a URL")
    try:
        parsed = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except sa.exc.ArgumentError:
        raise StoreError(f"a storage must be a path or a database URL, got {url!r}") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def checkpoint_folder(url: sa.URL) -> Path:
    """Return where the files of a database's runs are kept: beside it, or in this folder."""
    if url.get_backend_name() == "sqlite":
        return Path(f"{url.database}.checkpoints")
    place = f"{url.host}:{url.port}/{url.database}"
    return Path(f"bnnbench-{hashlib.sha256(place.encode()).hexdigest()[:8]}.checkpoints")


def check_file(url: sa.URL, *, create: bool) -> None:
    """Refuse a path that cannot be an SQLite database, before SQLite makes one there."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return
    path = Path(str(url.database))
    if not path.exists():
        if not create:
            raise StoreError(
                f"there is no database at {path}; 'bnnbench study create' makes one,"
                " --storage or BNNBENCH_STORAGE names another"
            )
        if not path.resolve().parent.is_dir():
            raise StoreError(f"the database's folder does not exist: {path.resolve().parent}")
        return
    if path.is_dir():
        raise StoreError(f"a database is a file, {path} is a folder")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StoreError(f"the database {path} cannot be read: {error.strerror}") from None
    if head not in (b"", b"SQLite format 3\0"):
        raise StoreError(f"{path} is not an SQLite database; --storage names another")


def make_engine(url: sa.URL) -> Engine:
    """Return an engine; SQLite's is made fit for many processes."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": 120})
    sa.event.listen(engine, "connect", on_sqlite_connect)
    return engine


def on_sqlite_connect(connection: Any, _record: Any) -> None:
    """Let many processes write: WAL lives in the file, the rest in each connection."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def many_made() -> Iterator[None]:
    """Let very many rows be read without looking for garbage among them over and over."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def migrate(engine: Engine) -> None:
    """Bring our tables to the newest migration; refuse a database that is newer than we are."""
    with engine.begin() as connection:
        found = _version(connection)
    if found == schema.HEAD:
        return
    if found is not None and found > schema.HEAD:
        raise StoreError(
            f"this database has schema {found}, this bnnbench knows up to {schema.HEAD};"
            " upgrade bnnbench"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "bnnbench:migrations")
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # Python's driver begins no transaction for a table
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if _version(connection) != schema.HEAD:  # another process may have been first
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    query = sa.text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608  # a constant
    found: str | None = connection.execute(query).scalar()
    return found

"""Opening a database: its URL, its engine, and our migrations in it."""

from __future__ import annotations

import gc
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bnnbench import backup, schema
from bnnbench.errors import StoreError
from bnnbench.mounts import network_type
from bnnbench.outages import commit_exactly
from bnnbench.passwords import masked_url, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

ANYWHERE = "BNNBENCH_SQLITE_ANYWHERE"  #: the variable that lets SQLite use any file system
MIGRATING = 0x626E6E62  #: the number of PostgreSQL's lock that who migrates holds
#: libpq's words: a server that does not answer is found to be away after a minute, not hours
ALIVE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


def parse_url(url: str) -> sa.URL:
    """Return a URL; a bare path is an SQLite file, PostgreSQL is reached through psycopg 3."""
    if not url or url in (":memory:", "sqlite://", "sqlite:///:memory:"):
        raise StoreError(f"a storage must outlive the command, got {url!r}; give a path or a URL")
    _check_address(url)
    try:
        parsed = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except (sa.exc.ArgumentError, ValueError):  # the latter of a port that is no number
        raise StoreError(
            f"a storage must be a path or a database URL, got {masked_url(url)!r}"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _check_address(url: str) -> None:
    """Refuse a URL whose login would be taken apart in the wrong place, and libpq's own words."""
    kind, mark, address = url.partition("://")
    if not mark and masked_url(url) != url:
        raise StoreError(
            f"a storage must be a path or a URL, postgresql://USER:PASSWORD@HOST/DATABASE, got"
            f" {masked_url(url)!r}"
        )
    if mark and not kind.startswith("sqlite") and address.partition("?")[0].count("@") > 1:
        raise StoreError(
            f"in a URL only the host follows an @, got {masked_url(url)!r}; write %40 for one in a"
            " password"
        )


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
    _check_disk(path)
    if not path.exists():
        if not create:
            raise StoreError(
                f"there is no database at {masked_url(str(path))}; 'bnnbench study create' makes"
                " one, --storage or BNNBENCH_STORAGE names another"
            )
        if not path.resolve().parent.is_dir():
            raise StoreError(
                f"the database's folder does not exist: {masked_url(str(path.resolve().parent))}"
            )
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


def _check_disk(path: Path) -> None:
    """Refuse a network file system, on which SQLite loses what several processes write."""
    kind = "" if os.environ.get(ANYWHERE) else network_type(path)
    if kind:
        raise StoreError(
            f"an SQLite database must lie on a disk of this machine, {path} lies on {kind}; use"
            " --storage postgresql://USER@HOST/DATABASE (pip install 'bnnbench[postgres]'), or"
            f" set {ANYWHERE}=1 if no two machines use it"
        )


def make_engine(url: sa.URL) -> Engine:
    """Return an engine; SQLite's is made fit for many processes, others for a server's absence."""
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url, **server_settings(url))
        make_lasting(engine)
        return engine
    engine = sa.create_engine(url, connect_args={"timeout": 120})
    sa.event.listen(engine, "connect", on_sqlite_connect)
    return engine


def server_settings(url: sa.URL) -> dict[str, Any]:
    """Return what makes an engine notice that its server was away; what a URL says goes first."""
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        settings["connect_args"] = {k: v for k, v in ALIVE.items() if k not in url.query}
    return settings


def make_lasting(engine: Engine) -> None:
    """Let a PostgreSQL engine know of each transaction whether it was kept."""
    if engine.dialect.name == "postgresql":
        commit_exactly(engine, shown(engine.url))


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


def migrate(engine: Engine, told: Callable[[str], None] = backup.quiet) -> None:
    """Bring our tables to the newest migration; refuse a database that is newer than we are.

    An SQLite database that has our tables already is copied before; ``told`` hears of it.
    """
    with engine.begin() as connection:
        found = _version(connection)
    if found == schema.HEAD:
        return
    if found is not None and found > schema.HEAD:
        raise StoreError(
            f"this database has schema {found}, this bnnbench knows up to {schema.HEAD};"
            " upgrade bnnbench"
        )
    with engine.begin() as connection:
        _be_alone(connection)
        found = _version(connection)
        if found != schema.HEAD:  # else another process was first
            if found is not None:
                _keep_copy(engine, found, told)
            _upgrade(connection, told)


def _be_alone(connection: Connection) -> None:
    """Let nobody else migrate until the end of the transaction."""
    if connection.dialect.name == "sqlite":  # Python's driver begins no transaction for a table
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))


def _keep_copy(engine: Engine, version: str, told: Callable[[str], None]) -> None:
    """Copy an SQLite database as it is; nobody can write meanwhile."""
    told(f"upgrading the database from schema {version} to {schema.HEAD}")
    if engine.dialect.name == "sqlite":
        source = Path(str(engine.url.database))
        copy = backup.copy_beside(source, f"schema-{version}.", told)
        told(f"it was copied to {copy} before")


def _upgrade(connection: Connection, told: Callable[[str], None]) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "bnnbench:migrations")
    config.attributes.update(connection=connection, told=told)
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    query = sa.text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608  # a constant
    found: str | None = connection.execute(query).scalar()
    return found

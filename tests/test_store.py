"""The database: ours beside Optuna's, one transaction at a time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace

import optuna
import pytest
import sqlalchemy as sa

from bnnbench import schema
from bnnbench.database import checkpoint_folder, parse_url
from bnnbench.errors import StoreError, UsageError
from bnnbench.measurements import Measurement
from bnnbench.runs import Part, Run
from bnnbench.search import optuna_storage
from bnnbench.store import CONFIRM, DONE, FAILED, PENDING, TUNE, Store

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.1}), seed=1, epochs=2, batch_size=3)


def started(store, study, name="s", run=RUN, number=1):
    store.create_study(name, study, "cmd", "0")
    entry = store.enter(name, "t", "real", CONFIRM, number, run)
    store.start_run(entry.run_id, {"judged": "real"}, {"cores": 2})
    return entry


def test_key_is_of_the_content():
    """Equal descriptions have one key, on every machine; any other value has another."""
    assert 20 == len(RUN.key)
    assert RUN.key != replace(RUN, seed=2).key != replace(RUN, code={"bnnbench": "9"}).key
    assert RUN == Run.from_json(RUN.to_json())
    script = (
        "from bnnbench.runs import Part, Run; print(Run(Part('d'), Part('a'), Part('l'),"
        " Part('m', {'lr': 0.1}), seed=1, epochs=2, batch_size=3).key)"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert RUN.key == other.stdout.strip()


def test_measurements_come_back(store, tiny):
    """What was written is what is read."""
    entry = started(store, tiny)
    measured = [Measurement("loss", 0.5, 1, "train"), Measurement("pi", -9.0, 1, layer="dense1")]
    store.write(entry.run_id, measured)
    store.write(entry.run_id, [Measurement("loss", 0.25, 2, "train")])
    store.end_run(entry.run_id, DONE)

    rows = store.measured("s", ["loss", "pi"])

    assert [(1, 0.5), (2, 0.25), (1, -9.0)] == [(row.epoch, row.value) for row in rows]
    assert 0.25 == store.value(entry.run_id, "loss")
    assert DONE == store.entries("s")[0].state


def test_broken_attempt_leaves_nothing(store, tiny):
    """A run that begins anew has only its new measurements."""
    entry = started(store, tiny)
    store.write(entry.run_id, [Measurement("loss", 1.0, 1)])

    store.start_run(entry.run_id, {}, {"cores": 2})

    assert [] == store.measured("s", ["loss"])


def test_entering_twice_is_entering_once(store, tiny):
    """A place in a study holds one run, however often it is asked for."""
    store.create_study("s", tiny, "cmd", "0")

    first = store.enter("s", "t", "real", TUNE, 0, RUN)
    again = store.enter("s", "t", "real", TUNE, 0, RUN)

    assert first == again
    assert 1 == len(store.entries("s"))
    assert PENDING == first.state


def test_studies_share_equal_runs(store, tiny):
    """A run that two studies ask for exists once, and lives as long as one of them."""
    one = started(store, tiny, "one")
    store.end_run(one.run_id, DONE)
    store.create_study("two", tiny, "cmd", "0")
    two = store.enter("two", "t", "real", CONFIRM, 1, RUN)

    assert (one.run_id, DONE) == (two.run_id, two.state)
    store.delete_study("one")
    assert [DONE] == [entry.state for entry in store.entries("two")]
    store.delete_study("two")
    with store.begin() as connection:
        for table in (schema.runs, schema.measurements, schema.entries, schema.studies):
            assert 0 == connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()


def test_study_that_exists(store, tiny):
    """A second study of the same name is refused with the way out."""
    store.create_study("s", tiny, "cmd", "0")

    with pytest.raises(UsageError, match="a study named 's' exists; run it with"):
        store.create_study("s", tiny, "cmd", "0")


def test_unknown_study_suggests(store, tiny):
    """The nearest study is named."""
    store.create_study("quickstart", tiny, "cmd", "0")

    with pytest.raises(UsageError, match="did you mean 'quickstart'"):
        store.study("quickstrat")


def test_optuna_shares_the_database(store, tiny):
    """Optuna's tables and ours stand beside each other, whichever came first, with two versions."""
    optuna.create_study(storage=optuna_storage(store), study_name="s/t/m")

    again = Store(str(store.url.database))

    tables = set(sa.inspect(again.engine).get_table_names())
    assert {"alembic_version", schema.VERSION_TABLE, "trials", "bnnbench_runs"} <= tables
    again.create_study("s", tiny, "cmd", "0")
    again.engine.dispose()


def test_head_is_the_newest_migration(store):
    """The constant that spares us Alembic's import is true, and the tables match the metadata."""
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "bnnbench:migrations")
    assert schema.HEAD == ScriptDirectory.from_config(config).get_current_head()
    with store.engine.connect() as connection:
        ours = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=ours)
        assert [] == compare_metadata(context, schema.metadata)


def test_newer_schema_is_refused(store):
    """A database of a later bnnbench is not touched."""
    with store.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))

    with pytest.raises(StoreError, match="schema 9999, this bnnbench knows up to"):
        Store(str(store.url.database))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"not a database at all"), "is not an SQLite database"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5000), "cannot be used"),
    ],
)
def test_file_that_is_no_database(tmp_path, make, message):
    """A file that is something else is left as it is, and named."""
    path = tmp_path / "x.db"
    make(path)

    with pytest.raises(StoreError, match=message) as error:
        Store(str(path))

    assert "\n" not in str(error.value)


def test_database_that_is_not_there(tmp_path):
    """Reading makes no empty database."""
    with pytest.raises(StoreError, match="there is no database at"):
        Store(str(tmp_path / "x.db"), create=False)

    assert [] == list(tmp_path.iterdir())


def test_odd_urls(tmp_path):
    """A URL that is none, a driver that is missing, a folder that is missing: one line each."""
    for url in ("foo://x", "://", f"sqlite:///{tmp_path}/no/x.db"):
        with pytest.raises(StoreError) as error:
            Store(url)
        assert "\n" not in str(error.value)


def test_sqlite_is_opened_for_many_writers(store):
    """Write-ahead logging, and a busy timeout of two minutes."""
    with store.engine.connect() as connection:
        assert "wal" == connection.execute(sa.text("PRAGMA journal_mode")).scalar()
        assert 1 == connection.execute(sa.text("PRAGMA synchronous")).scalar()
        assert 120_000 == connection.execute(sa.text("PRAGMA busy_timeout")).scalar()


def test_password_is_never_shown():
    """An error about a database does not tell its password."""
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    with pytest.raises(StoreError) as error:
        Store("postgresql://me:secret@127.0.0.1:1/x")

    assert "secret" not in str(error.value)


def test_failed_transaction_changes_nothing(store, tiny):
    """The measurements of an epoch are written together or not at all."""
    entry = started(store, tiny)
    twice = [Measurement("loss", 1.0, 1), Measurement("loss", 2.0, 1)]

    with pytest.raises(StoreError):
        store.write(entry.run_id, twice)

    assert [] == store.measured("s", ["loss"])
    with sqlite3.connect(str(store.url.database)) as connection:
        assert (1,) == connection.execute("SELECT COUNT(*) FROM bnnbench_runs").fetchone()
    connection.close()


def test_failure_is_not_inherited(store, tiny):
    """A run that failed for one study is tried again for another that asks for it."""
    one = started(store, tiny, "one")
    store.end_run(one.run_id, FAILED, error="a bug that has been mended since")
    store.create_study("two", tiny, "cmd", "0")

    assert PENDING == store.enter("two", "t", "real", CONFIRM, 1, RUN).state


def test_unfinished_place_takes_the_new_description(store, tiny):
    """Code that has been changed replaces a run that has not ended, never one that has."""
    entry = started(store, tiny)
    newer = replace(RUN, code={"bnnbench": "9"})

    moved = store.enter("s", "t", "real", CONFIRM, 1, newer)
    store.end_run(moved.run_id, DONE)
    kept = store.enter("s", "t", "real", CONFIRM, 1, RUN)

    assert (newer, newer) == (moved.run, kept.run)
    assert entry.run_id != moved.run_id
    assert 1 == len(store.entries("s"))


def test_number_that_is_none_is_kept_as_such(store, tiny):
    """A measurement that is not a number does not break the epoch's transaction."""
    entry = started(store, tiny)

    store.write(entry.run_id, [Measurement("loss", float("nan"), 1), Measurement("pi", -9.0, 1)])

    assert [None, -9.0] == [row.value for row in store.measured("s", ["loss", "pi"])]


def test_migration_is_all_or_nothing(tmp_path, monkeypatch):
    """A process that dies in the middle of making the tables leaves a database that can be used."""
    from alembic import op

    made, count = op.create_table, []

    def dying(*arguments, **options):
        count.append(1)
        if len(count) == 3:
            raise RuntimeError("the machine died")
        return made(*arguments, **options)

    path = str(tmp_path / "x.db")
    monkeypatch.setattr(op, "create_table", dying)
    with pytest.raises(RuntimeError):
        Store(path)
    monkeypatch.undo()

    again = Store(path)
    assert [] == again.studies()
    again.engine.dispose()


@pytest.mark.parametrize("url", ["", ":memory:", "sqlite://"])
def test_storage_must_outlive_the_command(url):
    """A database in memory would be gone with the command."""
    with pytest.raises(StoreError, match="must outlive the command"):
        Store(url)


def test_every_database_has_checkpoints_of_its_own():
    """Names that differ only in their ending, and databases of one server, have two folders."""
    urls = ["a.db", "a.sqlite", "runs.2024", "runs.2025", "sub/a.db"]
    urls += [f"postgresql://{user}@host/{name}" for user, name in (("me", "x"), ("me", "y"))]

    folders = [checkpoint_folder(parse_url(url)) for url in urls]

    assert len(urls) == len(set(folders))
    assert "a.db.checkpoints" == str(folders[0])
    secret = checkpoint_folder(parse_url("postgresql://you:secret@host/x"))
    assert folders[-2] == secret

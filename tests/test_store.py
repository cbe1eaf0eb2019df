"""The database: ours beside Optuna's, one transaction at a time."""

from __future__ import annotations

import gc
import math
import random
import sqlite3
import statistics
import subprocess
import sys
from dataclasses import replace

import optuna
import pytest
import sqlalchemy as sa

from bnnbench import binding, schema
from bnnbench.database import checkpoint_folder, make_engine, parse_url
from bnnbench.errors import StoreError, UsageError
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.runs import Part, Run
from bnnbench.search import optuna_storage
from bnnbench.store import (
    CONFIRM,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    PRUNED,
    RUNNING,
    TUNE,
    Store,
)

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.1}), seed=1, epochs=2, batch_size=3)


def started(store, study, name="s", run=RUN, number=1):
    store.create_study(name, study, "cmd", "0")
    entry = store.enter(name, "t", "real", CONFIRM, number, run)
    store.start_run(entry.run_id, {"judged": "real"}, {"cores": 2})
    return entry


def epochs_of(seed, epochs=6):
    """The measurements of a run, epoch by epoch, of every kind there is."""
    values = random.Random(seed)
    for epoch in range(1, epochs + 1):
        yield [
            Measurement("loss", values.random(), epoch, "train", phase=epoch // 4),
            Measurement("loss", float("nan"), epoch, "validation", "real"),
            *(
                Measurement("accuracy", 100 * values.random(), epoch, "validation", mode)
                for mode in ("binary", "real")
            ),
            *(
                Measurement("flip_step", values.random(), epoch, layer=layer)
                for layer in ("", "dense1")
            ),
            Measurement("seconds.train" if epoch > 1 else "seconds.warmup", values.random(), epoch),
        ]
    yield [
        Measurement("selected_epoch", 2, 2),
        Measurement("weight_bits", 1, 2, mode="binary"),
        Measurement("activation_bits", 32, 2),
        Measurement("accuracy", 100 * values.random(), 2, "test", "binary"),
        Measurement("seconds.evaluation", values.random(), epochs + 1),
    ]


METRICS = ["accuracy", "loss", "flip_step", "seconds.train", "seconds.warmup", "selected_epoch"]


def plain(rows):
    """What was measured, as plain tuples in an order of their own; what is no number is None."""
    return sorted(
        (m.metric, m.split, m.mode, m.layer, m.epoch, m.phase, repr(known(m.value))) for m in rows
    )


def known(value):
    return None if value is None or math.isnan(value) else float(value)


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
    assert (PENDING, "", None) == (first.state, first.environment, first.started_at)


def test_studies_share_equal_runs(store, tiny):
    """A run that two studies ask for exists once, and lives as long as one of them."""
    one = started(store, tiny, "one")
    store.write(one.run_id, [Measurement("loss", 0.5, 1)])
    store.end_run(one.run_id, DONE)
    store.create_study("two", tiny, "cmd", "0")
    two = store.enter("two", "t", "real", CONFIRM, 1, RUN)

    assert (one.run_id, DONE) == (two.run_id, two.state)
    store.delete_study("one")
    assert [DONE] == [entry.state for entry in store.entries("two")]
    store.delete_study("two")
    with store.begin() as connection:
        for table in set(schema.metadata.tables.values()) - {schema.environments}:
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


def test_binding_changes_nothing_that_is_read(store, tiny):
    """A run that has ended reads as it did while it was under way, bit for bit."""
    entry = started(store, tiny)
    for measured in epochs_of(0):
        store.write(entry.run_id, measured)
    before = store.measured("s", METRICS), store.measured("s", METRICS, layer="dense1")
    values = [store.value(entry.run_id, metric, layer="") for metric in METRICS]

    store.end_run(entry.run_id, DONE)

    assert before == (store.measured("s", METRICS), store.measured("s", METRICS, layer="dense1"))
    assert values == [store.value(entry.run_id, metric, layer="") for metric in METRICS]
    written = [m for each in epochs_of(0) for m in each if m.metric in METRICS]
    assert plain(written) == plain(before[0])
    with store.begin() as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
            for table in (schema.measurements, schema.series)
        ]
    assert [0, 13] == counts


def test_value_of_an_epoch(store, tiny):
    """A value is that of the epoch that is asked for, or of the latest, bound or not."""
    entry = started(store, tiny)
    store.write(entry.run_id, [Measurement("loss", 0.1 * n, n, "train") for n in (1, 3, 2)])

    for state in (RUNNING, DONE):
        store.end_run(entry.run_id, state)
        found = [store.value(entry.run_id, "loss", epoch=epoch) for epoch in (1, 2, None, 4)]
        assert [0.1, 0.2, 0.1 * 3, None] == found


@pytest.mark.parametrize("state", [PENDING, FAILED])
def test_run_that_goes_on_keeps_what_came_before(store, tiny, state):
    """A run that was broken off, or has failed, goes on after an epoch; what came later is gone."""
    entry = started(store, tiny)
    wanted = list(epochs_of(1))
    for measured in wanted[:4]:
        store.write(entry.run_id, measured)
    store.end_run(entry.run_id, state)

    store.start_run(entry.run_id, {"judged": "real"}, {"cores": 2}, after=2)
    assert {1, 2} == {m.epoch for m in store.measured("s", METRICS)}
    for measured in wanted[2:]:
        store.write(entry.run_id, measured)
    store.end_run(entry.run_id, DONE)

    other = started(store, tiny, "other", replace(RUN, seed=2))
    store.write(other.run_id, [m for each in wanted for m in each])
    store.end_run(other.run_id, DONE)
    assert plain(store.measured("other", METRICS)) == plain(store.measured("s", METRICS))
    assert 44 == len(store.measured("s", METRICS))


def test_outcome_is_what_a_hand_computes(store, tiny):
    """Mean flips, median seconds, the selected accuracy of each mode, and the final values."""
    entry = started(store, tiny)
    measured = [m for each in epochs_of(3) for m in each]
    store.write(entry.run_id, measured)
    store.end_run(entry.run_id, DONE)

    found = store.outcomes("s", DONE)[entry.run_id]

    def values(metric, **place):
        wanted = {"metric": metric, **place}
        return [m.value for m in measured if all(getattr(m, k) == v for k, v in wanted.items())]

    assert statistics.fmean(values("flip_step", layer="")) == found.flips
    assert statistics.median(values("seconds.train")) == found.seconds
    assert found.selected == {
        mode: values("accuracy", split="validation", mode=mode, epoch=2)[0]
        for mode in ("binary", "real")
    }
    assert found.test == {"accuracy": {"binary": values("accuracy", split="test")[0]}}
    assert found.bits == {"weight_bits": {"binary": 1.0}, "activation_bits": {"": 32.0}}
    assert {} == store.outcomes("s", FAILED)


def test_what_is_measured_after_the_end_counts(store, tiny):
    """A metric that is added to a finished run is there, in its series and in its outcome."""
    entry = started(store, tiny)
    store.write(entry.run_id, [Measurement("loss", 0.5, 1, "train")])
    store.end_run(entry.run_id, DONE)

    store.write(entry.run_id, [Measurement("mean_iou", 40.0, 1, "test", "binary")])

    assert {"mean_iou": {"binary": 40.0}} == store.outcomes("s", DONE)[entry.run_id].test
    assert [40.0] == [m.value for m in store.measured("s", ["mean_iou"])]


def test_series_of_a_role_and_a_state(store, tiny):
    """Only the runs that are asked for are read."""
    store.create_study("s", tiny, "cmd", "0")
    places = [(CONFIRM, 1, DONE), (CONFIRM, 2, FAILED), (TUNE, 0, DONE)]
    ids = {}
    for role, number, state in places:
        run = replace(RUN, seed=number)
        ids[role, state] = store.enter("s", "t", "real", role, number, run).run_id
        store.write(ids[role, state], [Measurement("loss", 0.5, 1)])
        store.end_run(ids[role, state], state)

    def read(**wanted):
        return {series.run_id for series in store.series("s", ["loss"], **wanted)}

    assert set(ids.values()) == read()
    assert {ids[CONFIRM, DONE], ids[CONFIRM, FAILED]} == read(role=CONFIRM)
    assert {ids[CONFIRM, DONE]} == read(role=CONFIRM, state=DONE)
    assert set() == read(split="train")


@pytest.mark.parametrize("collecting", [True, False])
def test_reading_leaves_the_garbage_collector_as_it_was(store, tiny, monkeypatch, collecting):
    """While much is read nothing is collected; afterwards all is as before, after a failure too."""
    started(store, tiny)
    seen = []

    def fails(row):
        seen.append(gc.isenabled())
        raise RuntimeError

    monkeypatch.setattr("bnnbench.ledger.entry_of", fails)
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(RuntimeError):
            store.entries("s")
        seen.append(gc.isenabled())
    finally:
        gc.enable()

    assert [False, collecting] == seen


def test_failed_binding_leaves_the_run_under_way(store, tiny, monkeypatch):
    """The end of a run and its series are one transaction."""
    entry = started(store, tiny)
    store.write(entry.run_id, [Measurement("loss", 0.5, 1)])

    def dies(found):
        raise RuntimeError("the machine died")

    monkeypatch.setattr(binding, "outcome", dies)
    with pytest.raises(RuntimeError):
        store.end_run(entry.run_id, DONE)

    assert RUNNING == store.entries("s")[0].state
    with store.begin() as connection:
        assert [] == connection.execute(sa.select(schema.series)).all()


def test_the_table_reads_no_series_and_as_often_for_many_runs(store, tiny):
    """What ``study show`` asks of the database does not depend on the number of runs."""
    store.create_study("s", tiny, "cmd", "0")
    said = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *args: said.append(args[2]))

    def asked(numbers):
        for number in numbers:
            run = replace(RUN, seed=number)
            entry = store.enter("s", "t", "real", CONFIRM, number, run)
            store.start_run(entry.run_id, {"judged": "real"}, {})
            store.write(entry.run_id, [Measurement("accuracy", 90.0, 1, "test", "real")])
            store.end_run(entry.run_id, DONE)
        said.clear()
        results = Results(store, "s")
        rows, bases = results.rows(), results.bases()
        assert (len(numbers), []) == (rows[0].test.n - len(before), bases)
        before.extend(numbers)
        return list(said)

    before = []
    few, many = asked(range(1, 3)), asked(range(3, 33))

    assert few == many
    assert not [statement for statement in few if "bnnbench_series" in statement]


OLD = [
    # role, number, state: what a database of the first schema holds
    (CONFIRM, 1, DONE),
    (CONFIRM, 2, FAILED),
    (CONFIRM, 3, RUNNING),
    (CONFIRM, 4, PENDING),
    (TUNE, 0, PRUNED),
    (TUNE, 1, DIVERGED),
]


def alembic(path, verb, revision):
    """Bring a database to a revision, as Alembic does."""
    from alembic import command
    from alembic.config import Config

    engine, config = make_engine(parse_url(path)), Config()
    config.set_main_option("script_location", "bnnbench:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, verb)(config, revision)
    engine.dispose()


def old_database(path):
    """A database of the first schema with a run of every state, filled without any of our code."""
    alembic(path, "upgrade", "0001")
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO bnnbench_studies VALUES (1, 's', ?, 'cmd', '0', 0, '')", (SPEC,)
        )
        for number, (role, seed, state) in enumerate(OLD, start=1):
            run = (number, f"key{number}", replace(RUN, seed=number).to_json(), state)
            connection.execute(
                "INSERT INTO bnnbench_runs VALUES (?, ?, ?, ?, '{}', '', 0, NULL, 1, 2)", run
            )
            place = (number, role, seed, number)
            connection.execute(
                "INSERT INTO bnnbench_entries VALUES (?, 1, 't', 'real', ?, ?, ?)", place
            )
            rows = [
                (number, m.metric, m.epoch, m.split, m.mode, m.layer, m.phase, m.value)
                for each in epochs_of(number)
                for m in each
            ]
            insert = "INSERT INTO bnnbench_measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            connection.executemany(insert, rows)  # SQLite makes NULL of what is no number
    connection.close()


SPEC = (
    '{"title": "old", "tasks": [{"dataset": "digits", "architecture": "mlp", "epochs": 6}],'
    ' "methods": [{"method": "real"}]}'
)


def test_old_database_is_brought_up_to_date(tmp_path, store, tiny):
    """Every run of a first schema reads as it was; those that ended are as if written today."""
    path = str(tmp_path / "old.db")
    old_database(path)

    migrated = Store(path)

    store.create_study("s", tiny, "cmd", "0")
    for number, (role, seed, state) in enumerate(OLD, start=1):
        entry = store.enter("s", "t", "real", role, seed, replace(RUN, seed=number))
        store.start_run(entry.run_id, {}, {})
        for measured in epochs_of(number):
            store.write(entry.run_id, measured)
        store.end_run(entry.run_id, state)
    for table, rows in ((schema.measurements, 2 * 47), (schema.series, 4 * 13)):
        with store.begin() as ours, migrated.begin() as theirs:
            wanted, found = (each.execute(sa.select(table)).all() for each in (ours, theirs))
        assert sorted(map(repr, wanted)) == sorted(map(repr, found))
        assert rows == len(found)
    for _, _, state in OLD:
        wanted = store.outcomes("s", state)
        assert wanted == migrated.outcomes("s", state)
        assert (state in ENDED) == bool(wanted)
    migrated.engine.dispose()


def test_new_database_can_go_back(tmp_path):
    """What an older bnnbench would read is all there again."""
    path = str(tmp_path / "old.db")
    old_database(path)
    query = "SELECT * FROM bnnbench_measurements ORDER BY 1, 2, 3, 4, 5, 6"
    with sqlite3.connect(path) as connection:
        before = connection.execute(query).fetchall()
    connection.close()
    Store(path).engine.dispose()

    alembic(path, "downgrade", "0001")

    with sqlite3.connect(path) as connection:
        assert before == connection.execute(query).fetchall()
        assert 6 * 47 == len(before)
    connection.close()
    Store(path).engine.dispose()  # and forth

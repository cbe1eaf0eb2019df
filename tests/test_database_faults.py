"""Databases that are full, locked or away; and passwords, which nothing ever tells."""

from __future__ import annotations

import shlex
import sqlite3
import sys
import threading
import time
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from bnnbench import outages, trainer
from bnnbench.cli import main
from bnnbench.cli.options import again
from bnnbench.consistency import look
from bnnbench.database import make_engine, parse_url, server_settings
from bnnbench.entries import CONFIRM
from bnnbench.errors import StoreError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.measurements import Measurement
from bnnbench.passwords import masked, masked_url, scrubbed, shown
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench.store import Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

from .conftest import TINY
from .small_study import fill
from .test_store import old_database
from .test_tuning import SILENT, fingerprint, optuna_trials

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.1}), seed=1, epochs=2, batch_size=3)
METHODS = ("entries", "write", "start_run", "end_run", "enter", "log", "studies", "create_study")


@pytest.fixture(scope="module")
def workbench():
    return Workbench(load_plugins(), "cpu", 1)


def pages(store):
    with store.engine.connect() as connection:
        return connection.execute(sa.text("PRAGMA page_count")).scalar()


def results(store):
    places = sorted((e.role, e.method, e.number, e.state) for e in store.entries("s"))
    return places, fingerprint(store, "s"), optuna_trials(store, "s")


@pytest.fixture(scope="module")
def undisturbed(workbench, tmp_path_factory):
    """What the tiny study gives on a disk with room."""
    calm = Store(str(tmp_path_factory.mktemp("calm") / "x.db"))
    calm.create_study("s", parse_study(tomllib.loads(TINY), "tiny.toml"), "cmd", "0")
    StudyRunner(calm, "s", workbench, SILENT).run()
    yield results(calm)
    calm.engine.dispose()


@pytest.mark.parametrize("spare", [2, 5, 8])
def test_full_disk_in_mid_study_loses_nothing(
    store, tiny, workbench, undisturbed, monkeypatch, spare
):
    """SQLite says in one line that the disk is full; with room again the study ends as ever."""
    monkeypatch.setattr(trainer.Notebook, "LATE", 0.0)
    store.create_study("s", tiny, "cmd", "0")
    run_on_a_full_disk(store, workbench, spare)

    StudyRunner(store, "s", workbench, SILENT).run()

    assert undisturbed == results(store)
    assert [] == look(store, workbench.checkpoints).faults


def run_on_a_full_disk(store, workbench, spare):
    """Run the study while its file may grow by so many pages only."""
    from bnnbench.search import optuna_storage

    engines = [store.engine, optuna_storage(store).engine]
    limits = [pages(store) + spare]

    def limit(connection, *_):
        connection.execute(f"PRAGMA max_page_count={limits[-1]}")

    for engine in engines:
        engine.dispose()
        sa.event.listen(engine, "connect", limit)
    with pytest.raises(Exception, match="database or disk is full") as error:
        StudyRunner(store, "s", workbench, SILENT).run()
    if isinstance(error.value, StoreError):
        assert "\n" not in str(error.value)
    limits.append(1_000_000)
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize("writes", [5, 40])
def test_database_that_becomes_read_only_loses_nothing(
    store, tiny, workbench, undisturbed, monkeypatch, writes
):
    """SQLite says so in one line; once it may be written again the study ends as ever."""
    from bnnbench.search import optuna_storage

    monkeypatch.setattr(trainer.Notebook, "LATE", 0.0)
    # what this process could not give back is its own, and it lives on: its lease must run out
    monkeypatch.setenv("BNNBENCH_LEASE_SECONDS", "3")
    store.create_study("s", tiny, "cmd", "0")
    engines, seen = [store.engine, optuna_storage(store).engine], []

    def refuse(connection, cursor, statement, *_):
        seen.append(statement)
        if sum(each.startswith(("INSERT", "UPDATE")) for each in seen) >= writes:
            connection.connection.execute("PRAGMA query_only=1")

    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", refuse)
    with pytest.raises(Exception, match="attempt to write a readonly database") as error:
        StudyRunner(store, "s", workbench, SILENT).run()
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", refuse)
        engine.dispose()
    if isinstance(error.value, StoreError):
        assert "\n" not in str(error.value)

    StudyRunner(store, "s", workbench, SILENT).run()

    assert undisturbed == results(store)
    assert [] == look(store, workbench.checkpoints).faults


def test_lock_is_waited_for(store, tiny):
    """While another process writes, a transaction waits its turn."""
    store.create_study("s", tiny, "cmd", "0")
    entry = store.enter("s", "t", "real", CONFIRM, 1, RUN)
    other = sqlite3.connect(str(store.url.database), check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(1.0, lambda: other.execute("COMMIT"))
    release.start()
    begun = time.monotonic()

    store.write(entry.run_id, [Measurement("loss", 0.5, 1, "train")])

    assert 0.8 < time.monotonic() - begun < 60
    assert [0.5] == [m.value for m in store.measured("s", ["loss"])]
    release.join()
    other.close()


def test_lock_that_never_ends_is_one_line(store, tiny):
    """After the busy timeout: an error, and nothing of the transaction."""
    store.create_study("s", tiny, "cmd", "0")
    store.engine.dispose()
    sa.event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout=50"))
    other = sqlite3.connect(str(store.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError, match=r"cannot be used: database is locked$"):
        store.log("s", "kind", "text")

    other.execute("ROLLBACK")
    other.close()
    assert [] == store.events("s")


# what is tried again, and what is not


def lost(where="SELECT 1"):
    """What SQLAlchemy makes of a connection that psycopg has lost."""
    psycopg = pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    gone = psycopg.OperationalError("server closed the connection unexpectedly")
    return sa.exc.OperationalError(where, {}, gone, connection_invalidated=bool(where))


def store_error(cause):
    made = StoreError("the database x cannot be used: gone")
    made.__cause__ = cause
    return made


class Failing:
    """Fails so often, then answers."""

    def __init__(self, *errors):
        self.errors, self.asked = list(errors), 0

    def __call__(self):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def quick(monkeypatch):
    """No time is spent: the pauses are noted."""
    clock = SimpleNamespace(now=100.0, pauses=[])

    def sleep(seconds):
        clock.pauses.append(seconds)
        clock.now += seconds

    fake = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep, strftime=time.strftime)
    monkeypatch.setattr(outages, "time", fake)
    return clock


@pytest.mark.parametrize("where", ["SELECT 1", None])
@pytest.mark.parametrize("wrap", [store_error, lambda cause: cause])
def test_outage_is_waited_out(quick, where, wrap):
    """Lost in a statement or not to be had at all: again, with growing pauses and one warning."""
    attempt = Failing(*(wrap(lost(where)) for _ in range(5)))

    with pytest.warns(UserWarning, match="the database here does not answer at ") as said:
        assert "answer" == outages.persevere(attempt, "here")

    assert 6 == attempt.asked
    assert [0.1, 0.2, 0.4, 0.8, 1.6] == pytest.approx(quick.pauses)
    assert 1 == len(said)


def test_patience_is_two_minutes(quick):
    """The pauses add up to 120 s, none is longer than 5, and the end is no outage to others."""
    attempt = Failing(*(store_error(lost()) for _ in range(999)))

    with (
        pytest.warns(UserWarning, match="tried again for 120 s"),
        pytest.raises(outages.AwayError) as error,
    ):
        outages.persevere(lambda: outages.persevere(attempt, "here"), "here")

    assert 120 == pytest.approx(sum(quick.pauses))
    assert 5 == max(quick.pauses)
    assert not outages.is_outage(error.value)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no"),
        RuntimeError("no"),
        StoreError("no"),
        sa.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("no"), False, True),
        sa.exc.OperationalError(None, {}, sqlite3.OperationalError("unable to open")),
        sa.exc.ProgrammingError("SELECT 1", {}, sqlite3.ProgrammingError("no")),
    ],
)
def test_other_errors_come_at_once(quick, error):
    """What waiting does not help is not waited for."""
    attempt = Failing(error)

    with pytest.raises(type(error)):
        outages.persevere(attempt, "here")

    assert (1, []) == (attempt.asked, quick.pauses)


def test_statement_that_the_server_refuses_is_not_repeated(quick):
    """An error of a connection that still stands is the statement's."""
    psycopg = pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    full = sa.exc.OperationalError("INSERT", {}, psycopg.errors.DiskFull("no space"))

    with pytest.raises(sa.exc.OperationalError):
        outages.persevere(Failing(full), "here")

    assert [] == quick.pauses


def test_rivals_are_tried_again_five_times(quick):
    """A row that another process was quicker to write: again at once, and not for ever."""
    twice = sa.exc.IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE"))
    few, many = Failing(*[store_error(twice)] * 5), Failing(*[store_error(twice)] * 6)

    assert "answer" == outages.persevere(few, "here")
    with pytest.raises(StoreError):
        outages.persevere(many, "here")

    assert [] == quick.pauses


def test_methods_of_a_store_are_tried_again(store, quick):
    """Also one that was given a generator, which can be gone through only once."""
    fill(store)
    keys = [entry.run.key for entry in store.entries("s")]
    failing = Failing(lost(), lost())
    sa.event.listen(store.engine, "commit", lambda connection: failing())

    with pytest.warns(UserWarning, match="does not answer"):
        found = store.states(key for key in keys)

    assert set(keys) == set(found)
    assert 3 == failing.asked
    for name in METHODS:
        assert hasattr(getattr(Store, name), "__wrapped__"), name


def test_server_that_is_away_at_the_beginning(store, quick, monkeypatch):
    """A transaction that is no method's waits for its connection, too."""
    plain, failing = store.engine.connect, Failing(lost(None), lost(None))

    def connect():
        failing()
        return plain()

    monkeypatch.setattr(store.engine, "connect", connect)
    with pytest.warns(UserWarning, match="does not answer"), store.begin() as connection:
        assert 1 == connection.execute(sa.text("SELECT 1")).scalar()

    assert 3 == failing.asked


def test_method_is_repeated_whole(store, tiny, quick):
    """What is lost in a transaction is done again from the method's beginning."""
    store.create_study("s", tiny, "cmd", "0")
    entry = store.enter("s", "t", "real", CONFIRM, 1, RUN)
    failures = [lost(), lost()]

    @sa.event.listens_for(store.engine, "commit")
    def on_commit(connection):
        if failures:
            raise failures.pop()

    with pytest.warns(UserWarning, match="does not answer"):
        store.write(entry.run_id, [Measurement("loss", 0.5, 1, "train")])

    assert not failures
    assert [0.5] == [m.value for m in store.measured("s", ["loss"])]


def test_dead_servers_are_noticed():
    """A connection is looked at before use, and a silent server is given up within minutes."""
    settings = server_settings(parse_url("postgresql://h/d?connect_timeout=3"))

    assert settings["pool_pre_ping"]
    assert "connect_timeout" not in settings["connect_args"]
    assert "10" == server_settings(parse_url("postgresql://h/d"))["connect_args"]["connect_timeout"]
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    assert make_engine(parse_url("postgresql://h/d")).pool._pre_ping


# passwords

SECRET = "hidden7"
URLS = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:{SECRET}@127.0.0.1:1/x?sslmode=disable",
    f"postgres://me:{SECRET}@127.0.0.1:1/x",
    f"postgresql+psycopg://me:%68idden7{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:{SECRET}",
    f"postgresql://me:{SECRET}@",
    f"postgresql://me:{SECRET}@127.0.0.1:port/x",
    f"postgresql://me:{SECRET}@127.0.0.1:99999999/x",
    f"postgresql://me:a@{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a/{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a?{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a#{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a:{SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a {SECRET}@127.0.0.1:1/x",
    f"postgresql://me:a'{SECRET} b@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/x?user=me&password={SECRET}",
    f"postgresql://127.0.0.1:1/x?user=me&PassWord={SECRET}",
    f"postgresql://127.0.0.1:1/x?user=me&pass%77ord={SECRET}",
    f"postgresql://127.0.0.1:1/x?sslpassword={SECRET}&sslmode=require",
    f"postgresql://me:{SECRET}@127.0.0.1:1/x?nonsense=1",
    f"mysql://me:{SECRET}@127.0.0.1/x",
    f"oracle://me:{SECRET}@127.0.0.1/x",
    f"nonsense://me:{SECRET}@127.0.0.1/x",
    f"://me:{SECRET}@127.0.0.1/x",
    f"host=127.0.0.1 user=me password={SECRET}",
    f"host=127.0.0.1 user=me password='{SECRET} b'",
    f"sqlite:///no/such/folder/x.db?password={SECRET}",
]
COMMANDS = [
    "study list",
    "study show s",
    "study create s --from tiny.toml",
    "db check",
    "db backup",
    "db upgrade",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    Path("tiny.toml").write_text(TINY)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("url", URLS)
def test_no_error_tells_a_password(url, capsys, monkeypatch):
    """Whatever is wrong with the URL or the server: one line, without the password."""
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    lines = ["study list", "db backup"]
    if url in (URLS[0], URLS[4], URLS[-3]):
        lines = COMMANDS
    for line in lines:
        words = [*shlex.split(line), "--storage", url]
        monkeypatch.setattr(sys, "argv", ["bnnbench", *words])
        code = main(words)

        said = capsys.readouterr()
        assert code in (2, 4), said
        assert 1 == len(said.err.splitlines())
        assert SECRET not in said.err + said.out
        assert "Traceback" not in said.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("url", [u for u in URLS if u.startswith("postgres")])
def test_no_exception_tells_a_password(url):
    """Nor does what a program sees that uses a Store: the text of the exception and its causes."""
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    with pytest.raises(StoreError) as error:
        Store(url)

    assert SECRET not in str(error.value)


@given(
    password=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1),
    query=st.booleans(),
)
def test_any_password_is_masked(password, query):
    """A URL as SQLAlchemy writes it, with any password: what is shown has stars in its place."""
    url = sa.URL.create("postgresql", "me", password, "host", 5, "db", {"sslmode": "require"})
    stars = "postgresql://me:***@host:5/db?sslmode=require"
    if query:
        url = sa.URL.create("postgresql", "me", None, "host", 5, "db", {"password": password})
        stars = "postgresql://me@host:5/db?password=***"

    assert stars == masked_url(url.render_as_string(hide_password=False))
    assert shown(url).replace("%2A", "*") == stars


@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\"'"), min_size=1))
def test_any_password_is_masked_in_a_command(password):
    """Also in a command line as a shell would have it, quoted, with characters no URL may have."""
    raw = f"postgresql://me:{password}@host:5/db"
    line = shlex.join(["bnnbench", "study", "run", "s", "--storage", raw, "--seeds", "3"])

    assert shlex.split(masked(line)) == [
        *("bnnbench", "study", "run", "s", "--storage"),
        *("postgresql://me:***@host:5/db", "--seeds", "3"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "bnnbench study run s --storage sqlite:///runs/bnnbench.db --seeds 3",
        "postgresql://host:5432/db?host=/tmp/x&sslmode=require",
        "postgresql://me@host:5432,other:5433/db",
        "it's at https://example.org:8080/a?b=c, isn't it",
        "a/path/to:here.db",
        "--param lr=0.1 --method sign+bop",
        "postgresql://[::1]:5432/db",
    ],
)
def test_what_is_no_password_is_left_alone(text):
    """Ports, paths, options and ordinary words stay as they are."""
    assert text == masked(text)


@pytest.mark.parametrize("name", ["password", "PassWord", "pass%77ord", "sslpassword"])
def test_option_is_masked_however_it_is_written(name):
    """The name of an option may be in capitals or escaped; the next option stays."""
    url = f"postgresql://h/d?user=me&{name}=hidden7&sslmode=require"

    assert f"postgresql://h/d?user=me&{name}=***&sslmode=require" == masked(url)


def test_what_a_driver_says_is_scrubbed():
    """A password anywhere in a driver's message, as it is or as a URL has it."""
    url = parse_url("postgresql://me:se%40cret%2F@h/d?sslpassword=other")

    assert 'bad "***", "***" or ***' == scrubbed('bad "se@cret/", "se%40cret%2F" or other', url)
    assert "another" == scrubbed("another", url)


def test_a_command_that_is_repeated_has_no_password(monkeypatch):
    """The hint after a command, and the one that a study is said to be made by."""
    from bnnbench.cli import study

    raw = f"postgresql://me:a b{SECRET}@h/d"
    monkeypatch.setattr(sys, "argv", ["bnnbench", "study", "create", "s", "--storage", raw])

    assert " --storage 'postgresql://me:***@h/d'" == again(raw)
    assert SECRET not in study._command()


@pytest.mark.usefixtures("here")
def test_neither_rows_nor_reports_have_a_password(tmp_path, monkeypatch, capsys):
    """A study made and reported with a password in its environment and its command line."""
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("BNNBENCH_STORAGE", f"postgresql://me:{SECRET}@127.0.0.1:1/x")
    beside = "--from tiny.toml --storage x.db --trials 0 --seeds 1"
    for line in (
        f"study create s {beside}",
        "study run s --storage x.db",
        "db check --storage x.db",
    ):
        words = shlex.split(line)
        argv = ["bnnbench", *words, f"--x=postgresql://me:{SECRET}@h/d"]
        monkeypatch.setattr(sys, "argv", argv)
        assert 0 == main(words), capsys.readouterr().err
    assert 0 == main(["report", "s", "--storage", "x.db", "-o", "out.html"])
    assert 0 == main(["study", "export", "s", "--storage", "x.db", "-o", "out"])

    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    with sqlite3.connect("x.db") as connection:
        (command,) = connection.execute("SELECT command FROM bnnbench_studies").fetchone()
    connection.close()
    assert command.endswith("--x=postgresql://me:***@h/d")


def test_warning_of_an_outage_has_no_password(quick):
    """The place that it names is the URL as it may be shown."""
    place = shown(parse_url(URLS[0]))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        outages.persevere(Failing(lost()), place)

    assert "postgresql+psycopg://me:***@127.0.0.1:1/x" in str(said[0].message)


def test_upgrade_of_an_old_database_needs_room(tmp_path):
    """Where an upgrade does not fit on the disk, the tables stay as they were, and so do copies."""
    path = str(tmp_path / "old.db")
    old_database(path)
    connection = sqlite3.connect(path)
    before = list(connection.iterdump())
    connection.close()
    plain = sqlite3.connect

    def small(*values, **named):
        made = plain(*values, **named)
        made.execute("PRAGMA max_page_count=26")
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3.dbapi2, "connect", small)
        with pytest.raises(StoreError, match="full"):
            Store(path)

    connection = plain(path)
    assert before == list(connection.iterdump())
    connection.close()

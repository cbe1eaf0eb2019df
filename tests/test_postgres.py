"""PostgreSQL: the same code, many processes at once, and a server that goes away and comes back."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from bnnbench import outages, schema
from bnnbench.cli import main
from bnnbench.errors import StoreError
from bnnbench.experiments import Workbench
from bnnbench.holding import MOST_ON_SQLITE, shared, workers
from bnnbench.measurements import Measurement
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench.search import optuna_storage
from bnnbench.store import CONFIRM, DONE, Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

from .calm import contents
from .conftest import TINY
from .postgres import ENCODED, PASSWORD, postgres
from .test_kill import bnnbench, finish, make
from .test_tuning import SILENT, fingerprint, optuna_trials
from .test_workers import wait_for

__all__ = ["postgres"]
AWAY = float(os.environ.get("BNNBENCH_AWAY", "6"))  #: seconds; ``tox -e chaos`` waits longer

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.1}), seed=1, epochs=2, batch_size=3)


@pytest.fixture
def url(postgres, tmp_path, monkeypatch):
    """The URL of a new database, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    made = postgres.database()
    monkeypatch.setenv("BNNBENCH_STORAGE", made)
    return made


@pytest.fixture
def store(url):
    made = Store(url)
    yield made
    made.engine.dispose()


def study():
    return parse_study(tomllib.loads(TINY), "tiny.toml")


def of_optuna(store, query):
    with store.begin() as connection:
        return connection.execute(sa.text(query)).all()


def test_life_of_a_study(url, tmp_path, monkeypatch, capsys):
    """Created, run, shown, checked, reported, exported and deleted, the password never told."""
    Path("tiny.toml").write_text(TINY)
    out = Path("out")
    for line in (
        f"study create s --from tiny.toml --storage {shlex.quote(url)}",
        "study run s --threads 1",
        "study list",
        "study show s",
        "study show s --events",
        "db upgrade",
        "db check",
        "report s -o report.html",
        f"study export s -o {out}",
    ):
        words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", ["bnnbench", *words])
        assert 0 == main(words), (line, capsys.readouterr().err)
    assert 2 == main(["db", "backup"])
    store = Store(url)
    everything = [of_optuna(store, f"SELECT * FROM {name}") for name in schema.metadata.tables]
    assert 8 == len(store.entries("s"))
    assert 4 == len(of_optuna(store, "SELECT * FROM trials"))
    assert 0 == main(["study", "delete", "s", "--yes"])
    for name in ("trials", "studies", *schema.metadata.tables):
        left = {schema.VERSION_TABLE, "bnnbench_environments"}
        assert name in left or [] == of_optuna(store, f"SELECT * FROM {name}"), name
    store.engine.dispose()

    said = capsys.readouterr()
    assert "consistent: studies 1, runs 8, Optuna's trials 4" in said.out
    files = [path.read_bytes().decode() for path in tmp_path.rglob("*") if path.suffix in TEXTS]
    assert files
    for text in (said.out, said.err, repr(everything), *files):
        assert PASSWORD not in text
        assert ENCODED not in text


TEXTS = (".html", ".json", ".csv", ".md", ".toml")


def test_more_workers_than_sqlite_has(store):
    """A study has any number of them."""
    store.create_study("s", study(), "cmd", "0")
    with ExitStack() as working:
        for _ in range(MOST_ON_SQLITE + 1):
            working.enter_context(shared(store, "s"))
        working.enter_context(shared(store, "s", places=100))

        assert MOST_ON_SQLITE + 2 == len(workers(store, "s"))


def test_it_gives_what_sqlite_gives(store, tmp_path):
    """The same study has the same runs, numbers and trials in both, bit for bit."""
    other = Store(str(tmp_path / "other.db"))
    found = []
    for each in (store, other):
        each.create_study("s", study(), "cmd", "0")
        StudyRunner(each, "s", Workbench(load_plugins()), SILENT).run()
        places = [(e.method, e.role, e.number, e.run.key, e.state) for e in each.entries("s")]
        found.append((sorted(places), fingerprint(each, "s"), optuna_trials(each, "s")))
    other.engine.dispose()

    assert found[0] == found[1]


#: what each of the processes does; all open a database that has no tables yet
PROCESS = """
import sys
from bnnbench.errors import BnnbenchError, UsageError
from bnnbench.leases import Leases
from bnnbench.measurements import Measurement
from bnnbench.runs import Part, Run
from bnnbench.search import optuna_storage
from bnnbench.store import CONFIRM, DONE, Store
from bnnbench.studies import Study

url, me = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
store = Store(url)
storage = optuna_storage(store)
try:
    store.create_study("s", Study.model_validate_json(sys.stdin.readline()), "cmd", "0")
    print("created")
except UsageError:
    pass
leases = Leases(store)
for number in range(12):
    run = Run(Part("d"), Part("a"), Part("l"), Part("m"), number, 1, 10)
    entry = store.enter("s", "t", "real", CONFIRM, number, run)
    if leases.take(f"run {run.key}") is None:
        continue
    store.start_run(entry.run_id, {"judged": "real"}, {"cores": 2})
    store.write(entry.run_id, [Measurement("loss", number, 1, "train")])
    store.end_run(entry.run_id, DONE)
    print("trained", number)
import optuna
study = optuna.create_study(storage=storage, study_name="s/t/real", load_if_exists=True)
for _ in range(4):
    study.tell(study.ask(), me)
"""


def processes(url, count):
    """Start so many at once, and return all they print."""
    said = [sys.executable, "-W", "error::UserWarning", "-c", PROCESS, url]
    started = [
        subprocess.Popen(
            [*said, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    for each in started:
        assert "ready\n" == each.stdout.readline()
    outputs = [b""] * count

    def finish(number):
        given = f"\n{study().model_dump_json()}\n"
        outputs[number] = started[number].communicate(given, timeout=240)[0]

    threads = [threading.Thread(target=finish, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [0] * count == [each.returncode for each in started]
    return "".join(outputs).splitlines()


@pytest.mark.slow
def test_eight_processes_lose_and_double_nothing(url):
    """All make the tables, one makes the study, each run is trained by one, each trial is there."""
    said = processes(url, 8)

    assert 1 == said.count("created")
    assert [f"trained {n}" for n in range(12)] == sorted(
        (line for line in said if line != "created"), key=lambda line: int(line.split()[1])
    )
    store = Store(url)
    assert [(n, DONE) for n in range(12)] == sorted((e.number, e.state) for e in store.entries("s"))
    assert {float(n) for n in range(12)} == {m.value for m in store.measured("s", ["loss"])}
    numbers = [number for ((number),) in of_optuna(store, "SELECT number FROM trials")]
    assert list(range(32)) == sorted(numbers)
    store.engine.dispose()


def away(server, seconds, mode="fast"):
    """Stop the server, and let it come back after a while."""
    server.stop(mode)
    back = threading.Timer(seconds, server.start)
    back.start()
    return back


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "seconds"), [("fast", 6), ("immediate", 2)])
def test_server_that_goes_away_in_mid_study(postgres, store, tmp_path, mode, seconds):
    """It is waited for, one line says so, and the study ends as if nothing had happened."""
    calm = Store(str(tmp_path / "calm.db"))
    gone, backs = [], []

    def epoch_ended(entry, measured):
        gone.append(entry)
        if len(gone) in (4, 14):
            backs.append(away(postgres, seconds if backs else 1, mode))

    found = []
    observer = type("Observer", (), {**vars(SILENT), "epoch_ended": staticmethod(epoch_ended)})
    for each, watching in ((calm, SILENT), (store, observer)):
        each.create_study("s", study(), "cmd", "0")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            StudyRunner(each, "s", Workbench(load_plugins()), watching).run()
        places = [(e.method, e.role, e.number, e.run.key, e.state) for e in each.entries("s")]
        found.append((sorted(places), fingerprint(each, "s"), optuna_trials(each, "s")))
    calm.engine.dispose()
    for back in backs:
        back.join()

    assert 2 == len(backs)
    assert found[0] == found[1]
    lines = [str(each.message) for each in said]
    assert lines
    assert all("does not answer at" in line and PASSWORD not in line for line in lines)
    assert 0 == main(["db", "check", "--storage", store.url.render_as_string(False)])


@pytest.mark.slow
def test_two_workers_in_an_outage(postgres, url, tmp_path, monkeypatch):
    """For longer than leases are patient, and nobody is passed over: every run is there, alike."""
    monkeypatch.setenv("BNNBENCH_STORAGE", str(tmp_path / "calm.db"))
    finish(bnnbench("study", "run", "s", "--threads", "1", cwd=make(tmp_path / "calm", epochs=60)))
    monkeypatch.setenv("BNNBENCH_STORAGE", url)
    monkeypatch.setenv("BNNBENCH_LEASE_SECONDS", str(AWAY / 2))
    folder = make(tmp_path / "s", epochs=60)
    crew = bnnbench("study", "run", "s", "--workers", "2", cwd=folder)
    calm, store = Store(str(tmp_path / "calm.db")), Store(url)
    wait_for(lambda: sum(e.state == "running" for e in store.entries("s")) == 2)
    wait_for(lambda: any(store.reached(e.run_id) for e in store.entries("s")))

    postgres.stop()
    time.sleep(AWAY)
    postgres.start()
    out, err = crew.communicate(timeout=400)

    assert 0 == crew.returncode, err
    assert "does not answer at" in err
    assert ("died" in out, []) == (False, store.events("s"))
    assert contents(calm) == contents(store)
    assert 0 == main(["db", "check"])
    for each in (calm, store):
        each.engine.dispose()


@pytest.mark.parametrize("kept", [True, False])
def test_lost_answer_to_a_commit(store, monkeypatch, caplog, kept):
    """Whether the server got it or not: what was written is there once."""
    store.create_study("s", study(), "cmd", "0")
    entry = store.enter("s", "t", "real", CONFIRM, 1, RUN)
    store.start_run(entry.run_id, {}, {})
    optunas = optuna_storage(store)
    import optuna

    trials = optuna.create_study(storage=optunas, study_name="s/t/real")
    lost = lose_answers(monkeypatch, kept=kept)

    store.write(entry.run_id, [Measurement("loss", 0.5, 1, "train")])
    store.log("s", "kind", "said once")
    store.end_run(entry.run_id, DONE)
    trials.tell(trials.ask(), 1.0)

    assert 3 <= len(lost)
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
    assert [0.5] == [m.value for m in store.measured("s", ["loss"])]
    assert ["said once"] == [text for _, kind, text in store.events("s") if kind == "kind"]
    assert [(0, "COMPLETE")] == [(t.number, t.state.name) for t in trials.trials]


def lose_answers(monkeypatch, *, kept):
    """Let every other COMMIT that writes be answered by the end of its connection."""
    import psycopg

    writing, lost = [], []
    plain = psycopg.Connection.commit

    def commit(self):
        with self.cursor() as cursor:
            number = cursor.execute("SELECT txid_current_if_assigned()").fetchone()[0]
        if number is None:
            return plain(self)
        writing.append(number)
        if len(writing) % 2 == 0:
            return plain(self)
        lost.append(number)
        if kept:
            plain(self)
        self.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "commit", commit)
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)
    return lost


def test_patience_ends(postgres, store, monkeypatch):
    """A server that stays away is an error of one line, not a wait for ever."""
    monkeypatch.setattr(outages, "PATIENCE", 0.5)
    postgres.stop()
    try:
        begun = time.monotonic()
        with (
            pytest.warns(UserWarning, match=r"does not answer at .*; it is tried again for 0.5 s"),
            pytest.raises(StoreError, match=r"has not answered for 0.5 s; .*same command") as error,
        ):
            store.enter("s", "t", "real", CONFIRM, 1, RUN)
        assert time.monotonic() - begun < 5
    finally:
        postgres.start()

    assert PASSWORD not in str(error.value)
    assert [] == store.studies()


def test_server_that_refuses_is_said_at_once(postgres, url, capsys):
    """A wrong password, a database that is not there, a dead socket: one line, no waiting."""
    begun = time.monotonic()
    for wrong in (
        url.replace(ENCODED, "Wr0ng%21pass"),
        url.replace("/b", "/nosuch"),
        "postgresql://bench:Wr0ng%21pass@127.0.0.1:1/x?host=/nowhere",
    ):
        assert 4 == main(["study", "list", "--storage", wrong])
        said = capsys.readouterr()
        assert 1 == said.err.count("\n")
        assert "cannot be used" in said.err
        for secret in ("Wr0ng", PASSWORD, ENCODED):
            assert secret not in said.err + said.out
    assert time.monotonic() - begun < 20


def test_old_tables_are_upgraded_once(url):
    """Processes that find the first schema together bring it up to date, one of them."""
    from alembic import command
    from alembic.config import Config

    from bnnbench.database import make_engine, parse_url

    engine, config = make_engine(parse_url(url)), Config()
    config.set_main_option("script_location", "bnnbench:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    script = "import sys; from bnnbench.store import Store; print(Store(sys.argv[1]).studies())"

    several = [
        subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    assert ["[]\n"] * 3 == [each.communicate(timeout=120)[0] for each in several]


def test_deadlock_is_tried_again(store):
    """Of two transactions that wait for each other one is undone by the server, and done again."""
    store.create_study("s", study(), "cmd", "0")
    ids = []
    for number in (1, 2):
        run = Run(Part("d"), Part("a"), Part("l"), Part("m"), number, 1, 10)
        ids.append(store.enter("s", "t", "real", CONFIRM, number, run).run_id)
    both, attempts = threading.Barrier(2, timeout=20), []

    def cross(first, second):
        def attempt():
            attempts.append(first)
            with store.begin() as connection:
                for number, run_id in enumerate((first, second)):
                    change = sa.update(schema.runs).where(schema.runs.c.id == run_id)
                    connection.execute(change.values(error=json.dumps(attempts)))
                    if not number and len(attempts) < 3:
                        both.wait()

        outages.persevere(attempt, "here")

    threads = [threading.Thread(target=cross, args=pair) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 3 == len(attempts)

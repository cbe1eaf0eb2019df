"""``bnnbench db``: upgrades keep a copy, copies are whole, and what is wrong is found and said."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bnnbench import backup, consistency, database, schema
from bnnbench.checkpoints import Checkpoints
from bnnbench.cli import main
from bnnbench.cli.options import open_store
from bnnbench.entries import TUNE
from bnnbench.errors import StoreError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.leases import Leases
from bnnbench.plugins import load_plugins
from bnnbench.search import optuna_storage
from bnnbench.store import Store

from .small_study import fill
from .test_checkpoints import weights
from .test_store import old_database
from .test_tuning import ran

#: of rows that count up two at a time, each transaction both of them
COUNTING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE pairs (number INTEGER, filler TEXT)")
print("begun", flush=True)
number = 0
while True:
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        connection.execute("INSERT INTO pairs VALUES (?, ?)", (number, "x" * 900))
    connection.execute("COMMIT")
    number += 1
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    monkeypatch.delenv("BNNBENCH_CHECKPOINTS", raising=False)


def rows(path, query):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def everything(path):
    """All rows of all tables of ours."""
    names = [n for (n,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: rows(path, f"SELECT * FROM {name} ORDER BY rowid") for name in sorted(names)}


def test_upgrade_keeps_a_copy_of_what_was_there(tmp_path, capsys):
    """Before an upgrade the database is copied as it was; the copy's name says its schema."""
    old_database("old.db")
    before = everything("old.db")

    assert 0 == main(["db", "upgrade", "--storage", "old.db"])

    out = capsys.readouterr().out
    (copy,) = tmp_path.glob("*.backup")
    assert re.fullmatch(r"old\.db\.schema-0001\.\d{8}-\d{6}\.backup", copy.name)
    assert before == everything(copy)
    assert f"it was copied to {copy.name} before" in out
    assert out.endswith(f"sqlite:///old.db has schema {schema.HEAD}, which is the newest\n")
    assert [(schema.HEAD,)] == rows("old.db", f"SELECT * FROM {schema.VERSION_TABLE}")


def test_opening_an_old_database_keeps_a_copy_too(tmp_path, capsys):
    """Any command that upgrades says on stderr where the copy is; the next one makes none."""
    old_database("old.db")

    for _ in range(2):
        open_store("old.db").engine.dispose()

    copies = list(tmp_path.glob("*.backup"))
    assert 1 == len(copies)
    assert 1 == capsys.readouterr().err.count(f"it was copied to {copies[0].name} before")


def test_new_database_needs_no_copy(tmp_path):
    """There is nothing to lose in a database that has just been made."""
    Store("new.db").engine.dispose()

    assert [] == list(tmp_path.glob("*.backup"))


def test_upgrade_is_not_begun_without_its_copy(tmp_path, monkeypatch):
    """Where the copy cannot be written, the database stays as it is."""
    old_database("old.db")
    before = everything("old.db")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "put_on_disk", full)
    with pytest.raises(StoreError, match=r"cannot be copied to .*No space left"):
        Store("old.db")

    assert before == everything("old.db")
    assert {"old.db"} == {path.name for path in tmp_path.iterdir()} - {"old.db-wal", "old.db-shm"}


def test_failed_upgrade_leaves_database_and_copy(tmp_path, monkeypatch):
    """A process that dies in the middle of an upgrade leaves the old tables, and the copy."""
    from alembic import op

    old_database("old.db")
    before = everything("old.db")

    def dies(*arguments, **options):
        raise RuntimeError("the machine died")

    with monkeypatch.context() as dying:
        dying.setattr(op, "drop_index", dies)
        with pytest.raises(RuntimeError):
            Store("old.db")

    (copy,) = tmp_path.glob("*.backup")
    assert before == everything("old.db") == everything(copy)
    Store("old.db").engine.dispose()
    assert 2 == len(list(tmp_path.glob("*.backup")))  # the second takes nobody's place


def test_many_upgrade_at_once_and_copy_once(tmp_path):
    """Of processes that open an old database together one upgrades it, after one copy."""
    old_database("old.db")
    script = "from bnnbench.store import Store; print(len(Store('old.db').entries('s')))"
    command = [sys.executable, "-c", script]

    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    assert ["6\n"] * 4 == [each.communicate(timeout=120)[0] for each in several]
    assert 1 == len(list(tmp_path.glob("*.backup")))


def test_long_upgrade_says_how_far_it_is(monkeypatch):
    """An upgrade tells how many runs it has bound, and a copy how many pages."""
    monkeypatch.setattr(backup, "EVERY", 0.0)
    monkeypatch.setattr(backup, "PAGES", 5)
    old_database("old.db")
    told = []

    Store("old.db", told=told.append).engine.dispose()

    assert "upgrading the database from schema 0001 to " + schema.HEAD == told[0]
    assert "runs bound: 3 of 4" in told
    assert [line for line in told if re.fullmatch(r"pages copied: 10 of \d+", line)]


def test_copy_is_of_one_moment_while_others_write(tmp_path, monkeypatch):
    """Every transaction is in the copy whole or not at all, and writers do not wait for it."""
    writer = subprocess.Popen(
        [sys.executable, "-c", COUNTING, "busy.db"], stdout=subprocess.PIPE, text=True
    )
    try:
        writer.stdout.readline()
        time.sleep(0.3)
        monkeypatch.setattr(backup, "PAGES", 10)
        monkeypatch.setattr(backup.Progress, "__call__", lambda *_: time.sleep(0.001))
        counts = []
        for number in range(3):
            counted = rows("busy.db", "SELECT COUNT(*) FROM pairs")
            copy = backup.copy(tmp_path / "busy.db", tmp_path / f"copy{number}")
            counts += [counted, rows(copy, "SELECT COUNT(*) FROM pairs")]
    finally:
        writer.kill()
        writer.communicate()

    assert sorted(counts) == counts
    assert counts[0] < counts[-1]
    for number in range(3):
        odd = "SELECT number FROM pairs GROUP BY number HAVING COUNT(*) != 2"
        assert [] == rows(f"copy{number}", odd)
        assert [("ok",)] == rows(f"copy{number}", "PRAGMA integrity_check")


def test_backup_is_a_database_like_the_other(store, tmp_path, capsys):
    """What is read from the copy is what is read from the database; its name has the time."""
    fill(store)

    assert 0 == main(["db", "backup", "--storage", str(store.url.database)])

    (copy,) = tmp_path.glob("*.backup")
    assert re.fullmatch(r"bnnbench\.db\.\d{8}-\d{6}\.backup", copy.name)
    assert str(copy) in capsys.readouterr().out
    again = Store(str(copy), create=False)
    assert store.entries("s") == again.entries("s")
    assert store.series("s", ["loss"]) == again.series("s", ["loss"])
    again.engine.dispose()


def test_copy_takes_nobodys_place(store, tmp_path, capsys, monkeypatch):
    """A file that is there stays; two copies of one second have two names."""
    (tmp_path / "mine").write_text("mine")

    assert 2 == main(["db", "backup", "-o", "mine"])
    assert 2 == main(["db", "backup", "-o", "no/such/folder"])
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    for _ in range(3):
        assert 0 == main(["db", "backup"])

    assert "mine" == (tmp_path / "mine").read_text()
    assert "a copy takes nobody's place, but mine exists" in capsys.readouterr().err
    names = {path.name for path in tmp_path.glob("*.backup")}
    assert {f"bnnbench.db.20260101-000000{n}.backup" for n in ("", "-2", "-3")} == names


def test_copy_that_another_is_quicker_with(store, tmp_path, monkeypatch):
    """A file that appears under the name while the copy is made stays, too."""
    target = tmp_path / "copy"
    monkeypatch.setattr(backup, "put_on_disk", lambda path: target.write_text("theirs"))

    with pytest.raises(UsageError, match="nobody's place"):
        backup.copy(tmp_path / "bnnbench.db", target)

    assert "theirs" == target.read_text()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("where", ["_copy", "put_on_disk", "_name"])
def test_broken_copy_leaves_nothing(store, tmp_path, monkeypatch, where):
    """A disk that is full at any step is one line, and no half copy."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, where, full)
    with pytest.raises(StoreError, match=r"cannot be copied to .*No space left on device"):
        backup.copy(tmp_path / "bnnbench.db", tmp_path / "copy")

    left = {path.name for path in tmp_path.iterdir()}
    assert {"bnnbench.db"} == left - {"bnnbench.db-wal", "bnnbench.db-shm"}


def test_damaged_database_gives_no_copy(store, tmp_path):
    """A copy is looked through before it gets its name."""
    fill(store)
    store.engine.dispose()
    damage(tmp_path / "bnnbench.db")

    with pytest.raises(StoreError, match="cannot be copied"):
        backup.copy(tmp_path / "bnnbench.db", tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def damage(path):
    """Overwrite the middle of a database's tables."""
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096 - 1):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))


def test_backup_of_a_server_is_its_own(capsys):
    """For PostgreSQL the command says what does it, without the password."""
    assert 2 == main(
        ["db", "backup", "--storage", "postgresql://me:hidden@host:7/runs?sslmode=require"]
    )

    err = capsys.readouterr().err
    assert "pg_dump --format=custom" in err
    assert "'postgresql://me@host:7/runs?sslmode=require'" in err
    assert "hidden" not in err


# what `db check` finds, each in a study that was really run


@pytest.fixture(scope="module")
def study_that_ran(tmp_path_factory):
    """A folder with a tuned study's database."""
    import tomllib

    from bnnbench.studyfile import parse_study

    from .conftest import TINY

    folder = tmp_path_factory.mktemp("ran")
    store = Store(str(folder / "bnnbench.db"))
    kept = Checkpoints(folder / "bnnbench.db.checkpoints")
    kept.folder.mkdir()
    workbench = Workbench(load_plugins(), checkpoints=kept)
    ran(store, parse_study(tomllib.loads(TINY), "tiny.toml"), workbench)
    store.engine.dispose()
    return folder


@pytest.fixture
def sound(study_that_ran, tmp_path):
    """A copy of it, here."""
    backup.copy(study_that_ran / "bnnbench.db", tmp_path / "bnnbench.db")
    (tmp_path / "bnnbench.db.checkpoints").mkdir()
    store = Store("bnnbench.db", create=False)
    yield store
    store.engine.dispose()


def faults(store):
    kept = Checkpoints(database.checkpoint_folder(store.url))
    return consistency.look(store, kept).faults


def test_sound_study_is_consistent(sound, capsys):
    """All runs, all trials: nothing to say but how many they are, and exit code 0."""
    assert 0 == main(["db", "check"])

    assert (
        "consistent: studies 1, runs 8, Optuna's trials 4, checkpoints 0\n"
        == capsys.readouterr().out
    )


BROKEN = {
    "UPDATE trials SET state = 'FAIL' WHERE trial_id = 1": "trial 0 is done, Optuna's is FAIL",
    "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1": "is done, Optuna's is RUNNING",
    "UPDATE trials SET number = 0 WHERE number = 1": "Optuna has 2 trials of number 0",
    "DELETE FROM trials WHERE trial_id = 1": "refers to a row of trials that is not there",
    "UPDATE trials SET study_id = 2 WHERE trial_id = 1": "is done, Optuna's is missing",
    "UPDATE trial_values SET value = value + 1e-12 WHERE trial_id = 1": "Optuna's has",
    "UPDATE trial_params SET param_value = param_value * 1.5 WHERE param_id = 1": "trained with",
    "UPDATE studies SET study_name = 's/t/other' WHERE study_id = 1": "there are no such runs",
    "UPDATE trials SET number = 7 WHERE number = 1": "Optuna's trial 7 has ended, but there is no",
    "UPDATE bnnbench_runs SET state = 'running' WHERE id = 5": "but nobody is at it",
    "UPDATE bnnbench_runs SET state = 'pending' WHERE id = 1": "trial 0 is pending, Optuna's is",
    "UPDATE bnnbench_runs SET state = 'failed' WHERE id = 1": "trial 0 is failed, Optuna's is",
    "DELETE FROM bnnbench_series WHERE metric = 'selected_epoch' AND run_id = 5": "no epoch was",
    "DELETE FROM bnnbench_series WHERE metric = 'loss' AND run_id = 5": "is done after 0 epochs",
    "UPDATE bnnbench_series SET points = substr(points, 1, 16) WHERE metric = 'loss'": "after 1",
    "UPDATE bnnbench_series SET points = substr(points, 17) WHERE metric = 'loss'": "of epochs 2, ",
    "UPDATE bnnbench_series SET points = CAST(points || points AS BLOB)": "1, 1, 2, 2",
    "UPDATE bnnbench_series SET points = substr(points, 2) WHERE run_id = 5": "number 5 is cut off",
    "INSERT INTO bnnbench_measurements VALUES (5, 'loss', 2, 'train', '', '', 0, 1)": "1, 2, 2",
    "UPDATE bnnbench_entries SET run_id = 99 WHERE id = 1": "refers to a row of bnnbench_runs",
}


@pytest.mark.parametrize("statement", BROKEN)
def test_what_is_wrong_is_found(sound, capsys, statement):
    """One thing changed behind our back is said in a line, and the exit code is 4."""
    sound.engine.dispose()
    connection = sqlite3.connect("bnnbench.db")
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()

    assert 4 == main(["db", "check"])

    out, err = capsys.readouterr()
    assert BROKEN[statement] in out
    assert re.fullmatch(r"error: sqlite:///bnnbench.db is not consistent: faults \d+; .*\n", err)


def test_damaged_file_is_found(sound, tmp_path, capsys):
    """Overwritten pages are said as SQLite says them; nothing else is tried."""
    sound.engine.dispose()
    damage(tmp_path / "bnnbench.db")

    assert 4 == main(["db", "check"])

    assert "Traceback" not in capsys.readouterr().err


def test_run_at_which_somebody_is_may_be_running(sound):
    """A living lease on a running run is no fault; a dead process's is one."""

    entry = sound.entries("s", role="confirm")[0]
    with sound.begin() as connection:
        r = schema.runs
        connection.execute(sa.update(r).where(r.c.id == entry.run_id).values(state="running"))
    leases = Leases(sound)
    assert leases.take(f"run {entry.run.key}")
    assert [] == [f for f in faults(sound) if "nobody" in f]
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    with sound.begin() as connection:
        host, space, _, started, rest = leases.holder.rsplit(":", 4)
        gone = ":".join((host, space, dead.stdout.decode().strip(), started, rest))
        connection.execute(sa.update(schema.leases).values(holder=gone))

    (fault,) = [f for f in faults(sound) if "nobody" in f]
    assert entry.run.key in fault
    assert "'study run s' takes it up" in fault


def test_what_passes_by_itself_was_not_wrong(sound, monkeypatch):
    """While somebody works, a fault counts that is still there at a second look."""

    assert Leases(sound).take("worker s/x")
    storage = optuna_storage(sound)
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1"))
        connection.execute(sa.text("UPDATE trials SET state = 'FAIL' WHERE trial_id = 3"))

    def tell(seconds):
        with storage.engine.begin() as connection:
            connection.execute(sa.text("UPDATE trials SET state = 'COMPLETE' WHERE trial_id = 1"))

    monkeypatch.setattr(consistency.time, "sleep", tell)

    (fault,) = faults(sound)
    assert "Optuna's is FAIL" in fault


def test_trial_that_another_study_tried_again_is_no_fault(sound):
    """A run that failed for one study may be done for another; Optuna's record stays."""
    sound.create_study("two", sound.study("s"), "cmd", "0")
    entry = sound.entries("s", role=TUNE)[0]
    with sound.begin() as connection:
        connection.execute(sa.text("UPDATE trials SET state = 'FAIL' WHERE trial_id = 1"))
    assert 1 == len(faults(sound))

    sound.enter("two", "t", entry.method, "confirm", 1, entry.run)

    assert [] == faults(sound)


def test_checkpoints_are_looked_at(sound, tmp_path):
    """Damaged files and weights that are gone are faults; what is left over or strange is none."""
    entry = sound.entries("s", role="confirm")[0]
    kept = Checkpoints(tmp_path / "bnnbench.db.checkpoints")
    kept.save_weights(weights(entry.run))
    kept.save_weights(weights())  # of no run of this database
    assert [] == faults(sound)

    kept.save_training(entry.run, {"epoch": 1})
    found = consistency.look(sound, kept)
    assert ([], [f"{entry.run.key}.training: its run has ended"]) == (found.faults, found.leftovers)

    kept.forget_training(entry.run.key)
    part = f"{entry.run.key}.training.77.part"
    for name in (part, "of-no-run.training.77.part"):
        (kept.folder / name).write_bytes(b"of a killed process")
    found = consistency.look(sound, kept)
    told = f"{part}: half written, and nobody is at its run"
    assert ([], [told]) == (found.faults, found.leftovers)
    with Leases(sound).claimed(f"run {entry.run.key}"):
        assert [] == consistency.look(sound, kept).leftovers
    kept.forget_training(entry.run.key)
    path = kept.folder / f"{entry.run.key}.weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (fault,) = faults(sound)
    assert re.search(rf"the checkpoint .*{path.name} is damaged", fault)
    path.unlink()
    with sound.begin() as connection:
        e = schema.entries
        connection.execute(sa.update(e).where(e.c.run_id == entry.run_id).values(role="base"))
    (fault,) = faults(sound)
    assert f"the weights of run {entry.run.key}" in fault


def test_check_changes_nothing(sound, tmp_path):
    """Not even Optuna's tables are made where they are not."""
    store = Store("other.db")
    store.create_study("s", sound.study("s"), "cmd", "0")
    before = everything("other.db")

    assert [] == faults(store)

    assert before == everything("other.db")
    store.engine.dispose()


# where an SQLite database may lie

MOUNTS = r"""
/dev/a / ext4 rw 0 0
server:/x /mnt/my\040disk nfs4 rw 0 0
me@host:/ /mnt/ssh fuse.sshfs rw 0 0
tmpfs /mnt/ssh/local tmpfs rw 0 0
//server/x /mnt/twice cifs rw 0 0
/dev/b /mnt/twice xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/bnnbench.db", ""),
        ("/mnt/my disk/runs/bnnbench.db", "nfs4"),
        ("/mnt/my disk2/bnnbench.db", ""),
        ("/mnt/ssh/bnnbench.db", "fuse.sshfs"),
        ("/mnt/ssh/local/bnnbench.db", ""),
        ("/mnt/twice/bnnbench.db", ""),
    ],
)
def test_mount_of_a_path(tmp_path, monkeypatch, path, kind):
    """The innermost mount counts, of two at one point the later; names are whole."""
    from bnnbench import mounts

    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")

    assert kind == mounts.network_type(Path(path))


def test_sqlite_on_a_network_is_refused(tmp_path, monkeypatch, capsys):
    """With PostgreSQL as the way out, in one line, before a file is made; a variable allows it."""
    from bnnbench import mounts

    (tmp_path / "mounts").write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")

    assert 4 == main(["study", "list", "--storage", "x.db"])
    err = capsys.readouterr().err
    assert "x.db lies on nfs4; use --storage postgresql://USER@HOST/DATABASE" in err
    assert 1 == err.count("\n")
    with pytest.raises(StoreError, match="BNNBENCH_SQLITE_ANYWHERE=1"):
        Store("x.db")
    assert not (tmp_path / "x.db").exists()
    monkeypatch.setenv("BNNBENCH_SQLITE_ANYWHERE", "1")
    Store("x.db").engine.dispose()


def test_where_nothing_is_known_of_mounts_nothing_is_refused(tmp_path, monkeypatch):
    """Another system has no such table."""
    from bnnbench import mounts

    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")

    assert "" == mounts.network_type(tmp_path)


def test_copy_is_on_the_disk_before_its_name(store, tmp_path, monkeypatch):
    """The file is synced, then named, then its folder is synced."""
    done = []
    real = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda d: done.append(path_of(d)) or real[0](d))
    monkeypatch.setattr(os, "link", lambda a, b: done.append("named") or real[1](a, b))

    copy = backup.copy(tmp_path / "bnnbench.db", tmp_path / "copy")

    part, *rest = done
    assert part.startswith(f"{copy}.{os.getpid()}-")
    assert ["named", str(tmp_path)] == rest


def path_of(descriptor):
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def test_threads_of_one_process_copy_at_once(store, tmp_path):
    """Copies made at the same moment have different names and are all whole."""
    fill(store)
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(backup.copy_beside(tmp_path / "bnnbench.db")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 3 == len(set(made))
    assert 1 == len({str(everything(path)) for path in made})

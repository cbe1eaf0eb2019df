"""Workers as Ray tasks: what a study leaves is what an undisturbed process leaves, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from bnnbench.cli import main
from bnnbench.cluster import Share, check_address
from bnnbench.errors import UsageError
from bnnbench.store import Store

from .postgres import ENCODED, PASSWORD, postgres
from .test_kill import bnnbench, contents, finish, make
from .test_tuning import fingerprint, optuna_trials
from .test_workers import leases, wait_for

__all__ = ["postgres"]  # a fixture
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What a study holds that one process has run, undisturbed."""
    folder = make(tmp_path_factory.mktemp("ray") / "calm", epochs=30)
    finish(bnnbench("study", "run", "s", "--threads", "1", cwd=folder))
    return contents(folder)


@pytest.fixture
def place(monkeypatch):
    """A short path for all that Ray writes: its sockets lie there."""
    folder = tempfile.mkdtemp(prefix="bnnray", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


def workers(folder):
    """The worker processes of a study in this folder, wherever they were started from."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "--as-worker" in command and any(str(folder) in word for word in command):
            found.append(int(entry.name))
    return sorted(found)


def parent(process):
    """The process that has started another."""
    asking = ["ps", "-o", "ppid=", "-p", str(process)]
    return int(subprocess.run(asking, capture_output=True, text=True, check=True).stdout)


def begun(store):
    """Wait until each of two workers has a run with an epoch in the database."""
    wait_for(lambda: sum(e.state == "running" for e in store.entries("s")) >= 2)
    wait_for(lambda: any(store.reached(e.run_id) for e in store.entries("s")))


@needs_ray
@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_anew(tmp_path, calm, place):
    """A worker is killed, of another Ray's own process: nothing is lost, nothing doubled."""
    folder = make(tmp_path / "s", epochs=30)
    crew = bnnbench("study", "run", "s", "--engine", "ray", "--workers", "2", cwd=folder)
    store = Store(str(folder / "bnnbench.db"))
    begun(store)
    two = workers(folder)
    assert 2 == len(two)
    task = parent(two[1])
    assert "ray::" in Path(f"/proc/{task}/cmdline").read_text()

    os.kill(two[0], signal.SIGKILL)
    os.kill(task, signal.SIGKILL)
    wait_for(lambda: len(set(workers(folder)) - set(two)) == 2)  # Ray has begun both anew
    out = finish(crew)

    assert calm == contents(folder)
    assert 1 == out.count("died by SIGKILL; what it was at is taken up again; another takes its")
    assert 8 == out.count(", done in ")
    assert ([], []) == (leases(folder), workers(folder))
    store.engine.dispose()


@needs_ray
@pytest.mark.slow
def test_on_postgresql_it_stops_and_goes_on_and_tells_no_password(
    tmp_path, calm, place, postgres, monkeypatch
):
    """Ctrl-C keeps checkpoints, the same command goes on; Ray's own files hold no password."""
    url = postgres.database()
    monkeypatch.setenv("BNNBENCH_STORAGE", url)
    folder = make(tmp_path / "s", epochs=30)
    store, said = Store(url), []
    ray = ("study", "run", "s", "--engine", "ray", "--workers", "2")
    crew = bnnbench(*ray, cwd=folder)
    begun(store)

    crew.send_signal(signal.SIGINT)
    said += crew.communicate(timeout=240)
    states = {e.state for e in store.entries("s")}
    again = bnnbench(*ray, cwd=folder)
    said += again.communicate(timeout=240)

    assert (130, 0) == (crew.returncode, again.returncode), said
    assert "running" not in states
    assert "pending" in states
    entries = sorted((e.method, e.role, e.number, e.run.key, e.state) for e in store.entries("s"))
    assert calm == (entries, fingerprint(store, "s"), optuna_trials(store, "s"))
    assert [] == workers(folder)
    store.engine.dispose()
    files = [path.read_bytes() for path in place.rglob("*") if path.is_file()]
    assert len(files) > 10
    for secret in (PASSWORD, ENCODED):
        assert not any(secret in text for text in said)
        assert not any(secret.encode() in content for content in files)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study in a database of this folder."""
    monkeypatch.setenv("BNNBENCH_STORAGE", "bnnbench.db")
    monkeypatch.chdir(make(tmp_path / "s"))


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--address auto", "--address is for Ray's workers; give --engine ray, too"),
        ("--gpus-per-run 0.5", "--gpus-per-run is for Ray's workers; give --engine ray, too"),
        ("--engine ray --address 10.0.0.1:6379", "share a PostgreSQL database, got an SQLite file"),
        ("--engine ray --device cuda:1", "Ray chooses the device of a worker, got --device cuda:1"),
        ("--engine ray --device cpu --gpus-per-run 1", "got --device cpu; give --gpus-per-run 1"),
        ("--engine ray --gpus-per-run 2", "2.0 is not in the range 0<x<=1"),
        ("--engine ray --workers 9", "8 workers at most, this would make 9"),
        ("--engine slurm", "'slurm' is not one of 'processes', 'ray'"),
    ],
)
def test_what_cannot_be(study, capsys, options, said):
    """Each is refused in one line, before Ray is started."""
    assert 2 == main(["study", "run", "s", *options.split()])

    err = capsys.readouterr().err
    assert 1 == err.count("\n")
    assert said in err


def test_without_ray(study, capsys, monkeypatch):
    """The way out is the extra's name."""
    monkeypatch.setattr("bnnbench.cli.engines.find_spec", lambda name: None)

    assert 2 == main(["study", "run", "s", "--engine", "ray"])

    assert "pip install 'bnnbench[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "there must be a Ray cluster at '127.0.0.1:1', got: .*refused"),
        ("127.0.0.1:99999", "there must be a Ray cluster"),
        ("head", "HOST:PORT, or auto, got 'head'"),
        ("head:", "HOST:PORT, or auto"),
        ("ray://head:10001", "HOST:PORT, or auto"),
    ],
)
def test_where_no_cluster_is(address, said):
    """It is said at once, not after Ray's minutes."""
    begun = time.monotonic()
    with pytest.raises(UsageError, match=said):
        check_address(address)

    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("share", "found", "count"),
    [
        (Share(), {"CPU": 4.0}, 4),
        (Share(threads=3), {"CPU": 4.0}, 1),
        (Share(threads=8), {"CPU": 4.0}, 1),
        (Share(gpus=0.5), {"CPU": 16.0, "GPU": 3.0}, 6),
        (Share(gpus=0.5), {"CPU": 4.0, "GPU": 3.0}, 4),
        (Share(gpus=1.0), {"CPU": 4.0}, 1),
        (Share(workers=7), {"CPU": 4.0}, 7),
    ],
)
def test_as_many_as_there_is_room_for(share, found, count):
    """Cores and GPUs both limit them; who says how many has so many."""
    assert count == share.count(found)

"""Several workers at one study: all is there once, as if one had done it undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bnnbench.store import Store

from .test_kill import bnnbench, contents, finish, make, wait_for_runs


def workers_of(process) -> list[int]:
    """The process numbers of a supervisor's workers."""
    asking = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    found = subprocess.run(asking, capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def wait_for(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)


def wait_for_epochs(folder):
    """Wait until a run's first epoch is in the database."""
    store = Store(str(folder / "bnnbench.db"), create=False)
    wait_for(lambda: any(store.reached(entry.run_id) for entry in store.entries("s")))
    store.engine.dispose()


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What a study holds that one process has run, undisturbed."""
    folder = make(tmp_path_factory.mktemp("workers") / "calm", epochs=30)
    finish(bnnbench("study", "run", "s", cwd=folder))
    return contents(folder)


@pytest.mark.slow
def test_workers_and_processes_share_a_study(tmp_path, calm):
    """Two workers, and a process started beside them, leave what one process leaves."""
    folder = make(tmp_path / "shared", epochs=30)

    crew = bnnbench("study", "run", "s", "--workers", "2", cwd=folder)
    alone = bnnbench("study", "run", "s", "--threads", "1", cwd=folder)
    told = finish(crew) + finish(alone)

    assert calm == contents(folder)
    assert 8 == told.count(", done in ")
    assert [] == leases(folder)


def leases(folder) -> list[str]:
    """The names of all leases that were not given back."""
    store = Store(str(folder / "bnnbench.db"), create=False)
    with store.begin() as connection:
        found = list(connection.exec_driver_sql("SELECT name FROM bnnbench_leases").scalars())
    store.engine.dispose()
    return found


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(tmp_path, calm):
    """After kill -9 of a worker another takes its place, and its run is taken up again."""
    folder = make(tmp_path / "killed", epochs=30)
    crew = bnnbench("study", "run", "s", "--workers", "2", cwd=folder)
    wait_for_runs(folder, 1, "running")

    for worker in workers_of(crew):
        os.kill(worker, signal.SIGKILL)
    out = finish(crew)

    assert calm == contents(folder)
    assert 2 == out.count("died by SIGKILL; what it was at is taken up again; another takes its")


@pytest.mark.slow
def test_workers_stop_with_their_supervisor(tmp_path, calm):
    """After kill -9 of the supervisor its workers finish their epoch and go; nothing is lost."""
    folder = make(tmp_path / "orphans", epochs=30)
    crew = bnnbench("study", "run", "s", "--workers", "2", cwd=folder)
    wait_for_runs(folder, 1, "running")
    workers = workers_of(crew)
    assert 2 == len(workers)

    crew.kill()
    crew.communicate()

    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))
    alike = ("--workers", "1", "--threads", "1")  # sums on two threads may differ in a bit
    finish(bnnbench("study", "run", "s", *alike, cwd=folder))
    assert calm == contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_supervisor_that_is_asked_to_stop(tmp_path, how):
    """It stops its workers, exits with 130 and one line, and no run is left running."""
    folder = make(tmp_path / "asked", epochs=20_000)
    crew = bnnbench("study", "run", "s", "--workers", "2", cwd=folder)
    wait_for_epochs(folder)

    crew.send_signal(how)
    _, err = crew.communicate(timeout=120)

    assert 130 == crew.returncode
    assert "'bnnbench study run s' continues" in err
    assert "Traceback" not in err
    assert "running" not in {state for *_, state in contents(folder)[0]}
    assert [] == leases(folder)
    assert list((folder / "bnnbench.db.checkpoints").glob("*.training.safetensors"))


@pytest.mark.slow
def test_a_worker_that_hangs_is_passed_over(tmp_path, calm, monkeypatch):
    """A stopped worker loses its run when its patience is over; awake again it changes nothing."""
    monkeypatch.setenv("BNNBENCH_LEASE_SECONDS", "3")
    folder = make(tmp_path / "hung", epochs=30)
    alone = bnnbench("study", "run", "s", cwd=folder)
    wait_for_runs(folder, 1, "running")
    alone.send_signal(signal.SIGSTOP)

    finish(bnnbench("study", "run", "s", cwd=folder))
    found = contents(folder)
    alone.send_signal(signal.SIGCONT)
    finish(alone)

    assert calm == found == contents(folder)

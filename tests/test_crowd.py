"""16 processes at the 64 trials of one study: none is lost, none is there twice."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa

from bnnbench import schema
from bnnbench.checkpoints import Checkpoints
from bnnbench.consistency import look
from bnnbench.store import DONE, Store

from .conftest import ROOT
from .crowd import EPOCHS
from .postgres import postgres
from .test_tuning import optuna_trials

__all__ = ["postgres"]  # a fixture
PROCESSES, TRIALS = 16, 64
#: the folder comes last in the path: what is installed is what is tried
CROWD = """
import runpy, sys
sys.path.append({root!r})
runpy.run_module("tests.crowd", run_name="__main__", alter_sys=True)
"""


def crowded(url):
    """The numbers of the trials that were trained, as the processes tell them."""
    script = CROWD.format(root=str(ROOT))
    command = [sys.executable, "-c", script, url, str(PROCESSES), str(TRIALS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert (0, "") == (done.returncode, done.stderr)
    return sorted(int(line.removeprefix("trained ")) for line in done.stdout.splitlines())


def check(url, tmp_path):
    """Every run, measurement and trial is there once, Optuna's agree, and nothing is held."""
    told, store = crowded(url), Store(url)
    entries, found = store.entries("s"), optuna_trials(store, "s")["s/t/bop"]
    losses = [(m.value, m.epoch) for m in store.measured("s", ["loss"])]
    with store.begin() as connection:
        leases = connection.execute(sa.select(schema.leases.c.name)).all()
    looked = look(store, Checkpoints(tmp_path / "none"))
    store.engine.dispose()

    numbers = list(range(TRIALS))
    assert numbers == told
    assert [(n, DONE) for n in numbers] == sorted((e.number, e.state) for e in entries)
    assert sorted((n, epoch) for n in numbers for epoch in range(1, EPOCHS + 1)) == sorted(losses)
    assert [(n, "COMPLETE") for n in numbers] == [trial[:2] for trial in found]
    tried = {e.number: e.run.method.hyperparameters for e in entries}
    assert tried == {number: params for number, _, params, _ in found}
    assert TRIALS == len({str(params) for params in tried.values()})
    assert ([], []) == (leases, looked.faults)


@pytest.mark.slow
def test_sixteen_processes_on_one_sqlite_file(tmp_path):
    """They wait for each other, and none gives up."""
    check(str(tmp_path / "x.db"), tmp_path)


@pytest.mark.slow
def test_sixteen_processes_on_postgresql(postgres, tmp_path):
    """The same on a server."""
    check(postgres.database(), tmp_path)

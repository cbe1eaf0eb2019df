"""Workers share the cores that their process may use, not those that the machine has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bnnbench.cli import Settings
from bnnbench.cli.crew import commands
from bnnbench.environment import cores

SHARES = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.cpu_count = lambda: 64
from bnnbench.environment import cores
from bnnbench_plugins.datasets.stream import threads
print(cores(), threads())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_that_may_use_one_core_has_one():
    """However many the machine has."""
    done = subprocess.run([sys.executable, "-c", SHARES], capture_output=True, text=True)

    assert "1 1\n" == done.stdout, done.stderr


@pytest.mark.parametrize(("known", "expected"), [(12, 12), (None, 1)])
def test_without_affinity_those_of_the_machine(monkeypatch, known, expected):
    """Where nobody knows, one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: known)

    assert expected == cores()


@pytest.mark.parametrize(("workers", "asked", "share"), [(2, None, 4), (3, None, 2), (9, None, 1)])
def test_each_worker_has_its_share(monkeypatch, workers, asked, share):
    """At least one thread each, and never more than there are cores in all."""
    monkeypatch.setattr("bnnbench.cli.crew.cores", lambda: 8)

    for command in commands(Settings(), "s", ["cpu"] * workers, asked, []):
        assert str(share) == command[command.index("--threads") + 1]

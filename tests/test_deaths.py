"""What a plugin's training step can do to its worker, and what the study makes of it."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from bnnbench.store import Store

from .test_kill import bnnbench, contents, finish
from .test_workers import wait_for, workers_of

#: optimizers whose 30th step, in epoch 3, does what it says, unless there is a file of its name
PLUGIN = """
import collections
import ctypes
import itertools
import os
import resource
import signal
import sys
from pathlib import Path

import torch
from bnnbench import hookimpl


def segfault():
    ctypes.string_at(0)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out


def exits():
    os._exit(70)  # as native code may


def leaves():
    sys.exit(3)


def memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, hard))
    try:
        torch.ones(2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def hangs():
    collections.deque(itertools.repeat(None, 10**10), maxlen=0)  # where no signal is handled


def optimizer(happens):
    class Happens(torch.optim.SGD):
        def __init__(self, params, lr: float = 0.001):
            super().__init__(params, lr=lr)

        def step(self, closure=None):
            group, happened = self.param_groups[0], Path(happens.__name__)
            group["steps"] = group.get("steps", 0) + 1
            if group["steps"] == 30 and not happened.exists():
                if Path("once").exists():
                    happened.write_text(str(os.getpid()))
                happens()
            return super().step(closure)

    return Happens


@hookimpl
def register_optimizers(register):
    for happens in (segfault, killed, exits, leaves, memory, hangs):
        register(happens.__name__, optimizer(happens))
"""
STUDY = """
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 8 }
epochs = 4
[protocol]
seeds = 1
[plugins]
files = ["plugin.py"]
"""
SIGN = '[[methods]]\nname = "{0}"\nbinarizer = "sign"\noptimizer = "{0}"\n'
ONCE = ("segfault", "killed", "exits", "hangs")


def make(folder, methods, happened=()):
    """A study of these optimizers; what is said to have happened happens no more."""
    folder.mkdir()
    (folder / "plugin.py").write_text(PLUGIN)
    text = STUDY + "".join(SIGN.format(name) for name in methods)
    (folder / "s.toml").write_text(text + '[[methods]]\nmethod = "bop"\n')
    for name in happened:
        (folder / name).touch()
    finish(bnnbench("study", "create", "s", "--from", "s.toml", cwd=folder))
    return folder


def run(folder, workers):
    """A crew under way that keeps a checkpoint of each epoch."""
    more = ("--workers", str(workers), "--threads", "1", "--checkpoint-every", "0")
    return bnnbench("study", "run", "s", *more, cwd=folder)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What the study holds in which nothing happens."""
    folder = make(tmp_path_factory.mktemp("deaths") / "calm", ONCE, happened=ONCE)
    finish(run(folder, 1))
    return contents(folder)


@pytest.mark.slow
def test_each_death_costs_what_was_done_since_the_checkpoint(tmp_path, calm):
    """A segfault, a kill for want of memory, an exit: told in a line, and taken up by another."""
    folder = make(tmp_path / "s", ONCE, happened=["once", "hangs"])
    out = finish(run(folder, 1))

    assert calm == contents(folder)
    for method, how in zip(ONCE, ("by SIGSEGV", "by SIGKILL", "with exit code 70"), strict=False):
        told = f"worker 1 died {how}; what it was at is taken up again; another takes its place\n"
        assert 1 == out.count(told)
        assert 1 == out.count(f"t {method} confirm seed 1: taken up after epoch 2 of 4\n")
    assert 3 == out.count(" died ") == out.count("taken up after")


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once(tmp_path, calm):
    """Neither a worker in native code nor one that is stopped holds it, and nothing is lost."""
    folder = make(tmp_path / "s", ONCE, happened=["once", *ONCE[:-1]])
    crew = run(folder, 2)
    wait_for(lambda: (folder / "hangs").exists() and (folder / "hangs").read_text())
    hung = int((folder / "hangs").read_text())
    (other,) = set(workers_of(crew)) - {hung}
    os.kill(other, signal.SIGSTOP)

    crew.send_signal(signal.SIGINT)
    time.sleep(1.0)
    waits, begun = crew.poll() is None, time.monotonic()
    crew.send_signal(signal.SIGINT)
    _, err = crew.communicate(timeout=60)

    assert waits
    assert time.monotonic() - begun < 30
    assert 130 == crew.returncode
    assert re.search("^worker [12]: does not stop and is killed$", err, re.MULTILINE)
    assert "'bnnbench study run s' continues" in err.splitlines()[-1]
    assert "Traceback" not in err
    finish(run(folder, 2))
    assert calm == contents(folder)


@pytest.mark.slow
def test_what_happens_each_time_ends_the_run_not_the_study(tmp_path):
    """Four deaths at one place, no memory, sys.exit: the run fails with its reason."""
    folder = make(tmp_path / "s", ["segfault", "memory", "leaves"])
    out, err = (crew := run(folder, 1)).communicate(timeout=400)

    assert 6 == crew.returncode, err
    assert 4 == out.count(" died ") == out.count("worker 1 died by SIGSEGV; ")
    assert "Traceback" not in out + err
    store = Store(str(folder / "bnnbench.db"), create=False)
    found = {e.method: (e.state, e.failure, e.error.splitlines()[:1]) for e in store.entries("s")}
    store.engine.dispose()
    assert ("done", "", []) == found.pop("bop")
    reasons = {name: reason[0] for name, (state, _, reason) in found.items() if state == "failed"}
    assert {"segfault": "lost", "memory": "out-of-memory", "leaves": "plugin"} == {
        name: kind for name, (_, kind, _) in found.items()
    }
    assert "4 workers were lost with it after epoch 2: killed, out of memory" in reasons["segfault"]
    assert "you tried to allocate 1073741824 bytes" in reasons["memory"]
    assert "SystemExit: 3" == reasons["leaves"]
    for reason in reasons.values():  # each in a line of what the command says
        assert 1 == sum(reason in line for line in out.splitlines())

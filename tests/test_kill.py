"""kill -9 in the middle of a study: run again, it ends as if nothing had happened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from bnnbench.store import Store

from .conftest import TINY
from .test_tuning import fingerprint, optuna_trials


def bnnbench(*arguments, cwd, **options):
    command = [sys.executable, "-m", "bnnbench", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
    )


def heed_ctrl_c():
    """Let Ctrl-C count, which a shell lets what it starts in the background ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert 0 == process.returncode, err
    return out


def make(folder, epochs=12):
    folder.mkdir()
    (folder / "tiny.toml").write_text(TINY.replace("epochs = 2", f"epochs = {epochs}"))
    finish(bnnbench("study", "create", "s", "--from", "tiny.toml", cwd=folder))
    return folder


def contents(folder):
    store = Store(str(folder / "bnnbench.db"), create=False)
    entries = [(e.method, e.role, e.number, e.run.key, e.state) for e in store.entries("s")]
    found = sorted(entries), fingerprint(store, "s"), optuna_trials(store, "s")
    store.engine.dispose()
    return found


def wait_for_runs(folder, count, state="done"):
    """Wait until so many runs have ended, or are in another state."""
    store = Store(str(folder / "bnnbench.db"), create=False)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if sum(entry.state == state for entry in store.entries("s")) >= count:
            break
        time.sleep(0.02)
    store.engine.dispose()


@pytest.mark.slow
def test_killed_study_is_finished_by_the_next_run(tmp_path):
    """The same runs, trials and numbers, bit for bit; nothing lost, doubled or left running."""
    calm, killed = make(tmp_path / "calm"), make(tmp_path / "killed")
    finish(bnnbench("study", "run", "s", cwd=calm))

    for count in (1, 2, 5):
        process = bnnbench("study", "run", "s", cwd=killed)
        wait_for_runs(killed, count)
        time.sleep(0.15)  # into the next run
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert -signal.SIGKILL == process.returncode
    finish(bnnbench("study", "run", "s", cwd=killed))

    entries, measured, trials = contents(killed)
    assert (entries, measured, trials) == contents(calm)
    assert {"done"} == {state for *_, state in entries}
    assert 8 == len(entries)
    assert {"COMPLETE"} == {state for found in trials.values() for _, state, _, _ in found}


@pytest.mark.slow
def test_killed_run_is_taken_up_where_its_last_checkpoint_is(tmp_path):
    """A long run does not begin again; what it gives is what it would have given."""
    calm, killed = make(tmp_path / "calm", epochs=60), make(tmp_path / "killed", epochs=60)
    finish(bnnbench("study", "run", "s", cwd=calm))
    often = ("study", "run", "s", "--checkpoint-every", "0")

    process = bnnbench(*often, cwd=killed)
    folder = killed / "bnnbench.db.checkpoints"
    until = time.monotonic() + 120
    while not list(folder.glob("*.training.safetensors")) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    out = finish(bnnbench(*often, cwd=killed))

    taken_up = re.findall(r"tune trial 0: taken up after epoch (\d+) of 60", out)
    assert 1 == len(taken_up)
    assert contents(killed) == contents(calm)
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.slow
def test_ctrl_c_stops_cleanly(tmp_path):
    """Ctrl-C finishes the epoch and exits with 130; the last line says how to go on."""
    folder = make(tmp_path / "s", epochs=20_000)  # not over before it is stopped
    process = bnnbench("study", "run", "s", cwd=folder)
    wait_for_runs(folder, 1, "running")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    assert 130 == process.returncode
    assert "Traceback" not in err
    assert {"stopping after this epoch; once more stops at once"} >= set(err.splitlines()[:-1])
    assert "'bnnbench study run s' continues" in err.splitlines()[-1]
    assert "running" not in {state for *_, state in contents(folder)[0]}

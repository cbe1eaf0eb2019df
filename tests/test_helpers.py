"""A study whose runs are trained by two processes: by the harness itself, with real processes."""

from __future__ import annotations

import os
import signal
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bnnbench.checkpoints import Checkpoints
from bnnbench.cli import main
from bnnbench.cli.crew import slots
from bnnbench.errors import PluginError
from bnnbench.experiments import Workbench
from bnnbench.pace import Pace
from bnnbench.parallel import helpers
from bnnbench.parallel.helpers import Helper, LostProcessError, Task, Team
from bnnbench.plugins import load_plugins
from bnnbench.runs import Run
from bnnbench.store import DONE, Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

from .test_kill import bnnbench, make
from .test_tuning import SILENT
from .test_workers import leases, wait_for, wait_for_epochs, workers_of

#: one run of four epochs, of batches of 101 examples: 50 and 51
SMALL = """
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 16, dropout = 0.1 }
epochs = 4
batch_size = 101
[protocol]
trials = 0
seeds = 1
[[methods]]
method = "real"
"""


def small_study(store):
    store.create_study("s", parse_study(tomllib.loads(SMALL), "small.toml"), "cmd", "0")


def ran(url, size, observer=SILENT):
    """What was measured in the study's run, trained by so many processes; its entry; the store."""
    store = Store(str(url))
    small_study(store)
    bench = Workbench(load_plugins(), "cpu", 1, Checkpoints(f"{url}.checkpoints"), Team(size))
    StudyRunner(store, "s", bench, observer, checkpoint_every=0).run()
    (entry,) = store.entries("s")
    assert DONE == entry.state, entry.error
    measured = store.measured("s", ["accuracy", "loss", "flip_init"])
    store.engine.dispose()
    return {tuple(m[1:6]): m.value for m in measured}, entry, store


@pytest.fixture
def processes(monkeypatch):
    """The helper processes, as they are started."""
    started = []

    class Seen(Helper):
        def __init__(self, *given):
            super().__init__(*given)
            started.append(self.process)

    monkeypatch.setattr(helpers, "Helper", Seen)
    return started


def test_a_process_that_is_killed(tmp_path, processes):
    """The run is taken up from its checkpoint by two others, and ends as one process lets it end.

    In fp32: Adam takes a whole step where a gradient is rounding alone, up in one and down in the
    other, so that losses agree to 1e-2, and accuracies to some examples of 297. Judged with the
    signs of its weights the network is another one as soon as one of them turns.
    """

    def kill(entry, measured):
        if measured and measured[0].epoch == 2 and len(processes) == 1:
            processes[0].kill()

    observer = SimpleNamespace(**{**vars(SILENT), "epoch_ended": kill})
    found, entry, store = ran(tmp_path / "two.db", 2, observer)

    wanted, alone, first = ran(tmp_path / "one.db", 1)
    assert 2 == len(processes)
    ((_, kind, text),) = store.events("s")
    assert "transient" == kind
    assert "process 2 of 2 of the run died by SIGKILL" in text
    assert entry.run.key == alone.run.key
    assert [2, 1] == [
        made.environments("s")[of.environment]["processes"]
        for made, of in ((store, entry), (first, alone))
    ]
    assert wanted.keys() == found.keys()
    for (metric, *where), value in wanted.items():
        if "binary" in where:
            continue
        close = {"accuracy": {"abs": 2}, "loss": {"rel": 1e-2}}.get(metric, {"abs": 1e-2})
        assert value == pytest.approx(found[metric, *where], **close), (metric, where)


def task(tmp_path, **changes):
    """What a helper is told of a small run."""
    store = Store(str(tmp_path / "task.db"))
    small_study(store)
    bench = Workbench(load_plugins(), checkpoints=Checkpoints(tmp_path))
    runner = StudyRunner(store, "s", bench, SILENT)
    run = runner.places.run(runner.cells[0], {}, 1, test=True)
    store.engine.dispose()
    assert isinstance(run, Run)
    given = {"epoch": 0, "device": "cpu", "pace": asdict(Pace()), "place": str(tmp_path / "place")}
    values = {"rank": 1, "team": Team(2), "run": run.to_json(), "checkpoints": str(tmp_path)}
    return Task(**(values | given | changes))


def test_a_helper_goes_with_the_first_process(tmp_path):
    """It heeds no Ctrl-C and no SIGTERM, and is gone once its standard input is closed."""
    helper = Helper(task(tmp_path), tmp_path)
    helper.wait_until_ready()

    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(helper.process.pid, each)
    time.sleep(0.2)
    assert helper.process.poll() is None
    assert helper.fault() is None

    helper.process.stdin.close()
    assert 1 == helper.process.wait(timeout=60)
    helper.end()


def test_a_helper_that_cannot_begin(tmp_path):
    """Its error is told in one line, with whose it is."""
    helper = Helper(task(tmp_path, team=Team(2, files=("nowhere.py",))), tmp_path)

    with pytest.raises(PluginError, match=r"^process 2 of 2 of the run UsageError: .*nowhere.py"):
        helper.wait_until_ready()
    helper.end()


def test_a_helper_that_dies_says_how(tmp_path, monkeypatch):
    """With the last line of its standard error."""
    monkeypatch.setattr(helpers.sys, "executable", "/bin/false")
    helper = Helper(task(tmp_path), tmp_path)
    helper.said.write("one\nits last word\n\n")

    with pytest.raises(LostProcessError, match=r"died with exit code 1 \(its last word\)$"):
        helper.wait_until_ready()
    helper.end()


def test_a_task_is_told_whole():
    """What is read is what was written."""
    told = Task(1, Team(3, ("a",), ("b.py",)), "{}", 4, "cuda:1", {"threads": 2}, "c", "d")

    assert told == Task.from_json(told.to_json())


@pytest.mark.slow
def test_ctrl_c_stops_all_processes(tmp_path):
    """The epoch is finished and kept, the lease is given back, and no process is left."""
    folder = make(tmp_path / "asked", epochs=20_000)
    first = bnnbench("study", "run", "s", "--processes-per-run", "2", cwd=folder)
    wait_for_epochs(folder)
    others = workers_of(first)
    assert 1 == len(others)

    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=120)

    assert 130 == first.returncode
    assert "'bnnbench study run s' continues" in err
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others), 30)
    assert [] == leases(folder)
    assert list((folder / "bnnbench.db.checkpoints").glob("*.training.safetensors"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--processes-per-run", "0"], "0 is not in the range x>=1"),
        (["--processes-per-run", "101"], "got batch_size 100 and --processes-per-run 101"),
        (["--processes-per-run", "2", "--engine", "ray"], "in one process each, got"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, tiny, capsys, options, told):
    """In one line, before anything is trained."""
    url = str(tmp_path / "bnnbench.db")
    store = Store(url)
    store.create_study("s", tiny, "cmd", "0")
    store.engine.dispose()

    assert 2 == main(["study", "run", "s", "--storage", url, *options])

    err = capsys.readouterr().err
    assert told in err
    assert 1 == err.count("\n")


def test_each_process_has_a_gpu(monkeypatch, tmp_path, tiny, capsys):
    """Workers have GPUs of their own for each process; more than there are cannot be asked for."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    assert ["cuda:0", "cuda:2", "cuda:0"] == slots("cuda", 3, 2)
    assert ["cuda:0", "cuda:1", "cuda:2"] == slots("cuda", 3)

    monkeypatch.setattr("bnnbench.cli.run.usable_device", lambda device: device)
    url = str(tmp_path / "bnnbench.db")
    store = Store(url)
    store.create_study("s", tiny, "cmd", "0")
    store.engine.dispose()
    asked = ["study", "run", "s", "--storage", url, "--device", "cuda:3"]
    assert 2 == main([*asked, "--processes-per-run", "3"])
    assert "got --processes-per-run 3 on cuda:3 and 5 in all" in capsys.readouterr().err

"""From a run's description to a network that is ready to be trained."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from bnnbench.cli.progress import PlainProgress
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.measurements import Measurement
from bnnbench.needs import Need
from bnnbench.plugins import load_plugins
from bnnbench.roles import roles
from bnnbench.runs import Part, Run
from bnnbench.store import Entry
from bnnbench_plugins.architectures.mlp import mlp

RUN = Run(
    Part("digits"), Part("mlp", {"depth": 1, "width": 16}), Part("squared-hinge"), Part("bop"),
    seed=1, epochs=2, batch_size=100,
)  # fmt: skip


def test_roles_are_disjoint_and_complete():
    """Every parameter has one role; the outer layers are marked."""
    network = mlp(shape=(4,), classes=3, depth=2, width=5, first="real")

    found = roles(network)

    names = [name for name, _ in network.named_parameters()]
    assert names == [role["parameter"] for role in found]
    weights = {r["parameter"]: (r["role"], r["place"]) for r in found if "dense" in r["parameter"]}
    assert {
        "dense1.weight": ("real", "first"),
        "dense2.weight": ("binary", ""),
        "dense3.weight": ("binary", "last"),
    } == weights


def test_network_that_is_too_large_is_one_line():
    """A width that no memory holds is the user's mistake, not a plugin's."""
    run = replace(RUN, architecture=Part("mlp", {"width": 99_999_999_999}))

    with pytest.raises(UsageError, match="width = 99999999999 does not fit into memory"):
        Workbench(load_plugins()).prepare(run)


def test_progress_shows_validation_and_counts_epochs_once(capsys):
    """What is shown live is never the test split's; the final judging is no epoch."""
    entry = Entry(
        "t", "m", "confirm", 1, 1, RUN, "running", {"judged": "binary"}, "", False, "", 0, 0
    )
    accuracy = Measurement("accuracy", 90.0, 1, "validation", "binary")
    progress = PlainProgress()
    with progress.watching("s", [Need("t", "m", 0, 1, 2)]):
        progress.run_started(entry)
        for _ in range(2):
            progress.epoch_ended(entry, [Measurement("loss", 0.1, 1, "train"), accuracy])
        progress.epoch_ended(entry, [accuracy._replace(split="test", value=10.0, epoch=2)])
        progress.run_ended(entry, "done", "")

    out = capsys.readouterr().out
    assert "study s: 1 run to do" in out
    assert "seed 1: last epoch accuracy 90.00 %, done in 0 s; 0 s left" in out


def test_progress_shows_life_in_a_long_epoch(capsys, monkeypatch):
    """Where no epoch ends for long a line says that the run goes on; after it, nothing does."""
    monkeypatch.setattr("bnnbench.cli.progress.QUIET", 0.03)
    facts = {"judged": "binary"}
    entry = Entry("t", "m", "confirm", 1, 1, RUN, "running", facts, "", False, "", 0, 0)
    progress = PlainProgress()
    with progress.watching("s", [Need("t", "m", 0, 2, 4)]):
        time.sleep(0.1)  # no run is at work
        progress.run_started(entry)
        time.sleep(0.3)
        progress.run_ended(entry, "done", "")
        time.sleep(0.1)
    time.sleep(0.1)

    lines = capsys.readouterr().out.splitlines()
    assert "study s: 2 runs to do" in lines[0]
    assert {"t m confirm seed 1: 0 of 2 epochs done"} == {*lines[1:-1]}
    assert "done in" in lines[-1]


def test_a_batch_of_one_is_refused_where_it_cannot_be_normalized():
    """Batch normalization has no variance of one example: said before anything is trained."""
    with pytest.raises(UsageError, match=r"must take batches of \(1, .*; take a larger batch_size"):
        Workbench(load_plugins()).check(replace(RUN, batch_size=1))

"""From a run's description to a network that is ready to be trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bnnbench.cli.progress import PlainProgress
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench, operations
from bnnbench.measurements import Measurement
from bnnbench.needs import Need
from bnnbench.plugins import load_plugins
from bnnbench.roles import roles
from bnnbench.runs import Part, Run
from bnnbench.store import Entry
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp

RUN = Run(
    Part("digits"), Part("mlp", {"depth": 1, "width": 16}), Part("squared-hinge"), Part("bop"),
    seed=1, epochs=2, batch_size=100,
)  # fmt: skip


@pytest.fixture
def threads():
    """Some threads to choose from, and the old number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_small_networks_get_one_thread(threads):
    """The network alone decides, unless the user does."""
    large = replace(RUN, architecture=Part("mlp", {"depth": 2, "width": 1024}))

    found = []
    for run, wanted in ((RUN, None), (large, None), (RUN, 2)):
        torch.set_num_threads(threads)
        Workbench(load_plugins(), threads=wanted).prepare(run)
        found.append(torch.get_num_threads())

    assert [1, 2, 2] == found


def test_operations_are_two_for_each_product():
    """A dense layer multiplies and adds each weight once; a convolution at each place."""
    dense = mlp(shape=(1, 28, 28), classes=10)
    convolutions = binarynet(shape=(3, 32, 32), classes=10)

    assert 100 * 2 * 2_910_208 == operations(dense, (100, 1, 28, 28))
    assert pytest.approx(2 * 617.0e6, rel=1e-3) == operations(convolutions, (1, 3, 32, 32))


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
    assert "study s: 1 runs to do" in out
    assert "[1/1] t m confirm seed 1: accuracy 90.00 %, done in 0 s; 0 s left" in out

"""A network is trained as the machine does it fastest, and the same way when it is taken up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from torch import nn

from bnnbench import pace
from bnnbench.checkpoints import Checkpoints
from bnnbench.experiments import Workbench
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryConv2d
from bnnbench.pace import Pace, onednn_is_exact, pace_of
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.losses import squared_hinge

RUN = Run(
    Part("digits"), Part("mlp", {"depth": 1, "width": 16}), Part("squared-hinge"), Part("bop"),
    seed=1, epochs=2, batch_size=100,
)  # fmt: skip


@pytest.fixture(autouse=True)
def settings():
    """Torch's settings, as they were before."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


def machine(monkeypatch, seconds):
    """A machine on which a step takes so many seconds, by what is chosen; returns what it tried."""
    tried = []

    def spent(network, batch, choices):
        tried.extend(choices)
        return tuple(map(seconds, choices))

    monkeypatch.setattr(pace, "_seconds", spent)
    monkeypatch.setattr(pace, "onednn_is_exact", lambda: True)
    return tried


@pytest.mark.parametrize(
    ("faster", "expected"),
    [
        ({}, Pace()),
        ({"threads": 1.1}, Pace()),
        ({"threads": 1.3}, Pace(threads=4)),
        ({"threads": 1.3, "products": 2.0}, Pace(threads=4, products="onednn")),
        ({"channels_last": 1.5}, Pace(channels_last=True)),
        ({"threads": 0.5, "products": 2.0, "channels_last": 1.1}, Pace(products="onednn")),
    ],
)
def test_what_is_a_fifth_faster_is_chosen(monkeypatch, faster, expected):
    """Each choice by itself, on top of those before; less than a fifth may be noise."""
    usual = asdict(Pace())

    def seconds(choice):
        changed = [name for name, value in asdict(choice).items() if value != usual[name]]
        left = 1.0
        for name in changed:
            left /= faster.get(name, 1.0)
        return left

    machine(monkeypatch, seconds)

    assert expected == pace_of(nn.Conv2d(3, 2, 1), (5, 3, 4, 2), None, 4)


def test_the_first_measurement_counts(monkeypatch, tmp_path):
    """What was found is kept: the same network gets it again, though the machine has changed."""
    network, batch = nn.Linear(3, 2), (5, 3)
    tried = machine(monkeypatch, lambda choice: 1 / choice.threads)
    assert Pace(threads=4) == pace_of(network, batch, None, 4, tmp_path)
    looks = len(tried)
    machine(monkeypatch, lambda choice: choice.threads)

    assert Pace(threads=4) == pace_of(network, batch, None, 4, tmp_path)
    assert looks == len(tried)
    assert Pace() == pace_of(network, (6, 3), None, 4, tmp_path)
    assert Pace(threads=3) == pace_of(network, batch, 3, 4, tmp_path)
    (tmp_path / "other").write_text("")  # nothing else lies about
    assert {"pace", "other"} == {path.name.split("-")[0] for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["", "[1]", '{"threads": 2, "more": 1}', "\xff"])
def test_a_damaged_file_is_measured_again(monkeypatch, tmp_path, text):
    """What cannot be read is written anew."""
    machine(monkeypatch, lambda choice: 1 / choice.threads)
    pace_of(nn.Linear(3, 2), (5, 3), None, 4, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(text, encoding="latin-1")

    assert Pace(threads=4) == pace_of(nn.Linear(3, 2), (5, 3), None, 4, tmp_path)
    assert 4 == json.loads(path.read_text())["threads"]


def test_another_process_was_first(monkeypatch, tmp_path):
    """Two that measure at the same time go on with what the first has kept."""
    network = nn.Linear(3, 2)

    def seconds(choice):
        if choice.threads == 4:
            machine(monkeypatch, lambda choice: 1.0)
            assert Pace() == pace_of(network, (5, 3), None, 4, tmp_path)  # the other process
        return 1 / choice.threads

    machine(monkeypatch, seconds)

    assert Pace() == pace_of(network, (5, 3), None, 4, tmp_path)


def test_a_folder_that_cannot_be_written_to(monkeypatch, tmp_path):
    """Then each process measures for itself."""
    machine(monkeypatch, lambda choice: 1 / choice.threads)
    (tmp_path / "file").write_text("")

    assert Pace(threads=4) == pace_of(nn.Linear(3, 2), (5, 3), None, 4, tmp_path / "file" / "sub")


@pytest.mark.parametrize(
    ("layer", "tried"),
    [
        (nn.Conv2d(1, 4, 1, stride=2), True),
        (nn.Conv2d(2, 4, 1, stride=2), False),
        (nn.Conv2d(7, 4, 1, stride=(1, 2)), False),
        (nn.Conv2d(4, 4, 1, stride=4), False),
        (BinaryConv2d(4, 4, 1, stride=2), False),
        (nn.Conv2d(8, 4, 1, stride=2), True),
        (nn.Conv2d(4, 4, 1), True),
        (nn.Conv2d(4, 4, 3, stride=2), True),
        (nn.Linear(4, 4), True),
    ],
)
def test_channels_last_is_not_tried_where_it_breaks_memory(monkeypatch, layer, tried):
    """Torch writes beyond what strided 1x1 convolutions of 2 to 7 channels have."""
    choices = machine(monkeypatch, lambda choice: 1.0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), layer))

    pace_of(network, (5, 3, 8, 8), 1, 1)

    assert tried == any(choice.channels_last for choice in choices)


def test_a_network_that_would_break_memory_is_measured():
    """A process that measures one ends well: with channels innermost torch 2.13 kills it."""
    code = (
        "from torch import nn; from bnnbench.pace import pace_of;"
        " shortcut = nn.Conv2d(4, 8, 1, stride=2, bias=False);"
        " network = nn.Sequential(nn.Conv2d(3, 4, 3), shortcut);"
        " print(pace_of(network, (8, 3, 18, 18), 1, 1).channels_last)"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (0, "False") == (ran.returncode, ran.stdout.strip()), ran.stderr


def test_measuring_leaves_the_network_alone():
    """Weights, statistics, modes and random numbers are as before, on the machine as it is."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()

    found = pace_of(network.eval(), (4, 1, 8, 8), None, 2)

    assert found.threads in (1, 2)
    assert not network.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_exactness_is_measured():
    """What says that oneDNN is exact must agree with a product in double precision."""
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    torch.set_float32_matmul_precision("medium")
    error = float((a @ b - a.double() @ b.double()).abs().max())

    assert onednn_is_exact() == (error < 1e-3)
    assert "medium" == torch.get_float32_matmul_precision()


def test_a_run_is_prepared_at_its_pace(monkeypatch, tmp_path):
    """Threads and products are set when a run is prepared; a number that is asked for is kept."""
    machine(monkeypatch, lambda choice: 1 / choice.threads + (choice.products == "default"))
    torch.set_num_threads(2)
    plugins, kept = load_plugins(), Checkpoints(tmp_path)
    Workbench(plugins, checkpoints=kept).prepare(RUN)
    free = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(2)
    Workbench(plugins, threads=1, checkpoints=kept).prepare(RUN)

    assert (2, "medium") == free
    assert 1 == torch.get_num_threads()
    assert 2 == len(list(tmp_path.glob("pace-*.json")))


def measured(channels_last, way, epochs=3):
    """The numbers of a small convolutional training, and the training."""
    torch.manual_seed(0)
    model = binarynet(shape=(3, 16, 16), classes=3, width=4, dense=8)
    generator = torch.Generator().manual_seed(1)
    split = Split(
        torch.randn(40, 3, 16, 16, generator=generator),
        torch.randint(3, (40,), generator=generator),
    )
    data = Dataset(split, split, split, classes=3)
    settings = Settings(epochs, 20, 0, update=way, channels_last=channels_last)
    method = binaryconnect(binarization="deterministic", lr=1e-2)
    return Training(model, method, data, squared_hinge(), settings)


@pytest.mark.parametrize("way", ["separate", "compiled"])
def test_channels_last_changes_rounding_only(way):
    """The loss of each epoch is that of the usual memory order."""
    losses = [
        [m.value for epoch in measured(last, way) for m in epoch if m.split == "train"]
        for last in (False, True)
    ]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert 3 == len(losses[0])


@pytest.mark.parametrize("way", ["separate", "compiled"])
def test_channels_last_is_taken_up(tmp_path, way):
    """A training in that order goes on bit for bit after it went through a file."""
    calm = [m for epoch in measured(True, way) for m in epoch if not m.metric.startswith("seconds")]
    first = measured(True, way)
    found = []
    for epoch in first:
        found += epoch
        if first.epoch == 1:
            break
    kept = Checkpoints(tmp_path)
    kept.save_training(RUN, first.state())
    second = measured(True, way)
    second.load(kept.training(RUN))
    found += [m for epoch in second for m in epoch]

    assert calm == [m for m in found if not m.metric.startswith("seconds")]

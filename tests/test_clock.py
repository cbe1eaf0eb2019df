"""The clock and the seeds on a machine with GPUs, which stands in for a real one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnnbench.buckets import BUCKETS, EVALUATION, OTHER, PROBES, TRAIN
from bnnbench.cli.devices import usable_device
from bnnbench.clock import Clock
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.seeds import RandomState, derive
from bnnbench.training import Settings, Training
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.ste import ste

from .gpus import Gpus


@pytest.fixture
def gpus(monkeypatch):
    return Gpus().replace(monkeypatch)


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_seconds_are_those_of_the_device_that_trains(gpus, device):
    """A bucket has the time that passes in the queue of its GPU, whichever is current."""
    other = ({"cuda:0", "cuda:1"} - {device}).pop()
    clock = Clock(device)

    def pass_(milliseconds):
        gpus.clocks[device] += milliseconds
        gpus.clocks[other] += 1000

    pass_(1)
    for _ in range(3):
        clock.enter(TRAIN)
        pass_(20)
        with clock.within(PROBES):
            pass_(300)
    clock.enter(EVALUATION)
    pass_(4000)
    laps = clock.lap()
    pass_(5)

    expected = {OTHER: 0.001, TRAIN: 0.06, PROBES: 0.9, EVALUATION: 4.0}
    assert {**dict.fromkeys(BUCKETS, 0.0), **expected} == pytest.approx(laps)
    assert [device] == gpus.waits
    assert {EVALUATION: 0.005} == pytest.approx({k: v for k, v in clock.lap().items() if v})
    assert "cuda:0" == gpus.current


class Moving(nn.Sequential):
    """A network that lets the GPUs begin as it moves there, as any would."""

    def to(self, device):
        self.gpus.init()
        return super().to(device)


def test_the_first_training_of_a_process_is_seeded(gpus):
    """Its GPU's generator is the run's, though nothing has used a GPU before."""
    model = Moving(BinaryLinear(3, 2))
    model.gpus = gpus
    split = Split(torch.zeros(4, 3), torch.zeros(4).long())
    data = Dataset(split, split, split, classes=2)
    seed = derive(5, "training")

    training = Training(model, ste(), data, squared_hinge(), Settings(1, 2, 5))

    assert [seed, seed] == training.random.cuda
    assert [7, 8] == gpus.states  # the caller's


def test_a_state_in_force_goes_on(gpus):
    """Within the block the GPUs go on where the run was; outside they are the caller's."""
    gpus.init()
    random = RandomState(3)
    for expected in ([3, 3], [4, 3]):
        with random.in_force():
            assert expected == gpus.states
            gpus.states[0] += 1
        assert [7, 8] == gpus.states


def test_a_state_of_more_gpus(gpus):
    """A run that began on a machine of three GPUs goes on where there are two."""
    gpus.init()
    random = RandomState(3)
    random.cuda = [1, 2, 3]
    with random.in_force():
        assert [1, 2] == gpus.states


def test_a_gpu_that_is_found_begins(gpus):
    """--device auto takes it, and lets it begin, so that the first network's seed reaches it."""
    assert "cuda" == usable_device("auto")
    assert gpus.started

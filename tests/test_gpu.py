"""Training on a GPU is the training of the CPU, within rounding, and no step waits for it."""

from __future__ import annotations

import copy
import math
from itertools import islice

import pytest
import torch

from bnnbench.buckets import TRAIN, WARMUP
from bnnbench.clock import Clock
from bnnbench.interfaces import Dataset, Split
from bnnbench.probes import FlipProbe
from bnnbench.seeds import RandomState
from bnnbench.training import Settings, Training
from bnnbench.updates import OnePass, Separate
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.augmentations import augmentation
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.ste import ste

from .test_updates import Moved, every_pair

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

METHODS = {"bc": binaryconnect(), "ste": ste(), "bop": bop(), "bmd": bmd(), "bnew": bnew(relax=0)}
WAYS = ("separate", "compiled")
every_method = pytest.mark.parametrize("name", METHODS)
both_ways = pytest.mark.parametrize("way", WAYS)


def data(augment=None):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(240, 3, 4, 4, generator=generator)
    targets = (inputs[:, 0, 0, 0] > 0).long() + (inputs[:, 1, 1, 1] > 0)
    splits = [Split(inputs[a:b], targets[a:b]) for a, b in ((0, 160), (160, 200), (200, 240))]
    splits[0] = Split(splits[0].inputs, splits[0].targets, augment)
    return Dataset(*splits, classes=3)


def begun(name, device, way, epochs=3, augment=None, dropout=0.0, **settings):
    """A training of a small network, which is the same on every device."""
    with RandomState(5).in_force():
        model = mlp(shape=(3, 4, 4), classes=3, depth=2, width=32, dropout=dropout)
    given = Settings(epochs, 20, 0, device=device, update=way, select="last", **settings)
    return Training(model, METHODS[name], data(augment), squared_hinge(), given, [FlipProbe()])


def told(epochs):
    """The measurements but times, by their place."""
    found = [m for measured in epochs for m in measured if not m.metric.startswith("seconds")]
    return {(m.metric, m.epoch, m.split, m.mode, m.layer): m.value for m in found}


@both_ways
@every_method
def test_it_is_the_training_of_the_cpu(name, way):
    """After two epochs losses and flip rates are those of the CPU, within rounding."""
    here, there = (told(islice(begun(name, d, way), 3)) for d in ("cpu", "cuda"))

    assert here.keys() == there.keys()
    for place, value in here.items():
        if place[0] in ("loss", "flip_step", "flip_epoch", "flip_init"):
            assert value == pytest.approx(there[place], rel=0.02, abs=0.004), place


@every_pair
def test_the_pass_agrees_with_the_operations(name):
    """Latents and flips of the compiled pass are those of the separate operations on a GPU."""
    one, other = (Moved(way, name, device="cuda") for way in (OnePass, Separate))
    flips = 0
    for _ in zip(one.go(6), other.go(6), strict=True):
        for layer, latent in one.latents.tensors.items():
            expected = other.latents.tensors[layer]
            torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
        counted, compared = (
            {k: int(v) for k, v in moved.latents.flips.by_layer().items()} for moved in (one, other)
        )
        assert counted == pytest.approx(compared, abs=1)
        flips += sum(counted.values())
    assert flips > 0


@both_ways
@every_method
def test_flips_are_counted_exactly(name, way):
    """The flip rate of an epoch is that of a comparison of all signs after every step."""

    class Signs(FlipProbe):
        """Compares copies on the CPU."""

        counted = 0

        def step(self, latents):
            now = {k: (w >= 0).cpu() for k, w in latents.tensors.items()}
            self.counted += sum(int((now[k] != self.seen[k]).sum()) for k in now)
            self.seen = now
            super().step(latents)

        def epoch(self, latents):
            self.seen = {k: (w >= 0).cpu() for k, w in latents.tensors.items()}
            return super().epoch(latents)

    training = begun(name, "cuda", way)
    probe = Signs()
    training.probes = [probe]
    epochs = iter(training)
    next(epochs)
    found = {m.metric: m.value for m in next(epochs) if not m.layer}

    total = len(training.latents) * training.steps
    assert probe.counted / total == pytest.approx(found["flip_step"], abs=1e-12)


@both_ways
@every_method
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits(name, way, precision):
    """In an epoch's steps nothing asks the GPU for a number, augmentation and flips included."""
    augment = augmentation("crop-flip", torch.zeros(3))
    training = begun(name, "cuda", way, augment=augment, dropout=0.2, precision=precision)
    epochs, steps, seen = iter(training), training._steps, []

    def watched(stretch):
        torch.cuda.set_sync_debug_mode("error")
        try:
            with pytest.raises(RuntimeError, match="synchronizing"):
                torch.ones((), device="cuda").item()  # so that somebody who waited would be seen
            seen.append(stretch.number)
            return steps(stretch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    next(epochs)
    next(epochs)  # memory is set up, and what is compiled is
    training._steps = watched
    (loss,) = (m.value for m in next(epochs) if (m.metric, m.split) == ("loss", "train"))

    assert 1 == len(seen)
    assert math.isfinite(loss)


@both_ways
@every_method
def test_resumed(name, way):
    """A training that is taken up goes on as it would have, dropout included, within rounding."""
    first = begun(name, "cuda", way, dropout=0.2)
    epochs = iter(first)
    list(islice(epochs, 2))
    state = copy.deepcopy(first.state())
    expected = told(epochs)
    second = begun(name, "cuda", way, dropout=0.2)
    second.load(state)
    torch.cuda.manual_seed_all(99)

    found = told(second)

    assert expected.keys() == found.keys()
    losses = {k: v for k, v in expected.items() if k[0] == "loss"}
    assert losses == pytest.approx({k: found[k] for k in losses}, rel=0.02, abs=0.004)


@both_ways
@every_method
def test_bf16(name, way):
    """Products in bf16 give the losses of fp32, to a few hundredths, and latents stay fp32."""
    training = begun(name, "cuda", way, precision="bf16")
    there = told(islice(training, 3))
    here = told(islice(begun(name, "cpu", way), 3))

    assert all(w.dtype == torch.float32 for w in training.latents.tensors.values())
    losses = {k: v for k, v in here.items() if k[0] == "loss"}
    assert losses == pytest.approx({k: there[k] for k in losses}, rel=0.1, abs=0.03)


def test_the_first_training_is_seeded():
    """Dropout on a GPU is that of the seed, whatever came before in the process."""
    first = told(islice(begun("bc", "cuda", "separate", dropout=0.5), 3))
    torch.cuda.manual_seed_all(1)
    torch.rand(7, device="cuda")

    again = told(islice(begun("bc", "cuda", "separate", dropout=0.5), 3))

    assert first == pytest.approx(again, rel=0.02, abs=0.004)


def test_the_clock_is_that_of_the_device():
    """Seconds are those of the device that trains, the last one, and not of the current one."""
    device = f"cuda:{torch.cuda.device_count() - 1}"
    clock = Clock(device)
    with clock.within(TRAIN):
        work = torch.rand(2000, 2000, device=device)
        for _ in range(200):
            work = (work @ work).clamp_(0, 1)
    laps = clock.lap()
    assert laps[TRAIN] > 0.5 * sum(laps.values()) > 0


def test_an_epoch_has_its_time():
    """The first epoch is warm-up, the second not, and both took a while."""
    epochs = iter(begun("bc", "cuda", "separate"))
    next(epochs)
    for bucket in (WARMUP, TRAIN):
        assert 0 < {m.metric: m.value for m in next(epochs)}[f"seconds.{bucket}"] < 60

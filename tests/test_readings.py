"""In an epoch the host waits for its device once, for all numbers together, however many steps."""

from __future__ import annotations

import math
from collections import Counter
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnnbench import readings
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.measurements import Measurement
from bnnbench.probes import FlipProbe
from bnnbench.sending import sent
from bnnbench.training import DivergedError, Settings, Training
from bnnbench_plugins.augmentations import augmentation
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.losses import cross_entropy, squared_hinge
from bnnbench_plugins.proxquant import proxquant
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste
from bnnbench_plugins.ternary import ternary
from bnnbench_plugins.xnor import xnor

#: a device without memory: torch raises where a number, or a size that depends on one, is asked for
FAR = torch.device("meta")
METHODS = {
    "real": real(),
    "ste": ste(),
    "stochastic": binaryconnect(),
    "bop": bop(),
    "bmd": bmd(),
    "bnew": bnew(relax=0),
    "proxquant": proxquant(),
    "ternary": ternary(),
    "xnor": xnor(),
}


class Copies(TorchDispatchMode):
    """Counts what is copied to the far device: the host goes on meanwhile, or waits."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given, result = kwargs or {}, function(*args, **(kwargs or {}))
        source = {
            torch.ops.aten._to_copy.default: args[:1],
            torch.ops.aten.copy_.default: args[1:2],
        }.get(function, ())
        if source and source[0].device != FAR and result.device == FAR:
            free = given.get("non_blocking", len(args) > 2 and args[2])
            self.seen["free" if free else "waits"] += 1
        return result


class Teller:
    """A probe of a stranger, whose value lies on the device."""

    def step(self, latents):
        pass

    def epoch(self, latents):
        yield Measurement("size", next(iter(latents.tensors.values())).abs().max())

    def state(self):
        return {}

    def load(self, state):
        pass


@pytest.fixture
def asked(monkeypatch):
    """How many numbers were asked for, each time; nobody knows them, so that they are 0."""
    times = []

    def zeros(values):
        times.append(sum(isinstance(value, torch.Tensor) for value in values))
        return [0.0 if isinstance(value, torch.Tensor) else value for value in values]

    monkeypatch.setattr(readings, "numbers", zeros)
    optimizers = import_module("torch.optim.optimizer")
    supported = "_get_fused_kernels_supported_devices"
    monkeypatch.setattr(optimizers, supported, lambda: ["cpu", "cuda", FAR.type])
    return times


def classes(steps, augment=None):
    """A task of two classes; an epoch has so many steps of 4."""
    train = Split(torch.zeros(4 * steps, 3, 8, 8), torch.zeros(4 * steps).long(), augment)
    few = Split(torch.zeros(5, 3, 8, 8), torch.zeros(5).long())
    return Dataset(train, few, few, classes=2)


def pixels(steps, augment=None):
    """The same with a class for each pixel."""
    train = Split(torch.zeros(4 * steps, 3, 8, 8), torch.zeros(4 * steps, 8, 8).long(), augment)
    few = Split(torch.zeros(5, 3, 8, 8), torch.zeros(5, 8, 8).long())
    return Dataset(train, few, few, classes=2, task="segmentation")


def network(data):
    if data.task == "segmentation":
        return nn.Sequential(BinaryConv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))
    flat = nn.Flatten(), BinaryLinear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.2)
    return nn.Sequential(*flat, BinaryLinear(6, 2))


def second_epoch(data, method, asked, loss=None, **settings):
    """The copies of an epoch after the first, and how often numbers were asked for in it."""
    given = Settings(3, 4, 0, device=FAR.type, update="separate", **settings)
    probes = [FlipProbe(), Teller()]
    training = Training(network(data), method, data, loss or squared_hinge(), given, probes)
    epochs = iter(training)
    next(epochs)  # before training
    next(epochs)
    asked.clear()
    with Copies() as copies:
        next(epochs)
    return copies.seen, [count for count in asked if count]


@pytest.mark.parametrize("name", METHODS)
def test_one_wait_in_an_epoch(name, asked):
    """Whatever the method, an epoch of 2 steps and one of 5 ask once, for the same numbers."""
    few, many = (second_epoch(classes(steps), METHODS[name], asked) for steps in (2, 5))

    assert few == many
    assert 1 == len(few[1])
    assert 8 <= few[1][0]  # the loss, those of validation, the flips and the stranger's
    assert {"free": 1} == few[0]  # the order of the examples


@pytest.mark.parametrize("name", ["flip", "crop-flip", "resized-crop-flip"])
@pytest.mark.parametrize("task", [classes, pixels])
def test_augmentation_does_not_wait(name, task, asked):
    """The chances of each batch follow it to the device, and nobody waits for them."""
    augment = augmentation(name, torch.zeros(3))
    few, many = (
        second_epoch(task(steps, augment), METHODS["ste"], asked, cross_entropy())
        for steps in (2, 5)
    )

    assert few[1] == many[1]
    assert 1 == len(few[1])
    assert 0 == few[0]["waits"] == many[0]["waits"]
    assert many[0]["free"] > few[0]["free"] > 2


def test_reestimation_does_not_wait(asked):
    """Batch normalization does not ask how many batches it has seen."""
    found = second_epoch(classes(5), METHODS["ste"], asked, reestimate=3)

    assert [({"free": 1}, 1)] == [(found[0], len(found[1]))]


def test_the_device_does_object():
    """A step that asks for a number is found out, and so is a copy that is waited for."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=FAR).sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=FAR).nonzero()
    with Copies() as copies:
        torch.ones(3).to(FAR)
        torch.zeros(3, device=FAR).copy_(torch.ones(3))
        sent(torch.ones(3), FAR)
    assert {"waits": 2, "free": 1} == copies.seen


def test_numbers_are_what_item_gives():
    """Numbers of any type keep their place, and become what each tensor's own item is."""
    tensors = [
        torch.tensor(0.1), torch.tensor(2**40 + 1), torch.tensor(math.pi, dtype=torch.float64),
        torch.tensor(True), torch.tensor(0.3, requires_grad=True) * 1,
        torch.tensor(0.7, dtype=torch.bfloat16),
    ]  # fmt: skip
    values = [1, *tensors[:3], 0.5, *tensors[3:]]

    found = readings.numbers(values)

    assert [getattr(value, "item", lambda value=value: value)() for value in values] == found
    assert all(type(value) is not torch.Tensor for value in found)


def test_a_probe_that_fails_on_what_diverged():
    """It is not to blame: the training has diverged, and says so; else the failure is its own."""

    class Strict(Teller):
        def epoch(self, latents):
            if not all(latent.isfinite().all() for latent in latents.tensors.values()):
                raise ValueError("no number")
            if self.broken:
                raise ValueError("broken")
            return ()

    def run(scale, broken):
        probe = Strict()
        probe.broken = False
        data = classes(2)
        loss = squared_hinge()
        settings = Settings(2, 4, 0, update="separate")
        parts = network(data), METHODS["real"], data, lambda *given: scale * loss(*given)
        epochs = iter(Training(*parts, settings, [probe]))
        next(epochs)
        probe.broken = broken
        list(epochs)

    with pytest.raises(DivergedError, match=r"^the training loss of epoch 1 is nan$"):
        run(math.nan, broken=False)
    with pytest.raises(ValueError, match="broken"):
        run(1.0, broken=True)
    run(1.0, broken=False)

"""Small trained networks, for the tests of what is packed."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from bnnbench.experiments import Workbench, weights
from bnnbench.interfaces import Dataset, Split
from bnnbench.pace import Pace
from bnnbench.packing.export import placed
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench_plugins.datasets.digits import digits

MLP = Part("mlp", {"depth": 2, "width": 48, "activation": "sign"})


@functools.cache
def images(side: int, train: int = 400, test: int = 150, classes: int = 10) -> Dataset:
    """Some of the digits, from 0 on, each pixel as many times as makes them so large."""
    given = digits()

    def large(split, count):
        chosen = (split.targets < classes).nonzero()[:count, 0]
        pixels = split.inputs[chosen].repeat_interleave(side // 8, 2)
        pixels = pixels.repeat_interleave(side // 8, 3)
        return Split(pixels.contiguous(), split.targets[chosen])

    parts = large(given.train, train), large(given.validation, 50), large(given.test, test)
    return Dataset(*parts, classes)


def inked(data: Dataset) -> Dataset:
    """Of each pixel of these images, whether there is ink."""
    splits = (
        Split(split.inputs, (split.inputs[:, 0] > 0).long())
        for split in (data.train, data.validation, data.test)
    )
    return Dataset(*splits, classes=2, task="segmentation")


class Bench(Workbench):
    """A workbench whose data set is given."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(load_plugins(), threads=1)
        self.data = data

    def dataset(self, part):
        return self.data

    def _pace(self, network, batch):
        pace = Pace()  # what would be faster here takes seconds to find out
        pace.set()
        return pace


def run_of(bench, method="bop", architecture=MLP, epochs=4, seed=1, **hyper) -> Run:
    """The run of a method with its defaults, but for what is given."""

    def part(kind, name, values):
        return Part(name, bench.complete(kind, name, values))

    return Run(
        dataset=Part("digits"),
        architecture=part("architectures", architecture.name, architecture.hyperparameters),
        loss=part("losses", "squared-hinge", {}),
        method=part("methods", method, hyper),
        seed=seed,
        epochs=epochs,
        batch_size=50,
        test=True,
        probes=(),
    )


def given_to(architecture, side, train, test, classes):
    """What a network is trained on: a U-Net has a class for each pixel."""
    data = images(side, train, test, classes)
    return inked(data) if architecture == "unet" else data


@functools.cache
def _trained(side, method, architecture, shape, epochs, hyper, sizes):
    bench = Bench(given_to(architecture, side, *sizes))
    run = run_of(bench, method, Part(architecture, dict(shape)), epochs, **dict(hyper))
    if architecture == "unet":
        run = replace(run, loss=Part("cross-entropy"))
    return train(bench, run)


def train(bench, run):
    """Train a run: its weights in the binary mode, its test accuracies by mode."""
    training = bench.prepare(run).training()
    *_, last = training
    accuracy = {m.mode: m.value for m in last if (m.metric, m.split) == ("accuracy", "test")}
    return weights(run, training, "binary"), accuracy


def trained(
    method="bop", architecture=MLP, side=8, epochs=4, sizes=(400, 150), classes=10, **hyper
):
    """A trained network in its binary mode, its data, and its test accuracies by mode.

    ``sizes`` are the images to train on and to test with, of so many classes. Each is trained once;
    the network is a new one each time.
    """
    sizes = (*sizes, classes)
    shape = tuple(sorted(architecture.hyperparameters.items()))
    given = (method, architecture.name, shape, epochs, tuple(sorted(hyper.items())), sizes)
    kept, accuracy = _trained(side, *given)
    data = given_to(architecture.name, side, *sizes)
    return placed(kept, Bench(data).network(kept.run)), data, accuracy


def batch(data: Dataset, count: int = 64) -> torch.Tensor:
    """Some test images."""
    return data.test.inputs[:count]

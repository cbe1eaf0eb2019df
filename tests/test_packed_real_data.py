"""Networks trained on real MNIST and CIFAR-10 are packed and compared on the whole test split."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from bnnbench.downloads import data_root
from bnnbench.experiments import Workbench, weights
from bnnbench.packed import load
from bnnbench.packing.export import export, placed
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench_plugins.datasets.mnist import SOURCE

from .test_cifar import FOLDER
from .test_datasets import holds
from .test_packed_parity import METHODS, mlp, named

MNIST = pytest.mark.skipif(not holds(SOURCE), reason="BNNBENCH_DATA does not hold MNIST")
CIFAR = pytest.mark.skipif(
    not (data_root() / "cifar10" / FOLDER).is_dir(), reason="BNNBENCH_DATA does not hold CIFAR-10"
)


@functools.cache
def workbench():
    """The place where they are trained; it reads each data set once."""
    return Workbench(load_plugins(), threads=1)


def exported(dataset, architecture, method, path, epochs=1):
    """A network that was trained on real images, and what was compared."""
    bench = workbench()

    def part(kind, given):
        return Part(given.name, bench.complete(kind, given.name, given.hyperparameters))

    run = Run(
        dataset=part("datasets", dataset),
        architecture=part("architectures", architecture),
        loss=part("losses", Part("squared-hinge")),
        method=part("methods", method),
        seed=1,
        epochs=epochs,
        batch_size=50,
        test=True,
        probes=(),
    )
    training = bench.prepare(run).training()
    *_, last = training
    network = placed(weights(run, training, "binary"), bench.network(run))
    made = export(network, bench.dataset(run.dataset), path, "real")
    (accuracy,) = (
        m.value for m in last if (m.metric, m.split, m.mode) == ("accuracy", "test", "binary")
    )
    assert made.compared.accuracy == accuracy
    return made, accuracy, bench.dataset(run.dataset)


@MNIST
def test_mnist(tmp_path):
    """An MLP of signs predicts the same on all 10,000 images, given their bytes."""
    shape = Part("mlp", {"width": 100, "depth": 2, "activation": "sign"})
    dataset = Part("mnist", {"train": 10_000})
    made, accuracy, data = exported(dataset, shape, Part("bop"), tmp_path / "m")
    assert (made.compared.examples, made.compared.differing) == (10_000, 0)
    assert accuracy > 80
    raw = (data.test.inputs[:500] * 255).round().to(torch.uint8).numpy()
    packed = load(tmp_path / "m")
    inputs = packed.preprocess(raw)
    assert np.array_equal(inputs.numpy(), data.test.inputs[:500].numpy())
    right = (packed(inputs).argmax(1) == data.test.targets[:500]).float().mean()
    assert right > 0.8


@MNIST
@pytest.mark.parametrize(("method", "given"), METHODS, ids=named(METHODS))
def test_every_method_on_mnist(method, given, tmp_path):
    """Of each method a network of 80 steps on real images predicts the same on all 10,000.

    Three times chance says that it has learned.
    """
    dataset, part = Part("mnist", {"train": 1_000}), Part(method, given)
    made, accuracy, _ = exported(dataset, mlp(method, width=32), part, tmp_path / "m", epochs=4)
    assert (made.compared.examples, made.compared.differing) == (10_000, 0)
    assert made.integers.equal == 256 * (32 if method == "frozen-random" else 32 + 10)
    assert accuracy > 30


@CIFAR
@pytest.mark.parametrize("method", ["bop", "xnor"])
def test_cifar10(method, tmp_path):
    """A network of binary convolutions predicts the same on all test images of CIFAR-10."""
    values = {"width": 8, "dense": 64, "activation": "sign"}
    dataset = Part("cifar10", {"train": 2_000, "incomplete": True, "preprocessing": "signed"})
    given = Part(method, {} if method == "bop" else {"lr": 1e-2})
    made, accuracy, data = exported(dataset, Part("binarynet", values), given, tmp_path / "m")
    assert (made.compared.examples, made.compared.differing) == (len(data.test), 0)
    assert accuracy > 15
    assert made.integers.layers == 8

"""The synthetic sets: their shapes, their bits, and that a small network learns them in part."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnnbench_plugins.augmentations import Augment
from bnnbench_plugins.datasets import prototypes
from bnnbench_plugins.datasets.prototypes import Classes, Pets, examples
from bnnbench_plugins.datasets.synthetic import (
    Pointwise,
    synthetic_cifar10,
    synthetic_cifar100,
    synthetic_imagenet,
    synthetic_mnist,
    synthetic_pets,
    synthetic_svhn,
)
from bnnbench_plugins.preprocessing import Preprocessing

SPLITS = ("train", "validation", "test")
FEW = {"train": 30, "validation": 20, "test": 10}
SETS = {
    synthetic_mnist: ((1, 28, 28), 10),
    synthetic_cifar10: ((3, 32, 32), 10),
    synthetic_cifar100: ((3, 32, 32), 100),
    synthetic_svhn: ((3, 32, 32), 10),
    synthetic_imagenet: ((3, 64, 64), 10),
    synthetic_pets: ((3, 64, 64), 3),
}
every_set = pytest.mark.parametrize("factory", SETS, ids=lambda factory: factory.__name__)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path))


@every_set
def test_shapes(factory):
    """Each set has its model's shape and classes, the asked sizes, and is marked synthetic."""
    data, (shape, classes) = factory(**FEW), SETS[factory]
    pets = factory is synthetic_pets

    assert (shape, classes, True) == (data.shape, data.classes, data.synthetic)
    assert ("segmentation" if pets else "classification") == data.task
    for name, count in FEW.items():
        split = getattr(data, name)
        assert (torch.float32, (count, *shape)) == (split.inputs.dtype, tuple(split.inputs.shape))
        assert (count, *shape[1:]) if pets else (count,) == tuple(split.targets.shape)
        assert (torch.int64, 0) == (split.targets.dtype, split.targets.min())
        assert split.targets.max() < classes
    assert 3 == len({getattr(data, name).fingerprint() for name in SPLITS})


def digest(kind, split="train", count=20):
    images, targets = examples(kind, split, count)
    content = images.tobytes() + targets.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:12]


def test_the_same_bits_everywhere():
    """The bytes are the same in every run and on every machine: here is what they come to."""
    found = {
        "classes": digest(Classes((1, 28, 28), 10, 0.5, 1, w=1)),
        "colours": digest(Classes((3, 32, 32), 10, 0.5, 2, w=3), "test"),
        "pets": digest(Pets((3, 64, 64), 3, 0.5, 6)),
    }

    assert found == {
        "classes": "bdb95a054244",
        "colours": "2bba4d138561",
        "pets": "bcf35052095a",
    }


@pytest.mark.parametrize(
    "kind", [Classes((3, 16, 16), 7, 0.5, 9), Pets((3, 16, 16), 3, 0.5, 9)], ids=["classes", "pets"]
)
def test_a_larger_set_begins_with_the_smaller(kind, monkeypatch):
    """An example depends on its number alone, not on how many there are or will be drawn."""
    monkeypatch.setattr(prototypes, "STRETCH", 50)
    images, targets = examples(kind, "train", 130)

    for count in (1, 49, 50, 51, 100):
        few, of_few = examples(kind, "train", count)
        np.testing.assert_array_equal(images[:count], few)
        np.testing.assert_array_equal(targets[:count], of_few)
    assert 130 == len({image.tobytes() for image in images})
    assert not (examples(kind, "test", 130).images == images).all()


def test_classes_are_balanced():
    """Each class is as often there as the others."""
    for split in SPLITS:
        targets = examples(Classes((1, 16, 16), 7, 0.5, 9), split, 700).targets
        assert [100] * 7 == np.bincount(targets).tolist()


def test_prototypes():
    """A prototype is the linear interpolation of its grid, but for what rounding down takes."""
    made = prototypes._prototypes(2, (3, 16, 24), np.random.RandomState(0))
    exact = np.random.RandomState(0).randint(0, 256, (2, 3, 5, 5), dtype=np.uint8)

    for axis, side in ((2, 18), (3, 27)):
        places = np.linspace(0, 4, side)
        exact = np.apply_along_axis(lambda x, at=places: np.interp(at, range(5), x), axis, exact)
    assert exact.shape == made.shape
    assert 0 <= (exact - made).max() < 3.5
    assert (exact - made).min() > -1.5  # a place is rounded down, too, to 1/256 of a step


@pytest.mark.parametrize("w", [0, 1, 2, 3, 4])
def test_images_of_classes(w):
    """Without noise an image is ((4 - w) p + w q) / 4 of windows that are found in prototypes."""
    kind = Classes((1, 8, 8), 3, 0.0, 4, w=w)
    canvases = kind.prototypes(np.random.RandomState([4, 0])).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(canvases[:, 0], (8, 8), (1, 2))
    others = windows[: prototypes.OTHERS].reshape(-1, 8, 8)

    images, targets = examples(kind, "train", 12)

    for image, target in zip(images[:, 0], targets, strict=True):
        views = [prototypes.OTHERS + target + 3 * view for view in range(prototypes.VIEWS)]
        mine = windows[views].reshape(-1, 1, 8, 8)
        made = ((4 - w) * mine + w * others) // 4
        assert (made == image).all((-1, -2)).any()


@pytest.mark.parametrize(
    ("noise", "low", "high"), [(0.25, -32, 31), (0.5, -64, 63), (1, -128, 127)]
)
def test_noise(noise, low, high):
    """Noise is as strong as it says: uniform, of the given share of the range."""
    quiet, loud = (Classes((3, 32, 32), 5, strength, 7) for strength in (0.0, noise))
    before, after = (examples(kind, "train", 100).images.astype(int) for kind in (quiet, loud))

    inner = (-low <= before) & (before < 256 - high)  # nothing is clipped there
    change = (after - before)[inner]
    assert (low, high) == (change.min(), change.max())
    assert abs(change.mean() + 0.5) < 0.02 * high + 0.1
    assert abs(change.std() - (high - low + 1) / 12**0.5) < 0.02 * high


def test_pets_are_ellipses():
    """In each image one ellipse, a border around it, and background at the corners."""
    _, targets = examples(Pets((3, 64, 64), 3, 0.5, 6), "train", 60)

    for target in targets:
        assert {0, 1, 2} == {*target.ravel().tolist()}
        assert [1] * 4 == [target[0, 0], target[0, -1], target[-1, 0], target[-1, -1]]
        rows, columns = np.nonzero(target == 0)
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(len(rows) - np.pi * tall * wide / 4) < 0.1 * tall * wide
        beside = [np.roll(target == 0, step, axis) for axis in (0, 1) for step in (1, -1)]
        assert not (np.any(beside, 0) & (target == 1)).any()


def test_textures_of_pets():
    """Pets are redder than backgrounds, and borders are in between."""
    images, targets = examples(Pets((3, 64, 64), 3, 0.0, 6), "train", 60)
    redness = images[:, 0].astype(int) - images[:, 2]

    pet, background, border = (redness[targets == label].mean() for label in range(3))
    assert background + 60 < border < pet - 40


@pytest.mark.parametrize("preprocessing", get_args(Preprocessing))
def test_every_preprocessing_and_augmentation(preprocessing):
    """Every preprocessing goes with every augmentation."""
    coloured = preprocessing.endswith("-standardized")
    factory = synthetic_cifar10 if coloured else synthetic_mnist
    for augmentation in get_args(Augment):
        data = factory(preprocessing=preprocessing, augmentation=augmentation, **FEW)
        inputs, targets = next(data.train.batches(30, None, torch.Generator().manual_seed(0)))

        assert inputs.isfinite().all()
        assert data.train.inputs.shape == inputs.shape
        assert data.train.targets.equal(targets)
        assert (augmentation == "none") == inputs.equal(data.train.inputs)


@pytest.mark.parametrize("augmentation", get_args(Augment))
def test_augmented_pets(augmentation):
    """Where pixels move, so do their targets: pets stay redder than backgrounds."""
    data = synthetic_pets(augmentation=augmentation, noise=0.0, **FEW)
    inputs, targets = next(data.train.batches(30, None, torch.Generator().manual_seed(1)))

    redness = inputs[:, 0] - inputs[:, 2]
    assert redness[targets == 0].mean() > 0.4 + redness[targets == 1].mean()
    assert (augmentation == "none") == targets.equal(data.train.targets)


def test_pointwise_names():
    """What the larger sets offer is a part of what there is."""
    assert {*get_args(Pointwise)} < {*get_args(Preprocessing)}


def test_sizes_and_classes():
    """The larger sets have the asked side and number of classes."""
    data = synthetic_imagenet(size=32, classes=30, **FEW)

    assert ((3, 32, 32), 30, 29) == (data.shape, data.classes, data.train.targets.max())
    assert (3, 48, 48) == synthetic_pets(size=48, **FEW).shape


def learned(data, network, epochs, lr):
    """Test accuracy in percent, and what always naming the most frequent class would give."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(data.train), generator=generator)
        for inputs, targets in data.train.batches(50, order, generator):
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
    right = network(data.test.inputs).argmax(1) == data.test.targets
    most = data.test.targets.flatten().bincount().max() / data.test.targets.numel()
    return 100 * right.float().mean().item(), 100 * most.item()


@pytest.mark.parametrize("factory", [synthetic_mnist, synthetic_cifar10, synthetic_svhn])
def test_learned_in_part(factory):
    """A small network is far above chance after a few epochs, and far from perfect."""
    data = factory()
    torch.manual_seed(0)
    size = torch.Size(data.shape).numel()
    layers = [nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, data.classes)]

    found, chance = learned(data, nn.Sequential(nn.Flatten(), *layers), epochs=4, lr=1e-3)

    assert 3 * chance < found < 85


def test_pets_are_learned_in_part():
    """Two convolutions tell most pixels, more than the background's share, and not all."""
    data = synthetic_pets(size=32, train=200)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)]

    found, chance = learned(data, nn.Sequential(*layers), epochs=3, lr=1e-2)

    assert chance + 4 < found < 97


def test_nothing_heavy_is_imported():
    """The factories are known without torch, numpy or Pillow."""
    code = (
        "import sys; from bnnbench_plugins.datasets.synthetic import synthetic_mnist;"
        "print({'torch', 'numpy', 'PIL'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "set()" == done.stdout.strip()

"""The data sets: their splits, their ranges, and what they say when a file is wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from bnnbench.downloads import Source, verify
from bnnbench.errors import DataError
from bnnbench_plugins import preprocessing as shared
from bnnbench_plugins.datasets import mnist as module
from bnnbench_plugins.datasets.digits import digits
from bnnbench_plugins.datasets.family import Preprocessing
from bnnbench_plugins.datasets.mnist import (
    FASHION,
    KUZUSHIJI,
    SOURCE,
    fashion_mnist,
    kmnist,
    mnist,
)

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = 12, 10_000, 5


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1)


@pytest.fixture(scope="module")
def arrays():
    """Four arrays in the layout of MNIST, with few images to train on."""
    draw = np.random.default_rng(0).integers
    images = np.zeros((TRAIN + VALIDATION, 28, 28), np.uint8)
    images[:TRAIN] = draw(0, 256, (TRAIN, 28, 28))
    images[TRAIN] = 255
    return {
        "train-images-idx3-ubyte.gz": images,
        "train-labels-idx1-ubyte.gz": np.arange(TRAIN + VALIDATION).astype(np.uint8) % 10,
        "t10k-images-idx3-ubyte.gz": draw(0, 256, (TEST, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(TEST, dtype=np.uint8),
    }


@pytest.fixture(scope="module")
def packed(arrays):
    return {name: idx(array) for name, array in arrays.items()}


@pytest.fixture
def small(packed, tmp_path, monkeypatch):
    """A data set of our own in the place of each of the family, with its own checksums."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    md5s = {name: hashlib.md5(c, usedforsecurity=False).hexdigest() for name, c in packed.items()}
    for owner, source in (("SOURCE", SOURCE), ("FASHION", FASHION), ("KUZUSHIJI", KUZUSHIJI)):
        (tmp_path / source.name).mkdir()
        for name, content in packed.items():
            (tmp_path / source.name / name).write_bytes(content)
        monkeypatch.setattr(module, owner, Source(source.name, (), md5s, 0))
    return tmp_path / "mnist"


def test_splits_of_mnist(small, arrays):
    """The last 10,000 of the training file validate; images and labels stay together."""
    data = mnist()

    assert [TRAIN, VALIDATION, TEST] == [len(getattr(data, name).targets) for name in SPLITS]
    assert (1, 28, 28) == data.shape
    assert (10, False, "") == (data.classes, data.synthetic, data.remark)
    assert {torch.float32} == {getattr(data, name).inputs.dtype for name in SPLITS}
    assert {torch.int64} == {getattr(data, name).targets.dtype for name in SPLITS}
    assert data.train.targets.tolist() == [i % 10 for i in range(TRAIN)]
    assert TRAIN % 10 == data.validation.targets[0]
    assert (data.validation.inputs[0] == 1).all()
    images = torch.tensor(arrays["t10k-images-idx3-ubyte.gz"])
    assert data.test.inputs.mul(255).round().byte().squeeze(1).equal(images)


@pytest.mark.parametrize(("preprocessing", "low", "high"), [("unit", 0, 1), ("signed", -1, 1)])
def test_ranges_of_mnist(small, preprocessing, low, high):
    """Pixels reach from end to end of the range, both ends exactly."""
    inputs = mnist(preprocessing=preprocessing).train.inputs

    assert (low, high) == (inputs.min().item(), inputs.max().item())


def test_centered_mnist(small, arrays):
    """Each pixel's mean over the training images, and those alone, is taken from all splits."""
    unit, centered = mnist(), mnist(preprocessing="centered")
    mean = arrays["train-images-idx3-ubyte.gz"][:TRAIN].astype(float).mean(0) / 255

    for name in SPLITS:
        expected = getattr(unit, name).inputs.double() - torch.tensor(mean)
        torch.testing.assert_close(
            getattr(centered, name).inputs.double(), expected, atol=1e-6, rtol=0
        )
    assert centered.train.inputs.mean(0).abs().max() < 1e-6


def test_scalar_centered_mnist(small, arrays):
    """One mean, over all pixels of the training images, is taken from all splits."""
    unit, centered = mnist(), mnist(preprocessing="scalar-centered")
    mean = arrays["train-images-idx3-ubyte.gz"][:TRAIN].astype(float).mean() / 255

    for name in SPLITS:
        expected = getattr(unit, name).inputs.double() - mean
        found = getattr(centered, name).inputs.double()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert abs(centered.train.inputs.double().mean().item()) < 1e-7


@pytest.mark.parametrize("preprocessing", get_args(Preprocessing))
def test_short_mnist(small, preprocessing):
    """A short study trains on the first so many, and what is fitted is fitted to them alone."""
    whole, short = mnist(), mnist(train=5, preprocessing=preprocessing)
    inputs = whole.train.inputs[:5]
    law = {
        "unit": lambda x: x,
        "signed": lambda x: 2 * x - 1,
        "centered": lambda x: x - inputs.mean(0),
        "scalar-centered": lambda x: x - inputs.mean(),
        "standardized": lambda x: (x - inputs.mean()) / inputs.std(correction=0),
    }[preprocessing]

    assert "trained on 5 of 12" == short.remark
    assert short.train.targets.equal(whole.train.targets[:5])
    for found, given in ((short.train, inputs), (short.validation, whole.validation.inputs)):
        torch.testing.assert_close(found.inputs, law(given), atol=3e-6, rtol=0)


@pytest.mark.parametrize(("part", "split"), [("train", "validation"), ("t10k", "test")])
def test_the_cache_knows_the_files(small, arrays, part, split, monkeypatch):
    """Other files are never answered with what was made of the old ones."""
    before = getattr(mnist(preprocessing="centered"), split).inputs.clone()
    name = f"{part}-images-idx3-ubyte.gz"
    content = idx(255 - arrays[name])
    (small / name).write_bytes(content)
    md5s = {**module.SOURCE.files, name: hashlib.md5(content, usedforsecurity=False).hexdigest()}
    monkeypatch.setattr(module, "SOURCE", Source("mnist", (), md5s, 0))

    after = getattr(mnist(preprocessing="centered"), split).inputs

    assert not after.equal(before)


def test_preprocessings_of_mnist():
    """Each that MNIST may have is one of those that all data sets share."""
    assert {*get_args(Preprocessing)} <= {*get_args(shared.Preprocessing)}


@pytest.mark.parametrize("factory", [fashion_mnist, kmnist])
def test_the_family_is_alike(small, factory):
    """What is in the files of one is read from those of another as it is from MNIST's."""
    for preprocessing in ("unit", "scalar-centered"):
        one, other = (f(preprocessing=preprocessing, train=7) for f in (mnist, factory))
        for name in SPLITS:
            assert getattr(one, name).inputs.equal(getattr(other, name).inputs)
            assert getattr(one, name).targets.equal(getattr(other, name).targets)


def test_each_of_the_family_has_files_of_its_own(small):
    """A damaged file of one data set is no other's."""
    for factory in (fashion_mnist, kmnist):
        (small.parent / factory.source.name / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x")
        with pytest.raises(DataError, match=f"run: bnnbench data fetch {factory.source.name}$"):
            factory()
    mnist()


@pytest.mark.parametrize(
    ("preprocessing", "black"),
    [
        ("unit", 0.0),
        ("signed", -1.0),
        ("centered", 0.0),
        ("scalar-centered", lambda images: -images.mean()),
        ("standardized", lambda images: -images.mean() / images.std()),
    ],
)
def test_augmented_fashion_mnist(small, arrays, preprocessing, black):
    """Training images alone are changed; what comes in from outside is black, or no news."""
    data = fashion_mnist(preprocessing=preprocessing, augmentation="crop-flip")
    assert [True, False, False] == [getattr(data, n).augmentation is not None for n in SPLITS]
    assert fashion_mnist().train.augmentation is None
    if callable(black):
        black = black(arrays["train-images-idx3-ubyte.gz"][:TRAIN].astype(float) / 255)
    inputs = torch.full((64, 1, 28, 28), 9.0)

    changed, _ = data.train.augmentation(inputs, torch.zeros(64), torch.Generator().manual_seed(0))

    assert [pytest.approx(black, abs=1e-6), 9] == changed.unique().tolist()


def test_damaged_mnist(small):
    """A damaged file is named before anything is read from it."""
    path = small / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DataError, match=r"t10k-labels[^\n]+; run: bnnbench data fetch mnist$"):
        mnist()


def test_missing_mnist(tmp_path, monkeypatch):
    """A missing file is named, with the command that fetches it."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path))

    with pytest.raises(DataError, match=r"got missing; run: bnnbench data fetch mnist$"):
        mnist()


def test_source_of_mnist():
    """What to download is known from the factory, without torch."""
    code = (
        "import sys; from bnnbench_plugins.datasets.mnist import mnist;"
        "print(mnist.source.name, {'torch', 'numpy', 'pooch', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (SOURCE, FASHION, KUZUSHIJI) == (mnist.source, fashion_mnist.source, kmnist.source)
    assert "mnist set()" == done.stdout.strip()


def test_sources_of_the_family():
    """Names, files and folders are each data set's own; no checksum is another's."""
    sources = (SOURCE, FASHION, KUZUSHIJI)

    assert ["mnist", "fashion-mnist", "kmnist"] == [source.name for source in sources]
    assert 1 == len({tuple(source.files) for source in sources})
    assert 12 == len({md5 for source in sources for md5 in source.files.values()})


def holds(source):
    return "BNNBENCH_DATA" in os.environ and {"present"} == set(verify(source).values())


@pytest.mark.skipif(not holds(SOURCE), reason="BNNBENCH_DATA does not hold MNIST")
def test_real_mnist():
    """The real files give 50,000, 10,000 and 10,000 images, the first of them a five."""
    data = mnist()

    assert [50_000, 10_000, 10_000] == [len(getattr(data, name).targets) for name in SPLITS]
    assert [5, 0, 4, 1, 9] == data.train.targets[:5].tolist()
    assert [7, 2, 1, 0, 4] == data.test.targets[:5].tolist()
    assert data.train.inputs.mean().item() == pytest.approx(0.1307, abs=1e-3)


@pytest.mark.parametrize(
    ("factory", "mean"), [(fashion_mnist, 0.2860), (kmnist, 0.1918)], ids=["fashion", "kmnist"]
)
def test_real_family(factory, mean):
    """The real files give 50,000, 10,000 and 10,000 images of the known mean."""
    if not holds(factory.source):
        pytest.skip(f"BNNBENCH_DATA does not hold {factory.source.name}")
    data = factory()

    assert [50_000, 10_000, 10_000] == [len(getattr(data, name)) for name in SPLITS]
    assert data.train.inputs.mean().item() == pytest.approx(mean, abs=2e-3)


def test_splits_of_digits():
    """Each of the 1,797 images is in one split, and each split has the classes in their shares."""
    data = digits()
    sizes = [len(getattr(data, name).targets) for name in SPLITS]
    inputs = torch.cat([getattr(data, name).inputs for name in SPLITS])

    assert [1000, 297, 500] == sizes
    assert (1, 8, 8) == data.shape
    assert len(inputs.unique(dim=0)) == len(inputs) == 1797
    whole = sum(getattr(data, name).targets.bincount(minlength=10) for name in SPLITS) / 1797
    for name, size in zip(SPLITS, sizes, strict=True):
        shares = getattr(data, name).targets.bincount(minlength=10)
        assert ((shares - size * whole).abs() <= 1.5).all()


def test_digits_are_fixed():
    """The split is the same in every run and on every machine: here are its first labels."""
    first, again = digits(), digits()

    assert first.train.inputs.equal(again.train.inputs)
    found = [getattr(first, name).targets[:10].tolist() for name in SPLITS]
    assert found == [
        [7, 1, 3, 0, 6, 9, 2, 5, 4, 8],
        [2, 5, 1, 9, 0, 3, 8, 4, 6, 7],
        [0, 5, 1, 7, 3, 9, 2, 6, 4, 8],
    ]


@pytest.mark.parametrize(("preprocessing", "low"), [("signed", -1), ("unit", 0)])
def test_ranges_of_digits(preprocessing, low):
    """Pixels reach from end to end of the range."""
    inputs = digits(preprocessing=preprocessing).train.inputs

    assert (low, 1) == (inputs.min().item(), inputs.max().item())
    assert inputs.dtype == torch.float32

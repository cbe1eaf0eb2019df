"""Examples that are kept as bytes are those of floats in memory, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bnnbench.interfaces import Split
from bnnbench_plugins.augmentations import augmentation
from bnnbench_plugins.datasets.bytes import Bytes
from bnnbench_plugins.datasets.images import Images
from bnnbench_plugins.datasets.splits import dataset
from bnnbench_plugins.preprocessing import recipe

POINTWISE = ["unit", "signed", "scalar-centered", "standardized", "bnew-standardized"]


def pair(augment="none", n=301, channels=3):
    """The same examples as bytes and as floats; the table is random, so no channel is another."""
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, channels, 6, 7), dtype=torch.uint8, generator=generator)
    table, targets = torch.randn(channels, 256, generator=generator), torch.arange(n) % 10
    floats = torch.empty(pixels.shape)
    for i, c in np.ndindex(n, channels):
        floats[i, c] = table[c][pixels[i, c].int()]
    change = augmentation(augment, table[:, 0])
    return Bytes(Split(pixels, targets), table, change), Split(floats, targets, change)


@pytest.mark.parametrize("augment", ["none", "flip", "crop-flip", "resized-crop-flip"])
@pytest.mark.parametrize("ordered", [True, False])
def test_batches(augment, ordered):
    """Every batch is the one that floats give, in any order, with any augmentation."""
    found, wanted = pair(augment)
    order = torch.randperm(301, generator=torch.Generator().manual_seed(1)) if ordered else None
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]

    mine = list(found.batches(100, order, generators[0]))
    theirs = list(wanted.batches(100, order, generators[1]))

    assert [100, 100, 100, 1] == [len(inputs) for inputs, _ in mine]
    for (inputs, targets), (expected, labels) in zip(mine, theirs, strict=True):
        assert inputs.dtype == torch.float32
        assert inputs.equal(expected)
        assert targets.equal(labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_as_a_split(channels):
    """Length, shape, targets, inputs and fingerprint are those of floats."""
    found, wanted = pair(channels=channels)

    assert (len(wanted), wanted.shape) == (len(found), found.shape)
    assert found.inputs.equal(wanted.inputs)
    assert found.targets.equal(wanted.targets)
    assert wanted.fingerprint() == found.fingerprint() == found.to("cpu").fingerprint()
    other = Bytes(found.split, found.table + 1)
    assert other.fingerprint() != found.fingerprint()


@pytest.mark.parametrize("name", POINTWISE)
def test_a_data_set_of_bytes(name):
    """What treats pixels alone keeps a data set as bytes, and its batches are the transform's."""
    rng = np.random.default_rng(3)
    splits = ("train", "validation", "test")
    raw = {split: rng.integers(0, 256, (9, 3, 4, 4), dtype=np.uint8) for split in splits}
    data = dataset(
        {split: Images([pixels]) for split, pixels in raw.items()},
        dict.fromkeys(splits, np.zeros(9, np.int64)),
        {"files": "none"},
        name,
        "none",
        classes=2,
    )

    transform = recipe(name).fit([raw["train"]])

    for split in splits:
        examples = getattr(data, split)
        assert examples.split.inputs.dtype == torch.uint8
        ((inputs, _),) = examples.batches(9)
        assert np.array_equal(transform(raw[split]), inputs.numpy())

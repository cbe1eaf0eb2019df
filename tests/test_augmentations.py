"""Augmentations of batches, against one image at a time, and how likely each outcome is."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from bnnbench.metrics import UNLABELLED
from bnnbench_plugins import augmentations
from bnnbench_plugins.augmentations import augmentation, bordered, boxes, cropped

NAMES = ["flip", "crop-flip", "resized-crop-flip"]
FILL = torch.tensor([-1.0, -2.0, -3.0])
LIKELY = 1e-3  #: fixed seeds; a right generator is below this once in a thousand


def batch(n=12, height=9, width=11):
    """Images whose values are all different and above zero, and a class for each pixel."""
    values = torch.randperm(n * 3 * height * width, generator=seeded(9)) + 1
    targets = torch.randint(5, (n, height, width), generator=seeded(9))
    return values.view(n, 3, height, width).float(), targets


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parts(image, padding=4):
    """Every part of a padded image that a crop and a flip can give, one after the other."""
    _, height, width = image.shape
    padded = np.empty((3, height + 2 * padding, width + 2 * padding), np.float32)
    padded[:] = FILL.view(3, 1, 1).numpy()
    padded[:, padding:-padding, padding:-padding] = image.numpy()
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            part = padded[:, top : top + height, left : left + width]
            yield part
            yield part[:, :, ::-1]


def test_none():
    """The name "none" is no augmentation."""
    assert augmentation("none", FILL) is None


def test_flip():
    """Every image is itself or its mirror image, and there are both."""
    inputs, classes = batch()[0], torch.arange(12)

    found, targets = augmentation("flip", FILL)(inputs, classes, seeded())

    kept = [torch.equal(a, b) for a, b in zip(found, inputs, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(found, inputs, strict=True)]
    assert [True] * 12 == [a != b for a, b in zip(kept, mirrored, strict=True)]
    assert 0 < sum(mirrored) < 12
    assert targets.equal(classes)


def test_crop_flip():
    """Every image is one of the 162 parts of the padded image or their mirror images."""
    inputs, classes = batch()[0], torch.arange(12)

    found, targets = augmentation("crop-flip", FILL)(inputs, classes, seeded())

    for image, one in zip(inputs, found, strict=True):
        assert sum(np.array_equal(one.numpy(), part) for part in parts(image)) == 1
    assert targets.equal(classes)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_cropped(padding):
    """A crop at given places is what mirroring and slicing one image after the other gives."""
    inputs, flips = batch(7)[0], torch.tensor([0, 1, 1, 0, 1, 0, 0])
    top, left = (torch.randint(2 * padding + 1, (7,), generator=seeded(s)) for s in (1, 2))
    top[3:5] = left[3:5] = 2 * padding  # the last corner, mirrored and not

    found = cropped(inputs, bordered(inputs, FILL, padding), flips, top, left, padding)

    for place, (image, one) in enumerate(zip(inputs, found, strict=True)):
        i, j = int(top[place]), int(left[place])
        image = image.flip(-1) if flips[place] else image
        channels = [
            functional.pad(channel, [padding] * 4, value=fill)
            for channel, fill in zip(image, FILL.tolist(), strict=True)
        ]
        assert torch.stack(channels)[:, i : i + 9, j : j + 11].equal(one)


@pytest.mark.parametrize("sizes", [(4, 12, 3), (12, 4, 12)])
def test_what_a_batch_leaves_behind_is_not_seen(sizes):
    """Batches of other sizes, types and shapes, one after the other, are as if each were alone."""
    used, made = augmentation("crop-flip", FILL), []
    for n in sizes:
        for inputs in (batch(n)[0], batch(n)[0].double(), batch(n)[0][..., :6]):
            found, _ = used(inputs, torch.zeros(n), seeded(n))
            made.append(found)
            alone, _ = augmentation("crop-flip", FILL)(inputs, torch.zeros(n), seeded(n))
            assert found.equal(alone)
    copies = [each.clone() for each in made]
    used(batch(12)[0] + 1, torch.zeros(12), seeded())
    assert all(a.equal(b) for a, b in zip(made, copies, strict=True))  # none is overwritten


def test_all_shifts_and_flips_are_equally_likely():
    """All 9 x 9 shifts, mirrored and not, occur as often as chance has it."""
    n, side = 162 * 60, 9
    image = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)

    found, _ = augmentation("crop-flip", torch.tensor([-1.0]))(
        image.expand(n, 1, side, side), torch.zeros(n), seeded(1)
    )

    middle, beside = found[:, 0, 4, 4].long(), found[:, 0, 4, 5].long()
    outcome = middle * 2 + (beside == middle + 1) * 1
    # in the last column there is no next pixel, and in the first no last one, but the border
    last, border = middle % side == side - 1, beside == -1
    outcome = torch.where(last, middle * 2 + border * 1, outcome)
    counts = outcome.bincount(minlength=162)
    assert 162 == len(counts)
    assert stats.chisquare(counts.numpy()).pvalue > LIKELY


def test_flips_are_fair_and_independent():
    """Each of the sixteen ways to flip four images in a row is equally likely."""
    n = 4 * 4000
    image = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)

    found, _ = augmentation("flip", FILL)(image.expand(n, 1, 1, 2), torch.zeros(n), seeded(2))

    flips = found[:, 0, 0, 0].view(-1, 4) @ torch.tensor([8.0, 4.0, 2.0, 1.0])
    assert stats.chisquare(flips.long().bincount(minlength=16).numpy()).pvalue > LIKELY


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides(name):
    """The same seed gives the same bits, another seed others, and no other chance is taken."""
    (inputs, targets), augment = batch(), augmentation(name, FILL)
    kept, state = inputs.clone(), torch.get_rng_state()

    one, again, other = (augment(inputs, targets, seeded(seed)) for seed in (1, 1, 2))

    assert all(a.equal(b) for a, b in zip(one, again, strict=True))
    assert not one[0].equal(other[0])
    assert torch.get_rng_state().equal(state)
    assert inputs.equal(kept)  # what is augmented may be the data set itself


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 5])
def test_batches_of_any_size(name, size):
    """However images are divided into batches, they become the same, bit for bit."""
    (inputs, targets), augment = batch(), augmentation(name, FILL)
    whole, generator = augment(inputs, targets, seeded()), seeded()

    found = [
        augment(a, b, generator)
        for a, b in zip(inputs.split(size), targets.split(size), strict=True)
    ]

    for together, divided in zip(whole, zip(*found, strict=True), strict=True):
        assert together.equal(torch.cat(divided))


@pytest.mark.parametrize("name", ["flip", "crop-flip"])
def test_classes_of_pixels_move_with_them(name):
    """Targets with a class for each pixel go where the pixels go; the border has none."""
    _, targets = batch(40)
    inputs = targets.float().unsqueeze(1)
    kept = targets.clone()

    found, moved = augmentation(name, torch.tensor([UNLABELLED]))(inputs, targets, seeded())

    assert torch.int64 == moved.dtype
    assert found.squeeze(1).equal(moved.float())
    assert not moved.equal(targets)
    assert targets.equal(kept)
    assert (name == "crop-flip") == bool((moved == UNLABELLED).any())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_another_device(name):
    """Images on a GPU become what they become on the CPU."""
    (inputs, targets), augment = batch(), augmentation(name, FILL)

    found = augment(inputs.cuda(), targets.cuda(), seeded())

    expected = augment(inputs, targets, seeded())
    assert torch.allclose(expected[0], found[0].cpu(), rtol=1e-5)
    assert expected[1].equal(found[1].cpu())


def test_resized_crop(monkeypatch):
    """A box is scaled as torch scales the box cut out, bilinear; classes by the nearest pixel."""
    inputs, targets = batch(20, height=12, width=9)
    box = boxes(20, 12, 9, seeded(3))
    box[0], box[1] = torch.tensor([0, 0, 12, 9]), torch.tensor([11, 8, 1, 1])
    monkeypatch.setattr(augmentations, "_boxes", lambda drawn, height, width: box)

    found, moved = augmentation("resized-crop-flip", FILL)(inputs, targets, seeded())

    flips = 0
    for n, (i, j, height, width) in enumerate(box.tolist()):
        image = inputs[n : n + 1, :, i : i + height, j : j + width]
        classes = targets[n : n + 1, None, i : i + height, j : j + width].float()
        scaled = functional.interpolate(image, (12, 9), mode="bilinear", align_corners=False)[0]
        nearest = functional.interpolate(classes, (12, 9), mode="nearest-exact")[0, 0].long()
        same, mirrored = (
            torch.allclose(found[n], expected, rtol=0, atol=0.05)  # of up to 6,480
            for expected in (scaled, scaled.flip(-1))
        )
        assert same or mirrored
        assert moved[n].equal(nearest if same else nearest.flip(-1))
        flips += not same
    assert 4 <= flips <= 16


def plain_box(height, width, chance):
    """The published way to a box, one number after the other."""
    for _ in range(10):
        area = height * width * chance.uniform(0.08, 1)
        ratio = math.exp(chance.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return chance.randint(0, height - h), chance.randint(0, width - w), h, w
    raise AssertionError("not with these sizes and this seed")


@pytest.mark.parametrize(("height", "width"), [(400, 400), (300, 400)])
def test_boxes(height, width):
    """Boxes lie in the image, and are distributed as those found one number after the other."""
    n, chance = 4000, random.Random(5)
    plain = np.array([plain_box(height, width, chance) for _ in range(n)]).T

    found = boxes(n, height, width, seeded(4)).numpy().T

    top, left, tall, wide = found
    assert min(top.min(), left.min(), tall.min() - 1, wide.min() - 1) >= 0
    assert (top + tall).max() <= height
    assert (left + wide).max() <= width
    for measure in (area, shape, spare):
        one, other = measure(*found, height, width), measure(*plain, height, width)
        assert stats.ks_2samp(one, other).pvalue > LIKELY
    assert 0.079 < area(*found, height, width).min() < 0.085
    places = (top[tall < height] + 0.5) / (height - tall[tall < height] + 1)
    assert stats.kstest(places, "uniform").pvalue > LIKELY


def area(top, left, tall, wide, height, width):
    return tall * wide / (height * width)


def shape(top, left, tall, wide, height, width):
    return np.log(wide / tall)


def spare(top, left, tall, wide, height, width):
    """How far from the left, of what there is."""
    return (left + 0.5) / (width - wide + 1)


def test_boxes_of_long_images():
    """Where no box fits it is the largest of an allowed ratio, in the middle; each by its size."""
    heights, widths = torch.tensor([10, 1000, 16]), torch.tensor([1000, 10, 16])

    found = boxes(3, heights, widths, seeded())

    assert [0, (1000 - 13) // 2, 10, 13] == found[0].tolist()  # 10 * 4/3 = 13.3
    assert [(1000 - 13) // 2, 0, 13, 10] == found[1].tolist()  # 10 / (3/4) = 13.3
    assert torch.int64 == found.dtype
    assert found[2].max() <= 16

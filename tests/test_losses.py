"""The losses, against one example, one pixel and one number at a time."""

from __future__ import annotations

import math

import pytest
import torch

from bnnbench.metrics import UNLABELLED
from bnnbench_plugins.augmentations import CropFlip
from bnnbench_plugins.datasets.synthetic import synthetic_pets
from bnnbench_plugins.losses import cross_entropy, squared_hinge

CLASSES = 4
SHAPES = {"examples": (6,), "pixels": (3, 5, 2)}


def drawn(shape, seed=0, share=0.0):
    """Outputs and targets, of which a share has no label."""
    generator = torch.Generator().manual_seed(seed)
    size = (shape[0], CLASSES, *shape[1:])
    outputs = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, shape, generator=generator)
    lacking = torch.rand(shape, generator=generator) < share
    return outputs.requires_grad_(), targets.masked_fill(lacking, UNLABELLED)


def rows(outputs, targets):
    """Pairs of a row of outputs and a class, of all that have one."""
    flat = outputs.movedim(1, -1).reshape(-1, CLASSES).tolist()
    pairs = zip(flat, targets.flatten().tolist(), strict=True)
    return [(row, target) for row, target in pairs if target != UNLABELLED]


def hinge_of(row, target):
    signs = [1 if k == target else -1 for k in range(CLASSES)]
    return sum(max(0, 1 - y * o) ** 2 for y, o in zip(signs, row, strict=True)) / CLASSES


def surprise_of(row, target, smoothing=0.0):
    log = [o - math.log(sum(map(math.exp, row))) for o in row]
    return -(1 - smoothing) * log[target] - smoothing * sum(log) / CLASSES


def mean(values):
    return sum(values) / len(values)


LOSSES = {
    "squared-hinge": (squared_hinge(), hinge_of),
    "cross-entropy": (cross_entropy(), surprise_of),
    "smoothed": (cross_entropy(label_smoothing=0.2), lambda r, t: surprise_of(r, t, 0.2)),
}
every_loss = pytest.mark.parametrize(("loss", "rule"), LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize(("kind", "share"), [("examples", 0), ("pixels", 0), ("pixels", 0.4)])
def test_losses(loss, rule, kind, share):
    """They are means over all examples, or over the pixels that have a label, and those alone."""
    outputs, targets = drawn(SHAPES[kind], share=share)

    value = loss(outputs, None, targets)
    value.backward()

    expected = mean([rule(*pair) for pair in rows(outputs, targets)])
    assert expected == pytest.approx(value.item(), rel=1e-12)
    gradient = outputs.grad.movedim(1, -1)
    assert gradient[targets == UNLABELLED].eq(0).all()
    assert gradient[targets != UNLABELLED].ne(0).any()


@every_loss
def test_gradients(loss, rule):
    """They are those of the means, worked out by differences."""
    outputs, targets = drawn(SHAPES["pixels"], share=0.4)
    targets[0, 0, 0] = 1

    loss(outputs, None, targets).backward()

    moved = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            changed = outputs.clone()
            changed[0, 2, 0, 0] += step
        moved.append(mean([rule(*pair) for pair in rows(changed, targets)]))
    slope = (moved[0] - moved[1]) / 2e-6
    assert slope == pytest.approx(outputs.grad[0, 2, 0, 0].item(), rel=1e-5)


@every_loss
def test_no_label_at_all(loss, rule):
    """A batch without a label teaches nothing: its loss is 0, and so is the gradient."""
    outputs, targets = drawn(SHAPES["pixels"], share=1.0)

    value = loss(outputs, None, targets)
    value.backward()

    assert 0 == value
    assert outputs.grad.eq(0).all()


@every_loss
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_is_no_number_shows(loss, rule, shape):
    """Outputs that are no numbers give a loss that is none."""
    outputs, targets = drawn(shape)

    assert loss(outputs * math.nan, None, targets).isnan()


def test_classes_that_there_are_not():
    """A target that is no class is refused, and not taken for another."""
    outputs, targets = drawn(SHAPES["examples"])

    for target in (-1, CLASSES):
        targets[0] = target
        with pytest.raises((IndexError, RuntimeError), match=f"-1|{CLASSES}"):
            squared_hinge()(outputs, None, targets)


@every_loss
def test_cropped_pets(loss, rule):
    """What a crop adds around an image has no label, and every loss can be had all the same."""
    pets = synthetic_pets(size=16, augmentation="crop-flip", train=8, validation=1, test=1)
    assert isinstance(pets.train.augmentation, CropFlip)
    _, targets = next(pets.train.batches(8, generator=torch.Generator().manual_seed(0)))
    outputs = torch.randn(8, 3, 16, 16, requires_grad=True)

    loss(outputs, None, targets).backward()

    assert UNLABELLED in targets
    assert outputs.grad.isfinite().all()

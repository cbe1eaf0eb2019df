"""Splits: the batches that they give, what is done to them, and how they are told apart."""

from __future__ import annotations

import torch

from bnnbench.interfaces import Dataset, Split
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.losses import cross_entropy
from bnnbench_plugins.ste import ste


def split(n=7, augmentation=None):
    inputs = torch.arange(n * 4, dtype=torch.float32).view(n, 1, 2, 2)
    return Split(inputs, torch.arange(n) % 3, augmentation)


def jitter(inputs, targets, generator):
    """Add less than 1 to each image, a number that a float holds beside any of them."""
    shifts = torch.randint(2**16, (len(inputs), 1, 1, 1), generator=generator) / 2**16
    return inputs + shifts, targets


def joined(batches):
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def test_all_as_they_lie():
    """Without an order all examples come, the last batch is smaller."""
    whole = split()

    batches = list(whole.batches(3))

    assert [3, 3, 1] == [len(targets) for _, targets in batches]
    assert all(
        a.equal(b) for a, b in zip(joined(batches), (whole.inputs, whole.targets), strict=True)
    )


def test_in_an_order():
    """An order gives just those examples, inputs and targets together."""
    whole, order = split(), torch.tensor([5, 0, 6, 0])

    inputs, targets = joined(whole.batches(3, order))

    assert inputs.equal(whole.inputs[order])
    assert targets.equal(whole.targets[order])


def test_augmentation_is_seeded():
    """Same order and generator, same batches; another one, others; without one, none."""
    plain, augmented = split(), split(augmentation=jitter)
    first, again, other, never = (
        joined(augmented.batches(2, generator=seed and torch.Generator().manual_seed(seed)))[0]
        for seed in (1, 1, 2, None)
    )

    assert first.equal(again)
    assert not first.equal(other)
    assert never.equal(plain.inputs)
    shifts = (first - plain.inputs)[:, 0, 0, 0]
    assert len(shifts) == len(shifts.unique())  # the second batch is not shifted as the first


def test_fingerprint():
    """Other targets, inputs, order or shape: another fingerprint."""
    whole = split()
    others = [
        Split(whole.inputs, whole.targets.flip(0)),
        Split(whole.inputs + 1, whole.targets),
        Split(whole.inputs[[1, 0, 2, 3, 4, 5, 6]], whole.targets),
        Split(whole.inputs.view(7, 1, 4, 1), whole.targets),
        Split(whole.inputs.double(), whole.targets),
    ]

    prints = {each.fingerprint() for each in [whole, *others]}

    assert len(others) + 1 == len(prints)
    assert whole.fingerprint() == split(augmentation=jitter).fingerprint()


def training(seen, epochs=3):
    """A training on a split that notes which inputs it was asked for."""

    def noted(inputs, targets, generator):
        inputs, targets = jitter(inputs, targets, generator)
        seen.append(inputs)
        return inputs, targets

    torch.manual_seed(0)
    plain = split(12)
    data = Dataset(split(12, noted), plain, plain, classes=3)
    model = mlp(shape=(1, 2, 2), classes=3, depth=1, width=4)
    return Training(model, ste(), data, cross_entropy(), Settings(epochs, 4, seed=5))


def test_training_augments_each_epoch_anew():
    """Every batch of training is augmented, differently in each epoch; validation never is."""
    seen = []

    list(training(seen))

    first, second, third = (torch.cat(seen[start : start + 3]) for start in (0, 3, 6))
    assert [4] * 9 == [len(inputs) for inputs in seen]
    assert first.floor().flatten(1).unique(dim=0).equal(split(12).inputs.flatten(1))
    shifts = [(epoch % 1)[:, 0, 0, 0].tolist() for epoch in (first, second, third)]
    assert 36 == len({shift for epoch in shifts for shift in epoch})


def test_resumed_training_sees_the_same_images():
    """What an epoch sees depends on the seed and the epoch, not on what was trained before."""
    undisturbed, resumed = [], []
    list(training(undisturbed))
    broken = training([])
    steps = iter(broken)
    for _ in range(2):  # epoch 0 and epoch 1
        next(steps)

    later = training(resumed)
    later.load(broken.state())
    list(later)

    assert len(resumed) == 6
    assert all(a.equal(b) for a, b in zip(undisturbed[3:], resumed, strict=True))

"""Digits: 1,797 images of 8 x 8 that scikit-learn carries, for quick looks and for tests.

Alpaydin and Kaynak (1998), UCI machine learning repository: the test set of "Optical recognition
of handwritten digits". The split is our own and fixed: 1,000 to train, 297 to validate, 500 to
test, each with the classes in their shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bnnbench.interfaces import Dataset, Split

if TYPE_CHECKING:
    from torch import Tensor

Preprocessing = Literal["signed", "unit"]

TRAIN, VALIDATION, TEST = 1000, 297, 500


def digits(*, preprocessing: Preprocessing = "signed") -> Dataset:
    """Return scikit-learn's embedded digits; inputs are float32 (n, 1, 8, 8).

    Args:
        preprocessing: pixels in [-1, 1] ("signed") or [0, 1] ("unit").
    """
    import torch
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    if preprocessing == "signed":
        inputs = inputs * 2 - 1
    targets = torch.tensor(labels, dtype=torch.int64)
    train, validation, test = torch.split(_order(targets), [TRAIN, VALIDATION, TEST])
    return Dataset(
        train=Split(inputs[train], targets[train]),
        validation=Split(inputs[validation], targets[validation]),
        test=Split(inputs[test], targets[test]),
        classes=10,
    )


def _order(targets: Tensor) -> Tensor:
    """A fixed order in which every stretch has the classes in their shares.

    Each class is shuffled and spread evenly over [0, 1); the order is that of the places. numpy
    promises the same RandomState for ever, so the split is the same everywhere.
    """
    import numpy as np
    import torch

    shuffled = torch.from_numpy(np.random.RandomState(0).permutation(len(targets)))
    place = torch.empty(len(targets), dtype=torch.float64)
    for label in range(10):
        members = shuffled[targets[shuffled] == label]
        place[members] = torch.arange(len(members)).double() / len(members)
    return place.argsort(stable=True)

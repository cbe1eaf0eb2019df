"""From images and targets by split to a data set: prepared, and augmented where one trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.interfaces import Dataset, Split
from bnnbench_plugins.augmentations import augmentation
from bnnbench_plugins.datasets.bytes import Bytes
from bnnbench_plugins.prepared import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench.interfaces import Augmentation, Examples
    from bnnbench_plugins.augmentations import Augment
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.prepared import Prepared


def dataset(
    images: Mapping[str, Images],
    targets: Mapping[str, NDArray[np.int64]],
    key: Mapping[str, Any],
    preprocessing: str,
    augment: Augment,
    **facts: Any,
) -> Dataset:
    """Return a data set of "train", "validation" and "test".

    Args:
        images: of each split.
        targets: of each split, int64 (n, ...).
        key: says in JSON's types what the images are, and differs where they do.
        preprocessing: its name; fitted to the training images.
        augment: the name of what is done to the training images in each epoch.
        facts: the other fields of :class:`bnnbench.interfaces.Dataset`.
    """
    prepared = prepare(preprocessing, images, key)
    changes = {"train": augmentation(augment, prepared.fill)}
    train, validation, test = (
        _examples(prepared, name, torch.from_numpy(targets[name]), changes.get(name))
        for name in ("train", "validation", "test")
    )
    return Dataset(train, validation, test, **facts)


def _examples(
    prepared: Prepared, name: str, targets: Tensor, change: Augmentation | None
) -> Examples:
    if prepared.table is None:
        return Split(prepared.inputs[name], targets, change)
    return Bytes(Split(prepared.inputs[name], targets), prepared.table, change)


def remark(*said: str, train: int, known: int) -> str:
    """Return what sets the data apart: what is said, and that fewer than the known images train.

    >>> remark("9 of 10 images", train=1_000, known=45_000)
    '9 of 10 images, trained on 1,000 of 45,000'
    >>> remark("", train=45_000, known=44_891)
    ''
    """
    fewer = f"trained on {train:,} of {known:,}" if train < known else ""
    return ", ".join(filter(None, (*said, fewer)))

"""The family of MNIST: four IDX files, 60,000 and 10,000 grey images of 28 x 28 in ten classes.

Each is split as MNIST is in BinaryConnect: the last 10,000 of the training file validate. The
images stay in memory, 188 MB of float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bnnbench.downloads import path_of
from bnnbench.interfaces import Dataset, Split

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.downloads import Source
    from bnnbench.interfaces import Augmentation

Preprocessing = Literal["unit", "signed", "centered", "scalar-centered"]
Augment = Literal["none", "flip", "crop-flip"]

VALIDATION = 10_000  #: the last so many of the training file


def read_family(
    source: Source, train: int, preprocessing: Preprocessing, augmentation: Augment = "none"
) -> Dataset:
    """Return a data set of the family; inputs are float32 (n, 1, 28, 28).

    Args:
        source: its four files, named as MNIST's.
        train: the first so many of the 50,000 training images.
        preprocessing: "unit" is x/255, "signed" x/127.5 - 1, "centered" x/255 minus each pixel's
            mean over the training images, "scalar-centered" x/255 minus the one mean over all
            their pixels.
        augmentation: of the training images.

    Raises:
        DataError: a file is missing or damaged.
    """
    images, labels = _split(source, "train")
    test_images, test_labels = _split(source, "t10k")
    train_images, validation_images = images[:-VALIDATION][:train], images[-VALIDATION:]
    mean = _mean(train_images, preprocessing)
    return Dataset(
        train=Split(
            _scaled(train_images, preprocessing, mean),
            labels[:-VALIDATION][:train],
            _augmentation(augmentation, preprocessing, mean),
        ),
        validation=Split(_scaled(validation_images, preprocessing, mean), labels[-VALIDATION:]),
        test=Split(_scaled(test_images, preprocessing, mean), test_labels),
        classes=10,
    )


def _split(source: Source, prefix: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) in bytes and labels (n,) in int64."""
    import torch

    from bnnbench_plugins.datasets.idx import read_idx

    images = read_idx(path_of(source, f"{prefix}-images-idx3-ubyte.gz"), dimensions=3)
    labels = read_idx(path_of(source, f"{prefix}-labels-idx1-ubyte.gz"), dimensions=1)
    return torch.tensor(images).unsqueeze(1), torch.tensor(labels).long()


def _augmentation(
    name: Augment, preprocessing: Preprocessing, mean: Tensor | None
) -> Augmentation | None:
    """A border is black where every pixel is treated alike, else each pixel's mean."""
    if name == "none":
        return None
    import torch

    from bnnbench_plugins.augmentations import augmentation

    black = _scaled(torch.zeros(1, dtype=torch.uint8), preprocessing, None)
    if mean is not None:
        black = torch.zeros(1) if mean.dim() else black - mean
    return augmentation(name, black)


def _mean(images: Tensor, preprocessing: Preprocessing) -> Tensor | None:
    """What is taken from x/255, from exact sums."""
    if preprocessing == "centered":
        return images.sum(0) / (255 * len(images))
    if preprocessing == "scalar-centered":
        return images.sum() / (255 * images.numel())
    return None


def _scaled(images: Tensor, preprocessing: Preprocessing, mean: Tensor | None) -> Tensor:
    if preprocessing == "signed":
        return images.float().div_(127.5).sub_(1)
    unit = images.float().div_(255)
    return unit if mean is None else unit.sub_(mean)

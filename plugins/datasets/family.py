"""The family of MNIST: four IDX files, 60,000 and 10,000 grey images of 28 x 28 in ten classes.

Each is split as MNIST is in BinaryConnect: the last 10,000 of the training file validate. The
images are 55 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bnnbench.downloads import path_of
from bnnbench.interfaces import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bnnbench.downloads import Source

Preprocessing = Literal["unit", "signed", "centered", "scalar-centered", "standardized"]
Augment = Literal["none", "flip", "crop-flip"]

VALIDATION = 10_000  #: the last so many of the training file
IMAGES, LABELS = "{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"


def read_family(
    source: Source, train: int, preprocessing: Preprocessing, augment: Augment = "none"
) -> Dataset:
    """Return a data set of the family; inputs are float32 (n, 1, 28, 28).

    Args:
        source: its four files, named as MNIST's.
        train: the first so many of the 50,000 training images.
        preprocessing: one of :mod:`bnnbench_plugins.preprocessing`, fitted to the training images.
        augment: the augmentation of the training images.

    Raises:
        DataError: a file is missing or damaged, or the cache cannot be written.
    """
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.datasets.splits import dataset, remark

    (images, labels), test = _read(source, "train"), _read(source, "t10k")
    known = len(labels) - VALIDATION
    chosen = {"train": slice(min(train, known)), "validation": slice(known, None)}
    splits = {name: (images[rows], labels[rows]) for name, rows in chosen.items()} | {"test": test}
    return dataset(
        {name: Images([pixels]) for name, (pixels, _) in splits.items()},
        {name: classes for name, (_, classes) in splits.items()},
        {"files": [source.files[IMAGES.format(p)] for p in ("train", "t10k")], "train": train},
        preprocessing,
        augment,
        classes=10,
        remark=remark(train=train, known=known),
    )


def _read(source: Source, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 1, 28, 28) and classes (n,)."""
    from bnnbench_plugins.datasets.idx import read_idx

    images = read_idx(path_of(source, IMAGES.format(part)), dimensions=3)
    labels = read_idx(path_of(source, LABELS.format(part)), dimensions=1)
    return images[:, None], labels.astype("int64")

"""MNIST: 28 x 28 grey images of the ten digits (LeCun, Cortes and Burges, 1998).

50,000 to train, the last 10,000 of the training file to validate, 10,000 to test, as in
BinaryConnect (Courbariaux et al., 2015), section 3.1. BinaryConnect's article preprocesses
nothing, its public script centers each pixel, BNN has [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from bnnbench.downloads import Source, downloads, path_of
from bnnbench.interfaces import Dataset, Split

if TYPE_CHECKING:
    from torch import Tensor

Preprocessing = Literal["unit", "signed", "centered"]

VALIDATION = 10_000  #: the last so many of the training file

SOURCE = Source(
    name="mnist",
    urls=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    size_bytes=11_594_722,
    citation="LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998",
)


@downloads(SOURCE)
def mnist(
    *,
    train: Annotated[int, Ge(1), Le(50_000)] = 50_000,
    preprocessing: Preprocessing = "unit",
) -> Dataset:
    """Return MNIST; inputs are float32 (n, 1, 28, 28).

    Args:
        train: the first so many of the 50,000 training images, for short studies.
        preprocessing: "unit" is x/255, "signed" x/127.5 - 1, "centered" x/255 minus each pixel's
            mean over the training images (the published script means over all 60,000).

    Raises:
        DataError: a file is missing or damaged.
    """
    images, labels = _split("train")
    test_images, test_labels = _split("t10k")
    train_images, validation_images = images[:-VALIDATION][:train], images[-VALIDATION:]
    mean = train_images.sum(0) / (255 * len(train_images)) if preprocessing == "centered" else None
    return Dataset(
        train=Split(_scaled(train_images, preprocessing, mean), labels[:-VALIDATION][:train]),
        validation=Split(_scaled(validation_images, preprocessing, mean), labels[-VALIDATION:]),
        test=Split(_scaled(test_images, preprocessing, mean), test_labels),
        classes=10,
    )


def _split(prefix: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) in bytes and labels (n,) in int64."""
    import torch

    from bnnbench_plugins.datasets.idx import read_idx

    images = read_idx(path_of(SOURCE, f"{prefix}-images-idx3-ubyte.gz"), dimensions=3)
    labels = read_idx(path_of(SOURCE, f"{prefix}-labels-idx1-ubyte.gz"), dimensions=1)
    return torch.tensor(images).unsqueeze(1), torch.tensor(labels).long()


def _scaled(images: Tensor, preprocessing: Preprocessing, mean: Tensor | None) -> Tensor:
    if preprocessing == "signed":
        return images.float().div_(127.5).sub_(1)
    unit = images.float().div_(255)
    return unit if mean is None else unit.sub_(mean)

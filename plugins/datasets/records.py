"""A reader for the records of the CIFARs' binary version, one after another without a header.

    label bytes | 1,024 red pixels | 1,024 green | 1,024 blue, each row by row

source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
AGAIN = "remove its folder and fetch it again"


def read_records(
    path: Path, labels: tuple[int, ...], counts: tuple[int, ...], *, incomplete: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images (n, 3, 32, 32), mapped into memory, and their classes (n,).

    Args:
        path: of the file.
        labels: the number of values of each label byte; the last byte is the class.
        counts: how many images of each class there are, which tells the files from one another.
        incomplete: whether there may be fewer of them.

    Raises:
        DataError: records that are not whole, labels that do not exist, or other counts.
    """
    records = _mapped(path, len(labels) + PIXELS)
    for place, bound in enumerate(labels):
        _check_labels(path, records[:, place], bound)
    targets = records[:, len(labels) - 1].astype("int64")
    _check_counts(path, targets, counts, incomplete)
    return records[:, len(labels) :].reshape(-1, *SHAPE), targets


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    """The records (n, size)."""
    import numpy as np

    length = path.stat().st_size
    if not length or length % size:
        raise DataError(f"{path} must hold whole records of {size} bytes, got {length}; {AGAIN}")
    return np.memmap(path, np.uint8, "r", shape=(length // size, size))


def _check_labels(path: Path, labels: NDArray[np.uint8], bound: int) -> None:
    wrong = (labels >= bound).nonzero()[0]
    if len(wrong):
        raise DataError(
            f"{path} must have labels below {bound}, got {labels[wrong[0]]} in record {wrong[0]};"
            f" {AGAIN}"
        )


def _check_counts(
    path: Path, targets: NDArray[np.int64], counts: tuple[int, ...], incomplete: bool
) -> None:
    import numpy as np

    found, law = np.bincount(targets, minlength=len(counts)), np.asarray(counts)
    wrong = (found > law if incomplete else found != law).nonzero()[0]
    if len(wrong):
        way = "" if (found > law).any() else ", or set incomplete = true to go without"
        raise DataError(
            f"{path} must hold {'at most ' * incomplete}{law[wrong[0]]} images of class {wrong[0]},"
            f" got {found[wrong[0]]}; {AGAIN}{way}"
        )

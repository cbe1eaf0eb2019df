"""SVHN, cropped digits: 32 x 32 photographs of house numbers' digits (Netzer et al., 2011).

Three files: 73,257 images to train, 531,131 easier "extra" ones, 26,032 to test. Label 10 of the
files is the digit 0, and class 0 here.

    split               train    validate                                       test
    "paper"             598,388  6,000: 400 of each class of the training file  26,032
                                 and 200 of each class of the extra file
    "extra-validation"   73,257  30,000 of the extra file                       26,032
    "train-only"         67,257  6,000 of the training file; needs no extra     26,032

"paper" is the split of Sermanet et al. BinaryConnect takes it with "gcn-lcn" (its script most
likely with "gcn-lcn-red"), a student report on BinaryConnect (Columbia) with nothing preprocessed.
"extra-validation" is that of a student report on Bop (Sreedhar and Jain, KTH, section 4.4), which
states no preprocessing.

The bytes are unpacked into the cache once: 1.9 GB.

source: Netzer et al. (2011), Reading digits in natural images with unsupervised feature learning,
    its format 2; Sermanet, Chintala and LeCun (2012), Convolutional neural networks applied to
    house numbers digit classification
departs from them: which images validate was drawn and not published. Here they are the first of
    each class, the first 30,000, the last 6,000: digits of one photograph lie side by side, and
    so most of them stay in one split
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from bnnbench.downloads import Source, downloads, path_of
from bnnbench.errors import DataError
from bnnbench.interfaces import Dataset
from bnnbench_plugins.augmentations import Augment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bnnbench_plugins.cache import Draft

Preprocessing = Literal["signed", "unit", "centered", "standardized", "gcn-lcn", "gcn-lcn-red"]
Partition = Literal["paper", "extra-validation", "train-only"]

SHAPE = (3, 32, 32)
VERSION = 1  #: to be raised when the same file comes to be unpacked otherwise
STRETCH = 2_000  #: images that are unpacked at a time
COUNTS = {"train": 73_257, "extra": 531_131, "test": 26_032}
OF_TRAIN, OF_EXTRA = 400, 200  #: of each class, to validate in the paper's split
FIRST_OF_EXTRA, LAST_OF_TRAIN = 30_000, 6_000  #: to validate in the others

SOURCE = Source(
    name="svhn",
    urls=("http://ufldl.stanford.edu/housenumbers/",),
    files={
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    size_bytes=1_575_594_780,
    citation="Netzer et al., Reading digits in natural images with unsupervised feature learning,"
    " 2011",
)


@downloads(SOURCE)
def svhn(
    *,
    split: Partition = "paper",
    preprocessing: Preprocessing = "gcn-lcn",
    augmentation: Augment = "none",
    train: Annotated[int, Ge(1), Le(598_388)] = 598_388,
) -> Dataset:
    """Return SVHN's cropped digits; inputs are float32 (n, 3, 32, 32).

    Args:
        split: the paper's of 598,388 / 6,000 / 26,032 (BinaryConnect, section 3.3), or one with
            less to train: "extra-validation" with 73,257 / 30,000, "train-only" with
            67,257 / 6,000, which needs two of the three files.
        preprocessing: "gcn-lcn" (BinaryConnect), or another of those in
            :mod:`bnnbench_plugins.preprocessing`, fitted to the training images. Contrast-
            normalized, the paper's split is 7.7 GB in the cache, else 1.9.
        augmentation: of the training images; none of the sources has any.
        train: the first so many of the training images, for short studies; all if there are fewer.

    Raises:
        DataError: a file is missing or damaged, or the cache cannot be written.
    """
    import numpy as np

    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.datasets.splits import dataset, remark

    names = ["train", "test"] if split == "train-only" else ["train", "extra", "test"]
    files = {name: _unpacked(name) for name in names}
    rows = _rows(split, {name: file["labels"] for name, file in files.items()})
    known, rows["train"] = len(rows["train"]), rows["train"][:train]
    images = [file["images"] for file in files.values()]
    labels = np.concatenate([file["labels"] for file in files.values()]).astype(np.int64)
    return dataset(
        {name: Images(images, numbers) for name, numbers in rows.items()},
        {name: labels[numbers] for name, numbers in rows.items()},
        _key(names, rows),
        preprocessing,
        augmentation,
        classes=10,
        remark=remark(train=train, known=known),
    )


def _rows(
    split: Partition, labels: Mapping[str, NDArray[np.uint8]]
) -> dict[str, NDArray[np.int64]]:
    """The numbers of each split's images among those of all files, one after another."""
    import numpy as np

    total, end = sum(map(len, labels.values())), len(labels["train"])
    if split == "paper":
        of_extra = _first_of_each(labels["extra"], OF_EXTRA)
        held = np.append(_first_of_each(labels["train"], OF_TRAIN), end + of_extra)
    elif split == "extra-validation":
        held = end + np.arange(FIRST_OF_EXTRA)
    else:
        held = np.arange(end - LAST_OF_TRAIN, end)
    known = end if split == "extra-validation" else total - len(labels["test"])
    return {
        "train": np.setdiff1d(np.arange(known), held),
        "validation": held,
        "test": np.arange(total - len(labels["test"]), total),
    }


def _first_of_each(labels: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Where the first so many of each class are, in order."""
    import numpy as np

    first = [np.flatnonzero(labels == digit)[:count] for digit in range(10)]
    return np.sort(np.concatenate(first))


def _key(names: list[str], rows: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """What the pixels are: the files, and a digest of how they were picked."""
    picked = {name: sha256(numbers.tobytes()).hexdigest() for name, numbers in rows.items()}
    return {"files": [SOURCE.files[_file(name)] for name in names], "picked": picked}


def _file(name: str) -> str:
    return f"{name}_32x32.mat"


def _unpacked(name: str) -> dict[str, NDArray[np.uint8]]:
    """The "images" (n, 3, 32, 32) and "labels" (n,) of a file, which is read once, then kept."""
    from bnnbench_plugins.cache import kept

    file, count = _file(name), COUNTS[name]
    identity = {"unpacked": {"file": SOURCE.files[file], "count": count}, "version": VERSION}
    size = count * (math.prod(SHAPE) + 1)
    return kept(identity, size, lambda draft: _unpack(path_of(SOURCE, file), count, draft)).arrays


def _unpack(path: Path, count: int, draft: Draft) -> None:
    """Write what is in a file as "images" and "labels", a stretch at a time."""
    import numpy as np

    from bnnbench_plugins.datasets.matlab import arrays

    laws, found = {"X": (32, 32, 3, count), "y": (count, 1)}, set()
    for array in arrays(path):
        _check(array.shape == laws.get(array.name), path, f"{array.name} of shape {array.shape}")
        found.add(array.name)
        if array.name == "X":
            _check(array.dtype == np.uint8, path, f"X of type {array.dtype}")
            images = (part.transpose(0, 3, 1, 2) for part in array.stretches(STRETCH))
            draft.write("images", images, (count, *SHAPE), np.uint8)
        else:
            labels = array.whole().ravel()
            _check(bool(np.isin(labels, range(1, 11)).all()), path, "other labels")
            draft.write("labels", [labels % 10], (count,), np.uint8)
    _check(found == {*laws}, path, f"only {', '.join(found) or 'nothing'}")


def _check(law: bool, path: Path, got: str) -> None:
    if not law:
        raise DataError(
            f"{path} must have images X, bytes (32, 32, 3, n), and labels y, 1 to 10, (n, 1), with"
            f" the published n, got {got}; fetch it again"
        )

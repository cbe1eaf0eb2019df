"""CIFAR-10 and CIFAR-100: 32 x 32 photographs in ten or a hundred classes (Krizhevsky, 2009).

The binary version: records of a label (in CIFAR-100 of a coarse and a fine one, the fine is used)
and 3,072 bytes, the red, the green and the blue pixels, each row by row.

    validation  train   validate           test
    "last"      45,000  the last 5,000     10,000   BinaryConnect, BNN
    "random"    45,000  5,000 at random    10,000   BNEW (seed 1234)

Pixels are prepared by BinaryConnect as "gcn-zca", by BNN as "signed", both without augmentation;
by Bop as "signed", by md-bnn as "md-bnn-standardized", by BNEW as "bnew-standardized", all three
with "crop-flip".

source: Krizhevsky (2009), Learning multiple layers of features from tiny images; the layout from
    https://www.cs.toronto.edu/~kriz/cifar.html
departs from BinaryConnect: what is fitted is fitted on the images that are trained on, not on all
    50,000
departs from Bop: it validated on the test images, here they are looked at once
departs from BNEW: its generator cannot be repeated on every machine; the split is that of numpy's
    RandomState(1234).permutation
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Le

from bnnbench.archives import Archive
from bnnbench.downloads import Source, checksum_of, downloads, member_of
from bnnbench.errors import DataError
from bnnbench.interfaces import Dataset
from bnnbench_plugins.datasets.records import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Preprocessing = Literal[
    "unit",
    "signed",
    "centered",
    "standardized",
    "bnew-standardized",
    "md-bnn-standardized",
    "gcn-zca",
]
Augment = Literal["none", "flip", "crop-flip"]
Validation = Literal["last", "random"]

SEED = 1234  #: BNEW's, of the random split


class Layout(NamedTuple):
    """A CIFAR's files, with the number of their images of each class; the last is for testing.

    ``labels`` are the number of values of each label byte, ``validation`` the size of the
    validation split.
    """

    source: Source
    files: Mapping[str, tuple[int, ...]]
    labels: tuple[int, ...]
    validation: int = 5_000


CIFAR10 = Source(
    name="cifar10",
    urls=("https://www.cs.toronto.edu/~kriz/",),
    files={},
    size_bytes=170_052_171,
    citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    archives={
        "cifar-10-binary.tar.gz": Archive(
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            members=(
                *(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
                "cifar-10-batches-bin/test_batch.bin",
            ),
            limit_bytes=184_380_000,
        )
    },
)

CIFAR100 = Source(
    name="cifar100",
    urls=("https://www.cs.toronto.edu/~kriz/",),
    files={},
    size_bytes=168_513_733,
    citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    archives={
        "cifar-100-binary.tar.gz": Archive(
            md5="03b5dce01913d631647c71ecec9e9cb8",
            members=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
            limit_bytes=184_440_000,
        )
    },
)

TEN = Layout(
    source=CIFAR10,
    files={
        f"cifar-10-batches-bin/{name}.bin": counts
        for name, counts in {
            "data_batch_1": (1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981),
            "data_batch_2": (984, 1007, 1010, 995, 1010, 988, 1008, 1026, 987, 985),
            "data_batch_3": (994, 1042, 965, 997, 990, 1029, 978, 1015, 961, 1029),
            "data_batch_4": (1003, 963, 1041, 976, 1004, 1021, 1004, 981, 1024, 983),
            "data_batch_5": (1014, 1014, 952, 1016, 997, 1025, 980, 977, 1003, 1022),
            "test_batch": (1000,) * 10,
        }.items()
    },
    labels=(10,),
)

HUNDRED = Layout(
    source=CIFAR100,
    files={
        "cifar-100-binary/train.bin": (500,) * 100,
        "cifar-100-binary/test.bin": (100,) * 100,
    },
    labels=(20, 100),
)


@downloads(CIFAR10)
def cifar10(
    *,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    validation: Validation = "last",
    train: Annotated[int, Ge(1), Le(45_000)] = 45_000,
    incomplete: bool = False,
) -> Dataset:
    """Return CIFAR-10; inputs are float32 (n, 3, 32, 32).

    Args:
        preprocessing: "signed" is x/127.5 - 1 (BNN, Bop); the others are those of
            :mod:`bnnbench_plugins.preprocessing`, fitted on the training images.
        augmentation: of the training images.
        validation: the last 5,000 of the 50,000 (BinaryConnect), or 5,000 at random (BNEW).
        train: the first so many of the 45,000 training images, for short studies.
        incomplete: take files that lack some images, too; the data set's remark says how many.

    Raises:
        DataError: a file is missing, damaged, in another's place, or lacks images.
    """
    return _read(TEN, preprocessing, augmentation, validation, train, incomplete)


@downloads(CIFAR100)
def cifar100(
    *,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    validation: Validation = "last",
    train: Annotated[int, Ge(1), Le(45_000)] = 45_000,
    incomplete: bool = False,
) -> Dataset:
    """Return CIFAR-100 with its 100 fine classes; inputs are float32 (n, 3, 32, 32).

    Args:
        preprocessing: as in :func:`cifar10`.
        augmentation: of the training images.
        validation: the last 5,000 of the 50,000, or 5,000 at random (BNEW).
        train: the first so many of the 45,000 training images, for short studies.
        incomplete: take files that lack some images, too; the data set's remark says how many.

    Raises:
        DataError: a file is missing, damaged, in another's place, or lacks images.
    """
    return _read(HUNDRED, preprocessing, augmentation, validation, train, incomplete)


def _read(
    layout: Layout,
    preprocessing: Preprocessing,
    augment: Augment,
    validation: Validation,
    train: int,
    incomplete: bool,
) -> Dataset:
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.datasets.splits import dataset, remark

    arrays, targets = _files(layout, incomplete)
    rows = _rows(layout, len(targets), len(arrays[-1]), validation)
    known, rows["train"] = len(rows["train"]), rows["train"][:train]
    return dataset(
        {name: Images(arrays, chosen) for name, chosen in rows.items()},
        {name: targets[chosen] for name, chosen in rows.items()},
        _key(layout, validation, train),
        preprocessing,
        augment,
        classes=layout.labels[-1],
        remark=remark(_lacking(layout, len(targets)), train=train, known=known),
    )


def _files(layout: Layout, incomplete: bool) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """The images of each file, and the classes of all of them."""
    import numpy as np

    read = [
        read_records(member_of(layout.source, member), layout.labels, counts, incomplete=incomplete)
        for member, counts in layout.files.items()
    ]
    return [images for images, _ in read], np.concatenate([targets for _, targets in read])


def _rows(
    layout: Layout, total: int, test: int, validation: Validation
) -> dict[str, NDArray[np.int64]]:
    """The numbers of each split's images among all of them, of which the last are for testing."""
    import numpy as np

    held, rest = layout.validation, total - test
    if rest <= held:
        raise DataError(
            f"{layout.source.name} must have more than {held} images to train and validate on,"
            f" got {rest}"
        )
    order = np.random.RandomState(SEED).permutation(rest)
    if validation == "last":
        order = np.arange(rest)
    return {
        "train": order[:-held],
        "validation": order[-held:],
        "test": np.arange(rest, total),
    }


def _key(layout: Layout, validation: Validation, train: int) -> dict[str, Any]:
    """What the pixels are: the files, and how they were picked."""
    files = {member: checksum_of(layout.source, member) for member in layout.files}
    return {"files": files, "held": layout.validation, "validation": validation, "train": train}


def _lacking(layout: Layout, found: int) -> str:
    published = sum(map(sum, layout.files.values()))
    return "" if found == published else f"{found:,} of {published:,} images"

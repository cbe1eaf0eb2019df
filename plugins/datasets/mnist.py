"""MNIST and two data sets made in its likeness: 28 x 28 grey images in ten classes.

50,000 to train, the last 10,000 of the training file to validate, 10,000 to test, as in
BinaryConnect (Courbariaux et al., 2015), section 3.1. BinaryConnect's article preprocesses
nothing, its public script centers each pixel, a PyTorch port of it subtracts one
mean from all pixels, BNN has [-1, 1].

source: LeCun, Cortes and Burges (1998); Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747;
    Clanuwat et al. (2018), arXiv:1812.01718
departs from BinaryConnect's script: its means are over all 60,000 images, and the test images'
    own; here those that are trained on alone give the mean.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from bnnbench.downloads import Source, downloads
from bnnbench.interfaces import Dataset
from bnnbench_plugins.datasets.family import Augment, Preprocessing, read_family

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

FASHION = Source(
    name="fashion-mnist",
    urls=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    files={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    size_bytes=30_878_645,
    citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
)

KUZUSHIJI = Source(
    name="kmnist",
    urls=(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    ),
    files={
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    size_bytes=21_240_888,
    citation="Clanuwat et al., Deep learning for classical Japanese literature, 2018",
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
            mean over the training images (the published script means over all 60,000),
            "scalar-centered" x/255 minus the one mean of all their pixels, "standardized" that by
            their deviation.

    Raises:
        DataError: a file is missing or damaged.
    """
    return read_family(SOURCE, train, preprocessing)


@downloads(FASHION)
def fashion_mnist(
    *,
    train: Annotated[int, Ge(1), Le(50_000)] = 50_000,
    preprocessing: Preprocessing = "unit",
    augmentation: Augment = "none",
) -> Dataset:
    """Return Fashion-MNIST, ten kinds of clothes; inputs are float32 (n, 1, 28, 28).

    Args:
        train: the first so many of the 50,000 training images, for short studies.
        preprocessing: as in :func:`mnist`.
        augmentation: of the training images; clothes may be mirrored.

    Raises:
        DataError: a file is missing or damaged.
    """
    return read_family(FASHION, train, preprocessing, augmentation)


@downloads(KUZUSHIJI)
def kmnist(
    *,
    train: Annotated[int, Ge(1), Le(50_000)] = 50_000,
    preprocessing: Preprocessing = "unit",
) -> Dataset:
    """Return Kuzushiji-MNIST, ten hiragana in cursive hands; inputs are float32 (n, 1, 28, 28).

    Args:
        train: the first so many of the 50,000 training images, for short studies.
        preprocessing: as in :func:`mnist`.

    Raises:
        DataError: a file is missing or damaged.
    """
    return read_family(KUZUSHIJI, train, preprocessing)

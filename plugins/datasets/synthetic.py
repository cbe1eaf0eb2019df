"""Synthetic data sets in the shapes of real ones, learned in seconds.

They are drawn anew each time, as :mod:`bnnbench_plugins.datasets.prototypes` says. Their bytes
take the way of a real data set's, so that each preprocessing and augmentation can be tried where
nothing can be downloaded. What is measured on them says nothing about the sets whose shapes they
have.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from bnnbench.interfaces import Dataset
from bnnbench_plugins.augmentations import Augment
from bnnbench_plugins.preprocessing import Preprocessing

if TYPE_CHECKING:
    from bnnbench_plugins.datasets.prototypes import Kind

Pointwise = Literal["unit", "signed", "standardized", "imagenet-standardized"]
Count = Annotated[int, Ge(1), Le(60_000)]
Share = Annotated[float, Ge(0), Le(1)]
Side = Annotated[int, Ge(16), Le(256)]


def synthetic_mnist(
    *,
    preprocessing: Preprocessing = "unit",
    augmentation: Augment = "none",
    train: Count = 2_000,
    validation: Count = 500,
    test: Count = 500,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in MNIST's shape: inputs float32 (n, 1, 28, 28), ten classes.

    Args:
        preprocessing: any of :mod:`bnnbench_plugins.preprocessing`.
        augmentation: of the training images.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Classes

    kind = Classes(shape=(1, 28, 28), classes=10, noise=noise, seed=1, w=1)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def synthetic_cifar10(
    *,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    train: Count = 2_000,
    validation: Count = 500,
    test: Count = 500,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in CIFAR-10's shape: inputs float32 (n, 3, 32, 32), ten classes.

    Args:
        preprocessing: any of :mod:`bnnbench_plugins.preprocessing`.
        augmentation: of the training images.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Classes

    kind = Classes(shape=(3, 32, 32), classes=10, noise=noise, seed=2, w=3)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def synthetic_cifar100(
    *,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    train: Count = 5_000,
    validation: Count = 1_000,
    test: Count = 1_000,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in CIFAR-100's shape: inputs float32 (n, 3, 32, 32), 100 classes.

    Args:
        preprocessing: any of :mod:`bnnbench_plugins.preprocessing`.
        augmentation: of the training images.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Classes

    kind = Classes(shape=(3, 32, 32), classes=100, noise=noise, seed=3)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def synthetic_svhn(
    *,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    train: Count = 2_000,
    validation: Count = 500,
    test: Count = 500,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in SVHN's shape: inputs float32 (n, 3, 32, 32), ten classes.

    Args:
        preprocessing: any of :mod:`bnnbench_plugins.preprocessing`.
        augmentation: of the training images.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Classes

    kind = Classes(shape=(3, 32, 32), classes=10, noise=noise, seed=4, w=3)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def synthetic_imagenet(
    *,
    size: Side = 64,
    classes: Annotated[int, Ge(2), Le(1_000)] = 10,
    preprocessing: Pointwise = "imagenet-standardized",
    augmentation: Augment = "none",
    train: Count = 1_000,
    validation: Count = 250,
    test: Count = 250,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in ImageNet's shape: inputs float32 (n, 3, size, size).

    Args:
        size: the side of the inputs in pixels; 224 in ImageNet.
        classes: the number of classes; 1,000 in ImageNet.
        preprocessing: one of :mod:`bnnbench_plugins.preprocessing` that treats pixels alone.
        augmentation: of the training images.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Classes

    kind = Classes(shape=(3, size, size), classes=classes, noise=noise, seed=5, w=3)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def synthetic_pets(
    *,
    size: Side = 64,
    preprocessing: Pointwise = "signed",
    augmentation: Augment = "none",
    train: Count = 500,
    validation: Count = 125,
    test: Count = 125,
    noise: Share = 0.5,
) -> Dataset:
    """Return a synthetic set in the shape of the pets: a class for each pixel, of three.

    Inputs are float32 (n, 3, size, size), targets int64 (n, size, size).

    Args:
        size: the side of the inputs in pixels.
        preprocessing: one of :mod:`bnnbench_plugins.preprocessing` that treats pixels alone.
        augmentation: of the training images and their targets.
        train: the number of training images; our choice, as are all numbers here.
        validation: the number of images to validate.
        test: the number of images to test.
        noise: what share of the pixels' range is noise; with more it is harder.
    """
    from bnnbench_plugins.datasets.prototypes import Pets

    kind = Pets(shape=(3, size, size), classes=3, noise=noise, seed=6)
    return _dataset(kind, preprocessing, augmentation, (train, validation, test))


def _dataset(
    kind: Kind, preprocessing: str, augmentation: Augment, counts: tuple[int, int, int]
) -> Dataset:
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.datasets.prototypes import SPLITS, VERSION, examples
    from bnnbench_plugins.datasets.splits import dataset

    drawn = {name: examples(kind, name, n) for name, n in zip(SPLITS, counts, strict=True)}
    key = {"synthetic": type(kind).__name__, "version": VERSION, "counts": counts, **asdict(kind)}
    return dataset(
        {name: Images([found.images]) for name, found in drawn.items()},
        {name: found.targets for name, found in drawn.items()},
        key,
        preprocessing,
        augmentation,
        classes=kind.classes,
        synthetic=True,
        task=kind.task,
    )

"""ImageNet, the classification task of 2012: photographs of a thousand classes.

1,281,167 photographs to train and 50,000 of the publishers' validation set, whose test set has no
public answers (Russakovsky et al., 2015). Every published accuracy is one on the 50,000; here they
are the test split, which no tuning sees, and ten training images of each class validate:

    train 1,271,167    validate 10,000    test 50,000

Nothing is unpacked or kept: see :mod:`bnnbench_plugins.datasets.stream`. Bi-Real Net and ReActNet
train on "resized-crop-flip" with "imagenet-standardized"; ReActNet adds lighting of 0.1.

source: Russakovsky et al. (2015), ImageNet large scale visual recognition challenge; the public
    scripts of Bi-Real Net and ReActNet
departs from the scripts: they train on all training images, and choose by the 50,000
departs from ReActNet's: its light is added to bytes without the factor 255, and is next to none
departs from torchvision's resize to 256 and crop of 224: one step does both, and a JPEG is decoded
    at a smaller size where that has pixels enough
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from bnnbench.downloads import Source, downloads, folder
from bnnbench.errors import DataError
from bnnbench.interfaces import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Preprocessing = Literal["imagenet-standardized", "signed", "unit"]
Augment = Literal["none", "resized-crop-flip"]

CLASSES, TRAIN, TEST = 1_000, 1_281_167, 50_000
CLASS = re.compile(r"n\d{8}")
ENDINGS = (".jpeg", ".jpg")

SOURCE = Source(
    name="imagenet",
    urls=(),
    files={},
    size_bytes=154_642_401_280,
    citation="Russakovsky et al., ImageNet large scale visual recognition challenge, 2015",
    by_hand="register at https://image-net.org/, get ILSVRC2012_img_train.tar and _val.tar, and"
    " unpack them so that the images of each class lie in train/nXXXXXXXX/ and val/nXXXXXXXX/",
)


@downloads(SOURCE)
def imagenet(
    *,
    preprocessing: Preprocessing = "imagenet-standardized",
    augmentation: Augment = "resized-crop-flip",
    lighting: Annotated[float, Ge(0), Le(1)] = 0.0,
    size: Annotated[int, Ge(16), Le(512)] = 224,
    classes: Annotated[int, Ge(2), Le(CLASSES)] = CLASSES,
    validation: Annotated[int, Ge(1), Le(500)] = 10,
    train: Annotated[int, Ge(1), Le(TRAIN)] = TRAIN,
) -> Dataset:
    """Return ImageNet, read as it is needed; inputs are float32 (n, 3, size, size).

    Args:
        preprocessing: "imagenet-standardized" has the mean and deviation that all scripts have,
            "signed" is x/127.5 - 1, "unit" x/255.
        augmentation: "resized-crop-flip" is that of all scripts; "none" trains on what is judged.
        lighting: the deviation of what is added along the principal components of RGB, 0.1 in
            AlexNet and ReActNet; with an augmentation only.
        size: the side of the inputs in pixels, 224 in all scripts.
        classes: the first so many in the order of their names, for short studies.
        validation: how many training images of each class validate.
        train: the first so many of the training images, of which one of each class come in turn.

    Raises:
        DataError: the folder is not there or not as it should be; a damaged image, at the latest
            when its batch is due.
    """
    from bnnbench_plugins.datasets.splits import remark
    from bnnbench_plugins.datasets.stream import Stream

    names = _classes(folder(SOURCE))[:classes]
    known, test = _files("train", names, validation + 1), _files("val", names, 1)
    scale, shift = _affine(preprocessing)
    look = partial(Stream, folder(SOURCE), size=size, scale=scale, shift=shift)
    rest, augmented = [files[validation:] for files in known], augmentation != "none"
    return Dataset(
        train=look(*_in_turn(rest, train), augmented=augmented, lighting=lighting),
        validation=look(*_in_turn([files[:validation] for files in known])),
        test=look(*_in_turn(test)),
        classes=len(names),
        remark=remark(
            _lacking(len(names), sum(map(len, known)), sum(map(len, test))),
            train=train,
            known=sum(map(len, rest)),
        ),
    )


def _classes(root: Path) -> list[str]:
    """The names of the classes, in order."""
    place = root / "train"
    names = sorted(filter(CLASS.fullmatch, _listed(place)))
    if len(names) < 2:
        raise _refusal(place, f"{len(names)} folders named nXXXXXXXX")
    return names


def _files(part: str, names: list[str], least: int) -> list[list[str]]:
    """The files of each class in a part, "train" or "val", below the root; in order."""
    found = []
    for name in names:
        place = folder(SOURCE) / part / name
        files = sorted(file for file in _listed(place) if file.lower().endswith(ENDINGS))
        if len(files) < least:
            raise _refusal(place, f"{len(files)} images where at least {least} are due")
        found.append([f"{part}/{name}/{file}" for file in files])
    return found


def _listed(place: Path) -> list[str]:
    try:
        return os.listdir(place)  # noqa: PTH208 - a million Path objects would be slow
    except OSError as error:
        raise _refusal(place, str(error.strerror)) from error


def _refusal(place: Path, got: str) -> DataError:
    return DataError(f"{place} must be as published, got: {got}; {SOURCE.by_hand}")


def _in_turn(files: list[list[str]], count: int | None = None) -> tuple[NDArray[np.bytes_], Tensor]:
    """The first so many files, as bytes, and their classes, one of each class in turn."""
    import numpy as np
    import torch

    counts = list(map(len, files))
    classes, places = (
        np.repeat(range(len(files)), counts),
        np.concatenate([*map(np.arange, counts)]),
    )
    order = np.lexsort((classes, places))[:count]
    names = np.array([os.fsencode(name) for of_class in files for name in of_class])
    return names[order], torch.from_numpy(classes[order])


def _affine(preprocessing: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The scale and the shift of each channel: where black and white go says all."""
    import numpy as np

    from bnnbench_plugins.preprocessing import recipe

    ends = np.repeat(np.array([0, 255], np.uint8), 3).reshape(2, 3, 1, 1)
    black, white = recipe(preprocessing).fit(())(ends).reshape(2, 3).astype(float).tolist()
    return tuple((w - b) / 255 for b, w in zip(black, white, strict=True)), tuple(black)


def _lacking(classes: int, train: int, test: int) -> str:
    if classes < CLASSES:
        return f"{classes} of {CLASSES:,} classes"
    if (train, test) != (TRAIN, TEST):
        return f"{train:,} of {TRAIN:,} and {test:,} of {TEST:,} images"
    return ""

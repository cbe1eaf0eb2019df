"""Preprocessed images: made once, kept in the cache, and mapped into memory from there.

What costs a pass over the bytes and no more (:func:`_is_cheap`) is done in memory each time. All
else goes to the cache (:mod:`bnnbench_plugins.cache`), named by what the pixels are and by what is
done to them:

    train.npy  validation.npy  test.npy    float32 (n, C, H, W)
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench_plugins.preprocessing import VERSION, recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench_plugins.cache import Draft
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.preprocessing import Recipe, Transform

IN_MEMORY = 2**30  #: bytes of float32 up to which a pass over the bytes is as quick as a file
PATIENCE, PAUSE = 2, 10  #: seconds before the first line of progress, and between lines


@dataclass(frozen=True, eq=False)
class Prepared:
    """The splits as the network is to see them.

    ``inputs`` are float32 (n, C, H, W), by split; what is written to them is seen by this process
    alone. ``fill`` (C,) is what a black pixel becomes where that depends on its channel alone, and
    zero elsewhere: what a border is filled with that is added to images.
    """

    inputs: dict[str, Tensor]
    fill: Tensor


class _Job(NamedTuple):
    """What is to be done, and what names it."""

    name: str
    recipe: Recipe
    splits: Mapping[str, Images]
    key: Mapping[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (len(images), *images.shape) for name, images in self.splits.items()}

    @property
    def size_bytes(self) -> int:
        return sum(4 * math.prod(shape) for shape in self.shapes.values())

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides about the result."""
        parameters = {"kind": type(self.recipe).__name__, **vars(self.recipe)}
        return {
            "key": self.key,
            "preprocessing": self.name,
            "parameters": parameters,
            "version": VERSION,
            "shapes": self.shapes,
        }


def prepare(preprocessing: str, splits: Mapping[str, Images], key: Mapping[str, Any]) -> Prepared:
    """Return the preprocessed splits, from the cache if they are there.

    Args:
        preprocessing: its name; it is fitted to ``splits["train"]`` alone.
        splits: the images of "train", "validation" and "test".
        key: says in JSON's types what the pixels are, and differs where they do: the checksums of
            the files, how the rows were picked.

    Raises:
        UsageError: no preprocessing has that name, or it is for other images.
        DataError: the cache cannot be written, or is full.
    """
    job = _Job(preprocessing, recipe(preprocessing), splits, key)
    return _in_memory(job) if _is_cheap(job) else _from_cache(job)


def _from_cache(job: _Job) -> Prepared:
    import torch

    from bnnbench_plugins.cache import kept

    found = kept(job.identity, job.size_bytes, lambda draft: _write(job, draft))
    inputs = {name: torch.from_numpy(array) for name, array in found.arrays.items()}
    return Prepared(inputs, torch.tensor(found.facts["fill"]))


def _is_cheap(job: _Job) -> bool:
    """Whether making it takes no longer than reading it from a file that is not in memory."""
    pointwise = job.recipe.pointwise and not job.recipe.fits
    return pointwise and job.size_bytes <= IN_MEMORY


def _in_memory(job: _Job) -> Prepared:
    import numpy as np
    import torch

    transform, inputs = job.recipe.fit(()), {}
    for name, images in job.splits.items():
        made = np.empty(job.shapes[name], np.float32)
        start = 0
        for chunk in images.chunks():
            made[start : start + len(chunk)] = transform(chunk)
            start += len(chunk)
        inputs[name] = torch.from_numpy(made)
    return Prepared(inputs, torch.tensor(_fill(job, transform)))


def _write(job: _Job, draft: Draft) -> None:
    import numpy as np

    total = sum(len(images) for images in job.splits.values())
    progress = _Progress(
        f"preparing {job.name}", total + job.recipe.fits * len(job.splits["train"])
    )
    transform = job.recipe.fit(progress.chunks(job.splits["train"]))
    for name, images in job.splits.items():
        made = map(transform, progress.chunks(images))
        draft.write(name, made, job.shapes[name], np.float32)
    draft.facts["fill"] = _fill(job, transform)
    progress.close()


def _fill(job: _Job, transform: Transform) -> list[float]:
    """What a black pixel becomes in each channel; zeros where that depends on more."""
    import numpy as np

    channels = job.splits["train"].shape[0]
    if not job.recipe.pointwise:
        return [0.0] * channels
    return [float(x) for x in transform(np.zeros((1, channels, 1, 1), np.uint8)).ravel()]


class _Progress:
    """Lines on standard error that say how far it is, for what takes more than a moment."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.count = label, total, 0
        self.began, self.said = time.monotonic(), 0.0

    def chunks(self, images: Images) -> Iterator[NDArray[np.uint8]]:
        """Yield the images' chunks, and count each when the next is asked for."""
        for chunk in images.chunks():
            yield chunk
            self.count += len(chunk)
            past = time.monotonic() - self.began
            if past >= (self.said + PAUSE if self.said else PATIENCE):
                self.said = past
                self._say(f"{100 * self.count // self.total} % after {past:.0f} s")

    def close(self) -> None:
        """Say that it is done, if anything was said."""
        if self.said:
            self._say(f"done after {time.monotonic() - self.began:.0f} s")

    def _say(self, text: str) -> None:
        print(f"{self.label}: {text}", file=sys.stderr, flush=True)

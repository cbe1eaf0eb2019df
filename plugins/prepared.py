"""Preprocessed images: bytes with a table, or made once, kept in the cache and mapped from there.

Where each value depends on one byte and its channel alone, the bytes stay bytes and a table
(C, 256) says what they stand for; fitting it is one pass over them. All else goes to the cache
(:mod:`bnnbench_plugins.cache`), and so do more bytes than fit into memory well (:data:`IN_MEMORY`),
named by what the pixels are and by what is done to them:

    train.npy  validation.npy  test.npy    float32 or uint8 (n, C, H, W)
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

IN_MEMORY = 2**28  #: bytes of images up to which each process has its own
PATIENCE, PAUSE = 2, 10  #: seconds before the first line of progress, and between lines


@dataclass(frozen=True, eq=False)
class Prepared:
    """The splits as the network is to see them.

    ``inputs`` (n, C, H, W), by split, are float32, or uint8 where there is a ``table`` (C, 256) of
    the float32 that they stand for; what is written to them is seen by this process alone. ``fill``
    (C,) is what a black pixel becomes where that depends on its channel alone, and zero elsewhere:
    what a border is filled with that is added to images.
    """

    inputs: dict[str, Tensor]
    fill: Tensor
    table: Tensor | None = None


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
        each = 1 if self.recipe.pointwise else 4
        return sum(each * math.prod(shape) for shape in self.shapes.values())

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
            "as": "bytes" if self.recipe.pointwise else "float32",
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
    small = job.recipe.pointwise and job.size_bytes <= IN_MEMORY
    return _in_memory(job) if small else _from_cache(job)


def _from_cache(job: _Job) -> Prepared:
    import numpy as np
    import torch

    from bnnbench_plugins.cache import kept

    found = kept(job.identity, job.size_bytes, lambda draft: _write(job, draft))
    inputs = {name: torch.from_numpy(array) for name, array in found.arrays.items()}
    if "table" in found.facts:
        return _looked_up(inputs, np.array(found.facts["table"], np.float32))
    return Prepared(inputs, torch.zeros(job.splits["train"].shape[0]))


def _in_memory(job: _Job) -> Prepared:
    import torch

    table = _table(job, job.recipe.fit(job.splits["train"].chunks()))
    inputs = {name: torch.from_numpy(images.whole()) for name, images in job.splits.items()}
    return _looked_up(inputs, table)


def _looked_up(inputs: dict[str, Tensor], table: NDArray[np.float32]) -> Prepared:
    import torch

    return Prepared(inputs, torch.from_numpy(table[:, 0].copy()), torch.from_numpy(table))


def _write(job: _Job, draft: Draft) -> None:
    import numpy as np

    total = sum(len(images) for images in job.splits.values())
    progress = _Progress(
        f"preparing {job.name}", total + job.recipe.fits * len(job.splits["train"])
    )
    transform = job.recipe.fit(progress.chunks(job.splits["train"]))
    for name, images in job.splits.items():
        chunks = progress.chunks(images)
        if job.recipe.pointwise:
            draft.write(name, chunks, job.shapes[name], np.uint8)
        else:
            draft.write(name, map(transform, chunks), job.shapes[name], np.float32)
    if job.recipe.pointwise:
        draft.facts["table"] = _table(job, transform).tolist()
    progress.close()


def _table(job: _Job, transform: Transform) -> NDArray[np.float32]:
    """What each byte becomes in each channel: (C, 256)."""
    import numpy as np

    channels = job.splits["train"].shape[0]
    every = np.broadcast_to(np.arange(256, dtype=np.uint8), (1, channels, 1, 256))
    return transform(every).reshape(channels, 256)


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

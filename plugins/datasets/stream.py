"""Labelled photographs that are read as they are needed, by threads, some batches ahead.

    files -> bytes and sizes -> one draw for the whole batch -> decoded squares -> one tensor

    judged    a = scale x + shift of the square in the middle of the photograph, x its bytes
    trained   a = scale (x + 255 P (alpha lambda)) + shift of a random box, mirrored or not

Only the names and targets of all files are kept, and the images of a few batches. All chances of a
batch are drawn at once and by one generator, so that they do not depend on the threads.

source: Krizhevsky et al. (2012), ImageNet classification with deep convolutional neural networks,
section 4.1, for the light, with P and lambda of the RGB values of ImageNet as fb.resnet.torch has
them; the box is that of :func:`bnnbench_plugins.augmentations.boxes`.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from bnnbench.environment import cores
from bnnbench.sending import sent
from bnnbench_plugins.augmentations import boxes
from bnnbench_plugins.datasets.photographs import Box, Photograph, read_photograph, square

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

T = TypeVar("T")

AHEAD = 2  #: batches that are decoded while one is used
FEW = 256  #: files whose sizes are looked at for a fingerprint
MIDDLE = 224 / 256  #: share of the shorter side that is seen where nothing is drawn
VALUES = (0.2175, 0.0188, 0.0045)  #: lambda, and the columns of P, for x / 255
VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


class Draw(NamedTuple):
    """The chances of a batch: a box for each, whether it is mirrored, and what light is added."""

    boxes: list[Box]
    mirrored: Tensor  #: bool (n,)
    light: Tensor  #: float32 (n, 3), in bytes


@dataclass(frozen=True)
class Stream:
    """Examples that are read as they are needed: inputs (n, 3, size, size), targets (n,).

    ``names`` are those of the files below ``root``, encoded as the file system has them.
    ``scale`` and ``shift`` are the preprocessing's, for each channel. ``augmented`` says that a
    generator has an effect, and ``lighting`` is the deviation of alpha.
    """

    root: Path
    names: NDArray[np.bytes_]
    targets: Tensor
    size: int
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    augmented: bool = False
    lighting: float = 0.0
    device: str = "cpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (3, self.size, self.size)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.targets)

    def to(self, device: str) -> Stream:
        """Return the same examples, their batches on another device."""
        return replace(self, device=device)

    def fingerprint(self) -> str:
        """Return a digest of all names and targets, and of the sizes of up to 256 files."""
        few = range(0, len(self), max(1, len(self) // FEW))[:FEW]
        digest = hashlib.sha256(repr((self.shape, self.scale, self.shift)).encode())
        digest.update(self.names.tobytes() + self.targets.numpy().tobytes())
        digest.update(repr([self.path(i).stat().st_size for i in few]).encode())
        return digest.hexdigest()[:16]

    def batches(
        self, size: int, order: Tensor | None = None, generator: Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see :meth:`bnnbench.interfaces.Examples.batches`.

        Raises:
            DataError: a file is no image or damaged, at the latest when its batch is due.
        """
        chances = generator if self.augmented else None
        numbers = torch.arange(len(self)) if order is None else order
        pool = ThreadPoolExecutor(threads())
        try:
            read = (_Batch(self, pool, chosen) for chosen in numbers.split(size) if len(chosen))
            begun = (batch.begin(chances) for batch in ahead(read, 1))
            for batch in ahead(begun, AHEAD):
                yield batch.finish()
        finally:  # also where the caller stops early, or an image is damaged
            pool.shutdown(cancel_futures=True)

    def path(self, number: int) -> Path:
        """Return where an example's file is."""
        return self.root / os.fsdecode(self.names[number])

    def draw(self, photographs: Sequence[Photograph], generator: Generator | None) -> Draw:
        """Return a batch's chances, or what is in their place without a generator."""
        heights = torch.tensor([photograph.height for photograph in photographs])
        widths = torch.tensor([photograph.width for photograph in photographs])
        n = len(photographs)
        if generator is None:
            never, none = torch.zeros(n, dtype=torch.bool), torch.zeros(n, 3)
            return Draw(middle(heights, widths), never, none)
        drawn = boxes(n, heights, widths, generator)
        mirrored = torch.rand(n, generator=generator) < 0.5
        alpha = torch.randn(n, 3, generator=generator) * self.lighting
        light = 255 * (alpha * torch.tensor(VALUES)) @ torch.tensor(VECTORS).T
        return Draw([Box(*box) for box in drawn.tolist()], mirrored, light)

    def inputs(self, squares: Tensor, draw: Draw) -> Tensor:
        """Return the network's inputs (n, 3, size, size) from bytes (n, size, size, 3)."""
        squares = sent(squares, self.device)
        if draw.mirrored.any():
            mirrored = sent(draw.mirrored, self.device).view(-1, 1, 1, 1)
            squares = torch.where(mirrored, squares.flip(2), squares)
        scale = torch.tensor(self.scale)
        shift = draw.light * scale + torch.tensor(self.shift)
        inputs = squares.permute(0, 3, 1, 2).contiguous().float()
        inputs *= sent(scale, self.device).view(3, 1, 1)
        inputs += sent(shift, self.device).view(-1, 3, 1, 1)
        return inputs


class _Batch:
    """A batch on its way: its files are being read, then its squares decoded."""

    def __init__(self, stream: Stream, pool: Executor, numbers: Tensor) -> None:
        self.stream, self.pool, self.targets = stream, pool, stream.targets[numbers]
        paths = map(stream.path, numbers.tolist())
        self.files = [pool.submit(read_photograph, path) for path in paths]

    def begin(self, generator: Generator | None) -> _Batch:
        """Begin to decode, once all sizes are known."""
        photographs = [file.result() for file in self.files]
        self.files.clear()  # the bytes are the squares' business now
        self.drawn = self.stream.draw(photographs, generator)
        size = self.stream.size
        self.squares = [
            self.pool.submit(square, photograph, box, size)
            for photograph, box in zip(photographs, self.drawn.boxes, strict=True)
        ]
        return self

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets, once all are decoded."""
        squares = torch.from_numpy(np.stack([square.result() for square in self.squares]))
        self.squares.clear()
        inputs = self.stream.inputs(squares, self.drawn)
        return inputs, sent(self.targets, self.stream.device)


def middle(heights: Tensor, widths: Tensor) -> list[Box]:
    """Return the middle of each: a resize to 256 and a crop of 224, in one step."""
    sides = torch.minimum(heights, widths) * MIDDLE
    corners = [(heights - sides) / 2, (widths - sides) / 2, sides, sides]
    return [Box(*box) for box in torch.stack(corners, 1).tolist()]


def threads() -> int:
    """Return how many threads read: as many as there are cores for us."""
    return cores()


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield the items, ``count`` of the next ones begun already.

    >>> source = iter("abcde")
    >>> next(ahead(source, 2)), next(source)
    ('a', 'd')
    """
    source = iter(items)
    begun = deque(islice(source, count))
    for item in source:
        begun.append(item)
        yield begun.popleft()
    yield from begun

"""Examples that are kept as bytes, a quarter of the memory, and looked up batch by batch.

    inputs[i, c] = table[c, bytes[i, c]]

A preprocessing that treats each pixel by itself has 256 values for each channel, so that the table
says all of it: the inputs are those that float32 in memory would give, bit for bit. The bytes lie
on the device that trains, and only those of a batch become floats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnbench.interfaces import few, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from bnnbench.interfaces import Augmentation, Split


@dataclass(frozen=True)
class Bytes:
    """Examples whose inputs are bytes (n, C, H, W) in a split, and a table (C, 256) of float32.

    ``augmentation`` is for training, and sees floats.
    """

    split: Split
    table: Tensor
    augmentation: Augmentation | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.split.shape

    @property
    def targets(self) -> Tensor:
        """All targets (n, ...)."""
        return self.split.targets

    @property
    def inputs(self) -> Tensor:
        """All inputs as float32 (n, C, H, W), made anew: four times the memory of the bytes."""
        return self.look_up(self.split.inputs)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.split)

    def batches(
        self, size: int, order: Tensor | None = None, generator: Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see :meth:`bnnbench.interfaces.Examples.batches`."""
        augment = self.augmentation if generator is not None else None
        for pixels, targets in self.split.batches(size, order):
            inputs = self.look_up(pixels)
            if augment is None or generator is None:
                yield inputs, targets
            else:
                yield augment(inputs, targets, generator)

    def look_up(self, pixels: Tensor) -> Tensor:
        """Return the inputs (n, C, H, W) that bytes of that shape stand for."""
        table = self.table.expand(len(pixels), -1, -1)
        return table.gather(2, pixels.flatten(2).long()).view(pixels.shape)

    def to(self, device: str) -> Bytes:
        """Return the same examples on another device."""
        return replace(self, split=self.split.to(device), table=self.table.to(device))

    def fingerprint(self) -> str:
        """Return the digest that a split with these inputs has."""
        shown = self.look_up(few(self.split.inputs))
        return fingerprint((len(self), *self.shape), self.targets, shown)

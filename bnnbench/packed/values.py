"""What flows between the nodes of a packed network: real numbers, integers and bits.

Real numbers are tensors as torch has them, (batch, channels, height, width). Integers and bits lie
with their channels last, as the kernels want them: (batch, height, width, channels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnnbench.packed.bits import pack, pack_images, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Ints:
    """int32 with the channels last."""

    array: NDArray[np.int32]


@dataclass(frozen=True)
class Bits:
    """+1 and -1 as packed words, (batch, ..., words) for so many channels."""

    words: NDArray[np.uint64]
    channels: int


def real(value: Any) -> Tensor:
    """Return the numbers that a value stands for, as float32 in torch's order."""
    if isinstance(value, torch.Tensor):
        return value
    array = value.array if isinstance(value, Ints) else unpack(value.words, value.channels)
    last = torch.from_numpy(np.ascontiguousarray(array)).float()
    return last if last.ndim == 2 else last.permute(0, 3, 1, 2).contiguous()


def bits(value: Any) -> Bits:
    """Return the signs of a value: +1 from 0 on."""
    if isinstance(value, Bits):
        return value
    if isinstance(value, Ints):
        return Bits(pack(value.array), value.array.shape[-1])
    if value.ndim == 2:
        return Bits(pack(value.numpy()), value.shape[1])
    return Bits(pack_images(value.numpy()), value.shape[1])


def ints(value: Tensor) -> Ints:
    """Return whole numbers in torch's order as integers."""
    last = value if value.ndim == 2 else value.permute(0, 2, 3, 1)
    return Ints(np.ascontiguousarray(last.to(torch.int32).numpy()))

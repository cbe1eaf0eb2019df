"""Numbers that are still on the device that trains, and are read together.

A GPU works through a queue: a number that is asked for is there when all before it is done. In an
epoch the training asks once, for all its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.measurements import Measurement


def numbers(values: Sequence[Any]) -> list[float]:
    """Return values, some of them tensors of one number, as numbers: one wait for each device.

    >>> numbers([1.5, torch.tensor(3), torch.tensor(0.25)])
    [1.5, 3.0, 0.25]
    """
    found = list(values)
    waiting = {place: v for place, v in enumerate(found) if isinstance(v, torch.Tensor)}
    for device in {tensor.device for tensor in waiting.values()}:
        there = {place: v for place, v in waiting.items() if v.device == device}
        read = torch.stack([tensor.detach().double() for tensor in there.values()]).tolist()
        for place, value in zip(there, read, strict=True):
            found[place] = value
    return found


def received(measured: Iterable[Measurement]) -> list[Measurement]:
    """Return measurements whose values may be tensors of one number with numbers in their place."""
    waiting = list(measured)
    values = numbers([m.value for m in waiting])
    return [m._replace(value=value) for m, value in zip(waiting, values, strict=True)]

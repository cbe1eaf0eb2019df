"""How many codes a step changed, by layer, whoever counted them.

What moves the latents either counts as it goes (:meth:`Flips.add`), or says so beforehand
(:meth:`Flips.watch`), and the codes before and after are compared once somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.latents import Latents


class Flips:
    """The flips of the latents since :meth:`clear`, which is called after every step."""

    def __init__(self, latents: Latents) -> None:
        self.latents = latents
        self.clear()
        self._seen: dict[str, Any] | None = None
        self._moved = False

    def watch(self) -> None:
        """Look at the codes before something moves the latents without counting."""
        if self._seen is None:
            self._seen = self._codes()
        self._moved = True

    def unwatch(self) -> None:
        """Take stock before something moves the latents and counts by itself."""
        if self._seen is not None:
            self.by_layer()
            self._seen = None

    def add(self, layer: str, flips: Tensor | int) -> None:
        """Take the flips of something that has counted; say :meth:`unwatch` before it moves."""
        self._counts[layer] += flips

    def by_layer(self) -> dict[str, Tensor | int]:
        """Return the flips of each layer: ints, or tensors of one int that wait on the device."""
        if self._moved and self._seen is not None:
            now = self._codes()
            for name, code in now.items():
                self._counts[name] += _differences(code, self._seen[name])
            self._seen = now
        self._moved = False
        return dict(self._counts)

    def clear(self) -> None:
        """Begin to count again."""
        self._counts: dict[str, Tensor | int] = dict.fromkeys(self.latents.tensors, 0)

    def _codes(self) -> dict[str, Any]:
        """The sign bits, on CPU as numpy arrays: it takes a third of torch's time per call."""
        tensors = self.latents.tensors.items()
        return {name: (w.numpy() if w.device.type == "cpu" else w) >= 0 for name, w in tensors}


def _differences(now: Any, then: Any) -> Tensor | int:
    changed = now != then
    if isinstance(changed, np.ndarray):
        return int(np.count_nonzero(changed))
    return torch.count_nonzero(changed)

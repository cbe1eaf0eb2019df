"""Which part of a batch is whose, where several processes train one network together.

process r of N has the examples  r B // N, ..., (r + 1) B // N - 1  of a batch of B
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.nn import functional

from bnnbench.errors import PluginError
from bnnbench.metrics import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class Parts:
    """The parts of the batch under way; ``rank`` is this process's place among ``size``.

    ``whole`` is the size of the batch, 0 where no batch is divided: where a network is judged.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.whole = rank, size, 0

    @contextmanager
    def of(self, whole: int) -> Iterator[slice]:
        """Divide a batch until the block ends; yield this process's part of it."""
        self.whole = whole
        try:
            yield self.mine
        finally:
            self.whole = 0

    @property
    def mine(self) -> slice:
        """This process's part of the batch under way."""
        return self._part(self.rank)

    @property
    def counts(self) -> list[int]:
        """The number of examples of each process.

        >>> parts = Parts(0, 3)
        >>> with parts.of(10):
        ...     parts.counts, parts.mine
        ([3, 3, 4], slice(0, 3, None))
        """
        parts = map(self._part, range(self.size))
        return [part.stop - part.start for part in parts]

    def _part(self, rank: int) -> slice:
        return slice(rank * self.whole // self.size, (rank + 1) * self.whole // self.size)


def share(part: Tensor, targets: Tensor) -> Tensor | float:
    """Return the weight of a part's mean in that over all targets of the batch, those with a label.

    The number, or a tensor in double precision that waits on the device.
    """
    if targets.ndim == 1:  # an example always has a class: no need to look
        return len(part) / len(targets)
    own, whole = ((some != UNLABELLED).sum().double() for some in (part, targets))
    return own / whole.clamp_min(1)


class WholeDraws:
    """Lets a layer draw for the whole batch, and take what belongs to this process's part.

    The part is laid into zeros of the whole batch's size, so that what is drawn, and for which
    example, is what one process would draw. Right for layers that treat examples one by one.
    """

    def __init__(self, layer: nn.Module, parts: Parts) -> None:
        self.parts = parts
        self.hooks = (
            layer.register_forward_pre_hook(self._widen),
            layer.register_forward_hook(self._narrow),
        )

    def remove(self) -> None:
        """Let the layer be as it was."""
        for hook in self.hooks:
            hook.remove()

    def _widen(self, layer: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor] | None:
        if not self.parts.whole:
            return None
        mine, counts = self.parts.mine, self.parts.counts
        if len(given) != 1 or len(given[0]) != counts[self.parts.rank]:
            raise PluginError(
                "in several processes a layer that draws must be given one tensor, a row for each"
                f" example, which {type(layer).__name__} is not; train in one process"
            )
        (x,) = given
        around = (0, 0) * (x.ndim - 1) + (mine.start, self.parts.whole - mine.stop)
        return (functional.pad(x, around),)

    def _narrow(self, layer: nn.Module, given: Any, output: Tensor) -> Tensor | None:
        return output[self.parts.mine] if self.parts.whole else None

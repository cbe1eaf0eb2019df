"""Whether a packed network is the trained one, on a whole split.

    predictions    the class of the largest output, equal on every example (and every pixel)
    outputs        within ROUNDING of the largest of the example's outputs

A sum of real numbers has another rounding where it is taken in another order. Where such a sum lies
within that of 0, a sign may turn, and the outputs of that example differ by more than rounding. All
signs of such an example are looked at (:mod:`bnnbench.packing.signs`): each that is another must be
of a sum within its bound of 0, and with the same signs the outputs are equal within ROUNDING too.
There is no example of which neither may hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnnbench.errors import BnnbenchError
from bnnbench.evaluation import batches_of
from bnnbench.metrics import TALLIES
from bnnbench.packing.signs import told

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnnbench.interfaces import Examples, Task
    from bnnbench.packing.lowering import Draft
    from bnnbench.packing.signs import Answer

ROUNDING = 1e-4  #: of the largest of an example's outputs
TOGETHER = 32  #: examples whose signs are looked at in one go
WAY_OUT = "nothing was written, docs/packed-format.md says what may lead to this"


class ParityError(BnnbenchError):
    """A packed network is not the trained one."""


@dataclass
class Compared:
    """What was compared: examples, the largest difference of outputs and the largest output.

    ``differing`` are examples whose predictions differ. ``strays`` are those whose outputs do by
    more than rounding, for ``turned`` signs of theirs are others; the difference of their outputs
    is that with the same signs. ``accuracy`` is the trained network's, in percent. ``fault`` says
    what is not as it must be, beside predictions.
    """

    examples: int = 0
    differing: int = 0
    strays: int = 0
    turned: int = 0
    difference: float = 0.0
    largest: float = 0.0
    accuracy: float = 0.0
    fault: str = ""

    def add(self, got: Tensor, want: Tensor) -> Tensor:
        """Compare the outputs of a batch; return which examples are strays (batch,)."""
        is_near = self._near(got, want)
        self.examples += len(want)
        self.strays += int((~is_near).sum())
        wrong = (got.argmax(1) != want.argmax(1)).reshape(len(want), -1)
        self.differing += int(wrong.any(1).sum())
        return ~is_near

    def _near(self, got: Tensor, want: Tensor) -> Tensor:
        """Which examples have outputs within rounding; the largest difference of these is kept."""
        off = (got - want).flatten(1).abs().amax(1)
        size = want.flatten(1).abs().amax(1)
        is_near: Tensor = off <= ROUNDING * size.clamp(min=1e-6)
        self.difference = max([self.difference, *off[is_near].tolist()])
        self.largest = max(self.largest, size.max().item())
        return is_near

    def explain(self, trained: nn.Module, packed: Answer, draft: Draft, strays: Tensor) -> None:
        """Look at the signs of strays, given their inputs, until there is something wrong."""
        for inputs in strays.split(TOGETHER):
            if self.fault or self.differing:
                return
            found = told(trained, packed, draft, inputs)
            self.turned += found.turned
            if found.beyond:
                self.fault = (
                    "only a sum within rounding of 0 may have another sign, but in"
                    f" {', '.join(map(repr, found.beyond[:3]))} others have"
                )
            elif not (is_near := self._near(found.got, found.want)).all():
                self.fault = (
                    f"outputs must be equal within rounding, but those of {int((~is_near).sum())}"
                    f" examples differ by more than {ROUNDING:g} of the largest"
                )

    def check(self) -> None:
        """Refuse a network that is another.

        Raises:
            ParityError: in one line, how far it is off.
        """
        if self.differing:
            raise ParityError(
                f"a packed network must predict what the trained one does, but on {self.examples}"
                f" examples {self.differing} predictions differ; {WAY_OUT}"
            )
        if self.fault:
            raise ParityError(f"{self.fault}; {WAY_OUT}")


@torch.no_grad()
def compared(
    trained: nn.Module, packed: Answer, draft: Draft, examples: Examples, task: Task
) -> Compared:
    """Return how the outputs of two networks compare on a whole split.

    Args:
        trained: in evaluation mode.
        packed: its packed form.
        draft: the nodes of the trained network, without thresholds.
        examples: the split.
        task: what is predicted, by which the accuracy is counted.
    """
    found, tally = Compared(), TALLIES[task]()
    for inputs, targets in batches_of(examples):
        want = trained(inputs)
        is_stray = found.add(packed(inputs), want)
        if is_stray.any():
            found.explain(trained, packed, draft, inputs[is_stray])
        tally.add(want, targets)
    found.accuracy = float(tally.metrics()["accuracy"])
    return found

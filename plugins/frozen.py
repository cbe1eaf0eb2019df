r"""Binary weights that do not move, for good or from a lock on.

    w_b <- sign(u),  u ~ U(-1, 1)        once; then dL/dw_b is not used
    w_r <- Adam(w_r, dL/dw_r)            lr from lr to lr_end by the same factor each epoch

The method ``frozen-random`` is the floor of every comparison: random binary weights, and only the
real parameters (normalization, biases, layers that are not binary) are trained. What a method is
above it, its binary optimizer has added. Handed-over weights are replaced by their signs: then the
floor is that of plain projection.

stored: w_b in {-1, +1}    computed with: w_b    moved by: nothing    judged with: w_b
source: a baseline of our own; its learning rate is that of the real-valued baseline
tune: lr
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.binarization import sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Geometric, Scheduled
from bnnbench_plugins.bop import Latentless
from bnnbench_plugins.optimizers import LearningRate, LearningRateEnd, adam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from bnnbench.interfaces import View


class Frozen(torch.optim.Optimizer):
    """Move nothing, whatever the gradient.

    Weights that stay in an optimizer with a memory go on moving on gradients of zero; here, there
    is no memory.
    """

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Return the closure's loss."""
        return closure() if closure else None


class Locked(Latentless):
    """Weights that are binary since a lock: the "relaxed" network is the binary one by now."""

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" and "relaxed", both the weights themselves."""
        return {"binary": InferenceMode(unchanged), "relaxed": InferenceMode(unchanged)}


def locked(real: Scheduled[torch.optim.Optimizer], *, share: float, project: View = sign) -> Phase:
    """Return the phase that projects the binary weights once and goes on with the real parameters.

    Schedules, and the optimizer of the real parameters with its moments, go on as if nothing had
    happened.
    """
    return Phase(
        binarizer=Scheduled(Locked),
        binary=Scheduled(Frozen),
        real=real,
        share=share,
        start=project,
        name="fine-tune",
        continues=True,
    )


def coins(weight: Tensor) -> Tensor:
    """Return a fair draw of +-1 for each weight."""
    return sign(torch.empty_like(weight).uniform_(-1, 1))


def frozen_random(*, lr: LearningRate = 1e-3, lr_end: LearningRateEnd = 3e-6) -> Method:
    """Train the real parameters around random binary weights.

    Args:
        lr: learning rate of the first epoch (that of the real-valued baseline: 1e-3).
        lr_end: where the learning rate goes (3e-6).
    """
    phase = Phase(
        binarizer=Scheduled(Latentless),
        binary=Scheduled(Frozen),
        real=adam(Geometric(lr, lr_end)),
        start=sign,
    )
    return Method("frozen-random", (phase,), initialize=coins)

r"""Bop, the binary optimizer (Helwegen et al., 2019), algorithm 1.

    m <- (1 - gamma) m + gamma g         g = dL/dw, m_0 = 0, no bias correction
    w <- -w    where |m| > tau and sign(m) = sign(w)

m > 0 says that the loss falls as w falls, so a w of +1 must flip: the signs must be equal. (The
BNEW poster prints -g in the average with the same test, which flips the weights that should
stay; section "BOP" there is an erratum.)

The flip test depends on the scale of the loss: k times the loss is tau / k. Keep the loss a mean.

stored: w in {-1, +1}    computed with: w    moved by: the flip rule    judged with: w
Real parameters are moved by Adam with a constant learning rate, as published.
source: the official code's CIFAR-10 script: tau 1e-8, gamma 1e-4, x0.1 at each fifth of training
departs from the official code: weights are +-1 from the first forward on (there they are real
until the first step), and w m = tau does not flip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Le

from bnnbench.binarization import sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Scheduled, Staircase
from bnnbench.spaces import Float, Int
from bnnbench_plugins.optimizers import LearningRate, adam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

Gamma = Annotated[float, Gt(0), Le(1), Float(1e-5, 1e-2, log=True)]
Tau = Annotated[float, Ge(0), Float(1e-9, 1e-5, log=True)]


class Bop(torch.optim.Optimizer):
    """Flip a weight where the average of its gradient is strong and against it.

    The weights are -1 or +1 from the start: what it is given is replaced by its sign.

    Raises:
        ValueError: gamma outside (0, 1] or a negative tau.
    """

    def __init__(self, params: Iterable[Any], gamma: Gamma = 1e-4, tau: Tau = 1e-8) -> None:
        if not (0 < gamma <= 1 and tau >= 0):
            raise ValueError(f"0 < gamma <= 1 and tau >= 0 must hold, got {gamma=}, {tau=}")
        super().__init__(params, {"gamma": gamma, "tau": tau})
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    w.copy_(sign(w))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Average the gradients and flip."""
        loss = closure() if closure else None
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._flip(w, group["gamma"], group["tau"])
        return loss

    def _flip(self, w: Tensor, gamma: float, tau: float) -> None:
        state = self.state[w]
        if not state:
            state["m"] = torch.zeros_like(w)
        m = state["m"].lerp_(w.grad, gamma)
        push = w * m  # w = +-1, so that push > tau is both conditions
        w.mul_(torch.gt(push, tau, out=push).mul_(-2).add_(1))


class Latentless:
    """The network computes with what is stored, which is binary already."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return ``latent``."""
        return latent

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary", the weights themselves."""
        return {"binary": InferenceMode(unchanged)}


def bop(
    *,
    gamma: Gamma = 1e-4,
    tau: Tau = 1e-8,
    decay: Annotated[float, Gt(0), Le(1)] = 0.1,
    stages: Annotated[int, Ge(1), Int(1, 5)] = 5,
    real_lr: LearningRate = 1e-2,
) -> Method:
    """Train with Bop.

    Args:
        gamma: the weight of the new gradient in its average (1e-4).
        tau: the threshold of a flip (1e-8).
        decay: what gamma is multiplied by after each stage (0.1).
        stages: equal stretches of training between which gamma decays (5 of 100 epochs).
        real_lr: Adam's constant learning rate for the real parameters (1e-2).
    """
    phase = Phase(
        binarizer=Scheduled(Latentless),
        binary=Scheduled(Bop, gamma=Staircase(gamma, decay, stages), tau=tau),
        real=adam(real_lr),
    )
    return Method("bop", (phase,))

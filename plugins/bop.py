r"""Bop, the binary optimizer (Helwegen et al., 2019), algorithm 1.

    m <- (1 - gamma) m + gamma g         g = dL/dw, m_0 = 0, no bias correction
    w <- -w    where |m| > tau and sign(m) = sign(w)

m > 0 says that the loss falls as w falls, so a w of +1 must flip: the signs must be equal. (The
BNEW poster prints -g in the average with the same test, which flips the weights that should
stay; section "BOP" there is an erratum.)

The flip test depends on the scale of the loss: k times the loss is tau / k. Keep the loss a mean.

``schedule = "linear"``, the form of the BNEW programs: gamma and the real parameters' learning rate
fall linearly to 0; there 352 000 takes the place of 500 000 below.

In a training of T steps, where 500 000 were published (``rescale``):

    gamma = min(published * 500 000/T, 1)        tau = published * sqrt(500 000/T)

Gamma times the steps of a stage says how often m is renewed in it: 10, 1, 0.1, 0.01 and 0.001
over the five stages of 100 000 steps, so that m hardly moves from the third on. These figures
stay. The noise of m is about |g| sqrt(gamma/2), so that tau goes with the root of gamma.

stored: w in {-1, +1}    computed with: w    moved by: the flip rule    judged with: w
Real parameters are moved by Adam with a constant learning rate, as published.
source: the official code's CIFAR-10 script: tau 1e-8, gamma 1e-4, x0.1 at each fifth of training
departs from the official code: weights are +-1 from the first forward on (there they are real
until the first step), and w m = tau does not flip; it rescales nothing
tune: gamma, and tau with it: what counts is tau/gamma; then stages
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le

from bnnbench.elementwise import Movement, Projection, where
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Linear, Rescaled, Schedule, Scheduled, Staircase
from bnnbench.spaces import Float, Int
from bnnbench_plugins.flipper import Flipper, flip_
from bnnbench_plugins.optimizers import LearningRate, adam

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

#: of the published trainings: 500 epochs of 1000 batches, and 1000 epochs of 352 in BNEW's programs
STEPS = {"staircase": 500_000, "linear": 352_000}

Gamma = Annotated[float, Gt(0), Le(1), Float(1e-5, 1e-2, log=True)]
Tau = Annotated[float, Ge(0), Float(1e-9, 1e-5, log=True)]


def _bop(w: Any, g: Any, m: Any, gamma: float, tau: float) -> Any:
    m = m + gamma * (g - m)
    return where(w * m > tau, -w, w), m


class Bop(Flipper):
    """Flip a weight where the average of its gradient is strong and against it.

    The weights are -1 or +1 from the start: what it is given is replaced by its sign.

    Args:
        params: weights, or groups of them.
        gamma: share of the new gradient in the average.
        tau: what the average must exceed for a flip.

    Raises:
        ValueError: gamma outside (0, 1] or a negative tau.
    """

    _hyper = ("gamma", "tau")

    def __init__(self, params: Iterable[Any], gamma: Gamma = 1e-4, tau: Tau = 1e-8) -> None:
        if not (0 < gamma <= 1 and tau >= 0):
            raise ValueError(f"0 < gamma <= 1 and tau >= 0 must hold, got {gamma=}, {tau=}")
        super().__init__(params, gamma=gamma, tau=tau)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight."""
        return Movement(_bop, (group["gamma"], group["tau"]), ("m",))

    def _flip(self, w: Tensor, gamma: float, tau: float) -> None:
        m = self._average(w, "m", w.grad, gamma)
        push = w * m  # w = +-1, so that push > tau is both conditions
        flip_(w, torch.gt(push, tau, out=push))


class Latentless:
    """The network computes with what is stored, which is binary already."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return ``latent``."""
        return latent

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(unchanged)

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
    schedule: Literal["staircase", "linear"] = "staircase",
    rescale: bool = True,
) -> Method:
    """Train with Bop.

    Args:
        gamma: the weight of the new gradient in its average (1e-4).
        tau: the threshold of a flip (1e-8).
        decay: what gamma is multiplied by after each stage (0.1).
        stages: equal stretches of training between which gamma decays (5 of 100 epochs).
        real_lr: Adam's constant learning rate for the real parameters (1e-2).
        schedule: gamma decays by stages (the official code), or gamma and real_lr fall linearly to
            0 (the BNEW programs).
        rescale: take gamma and tau as those of 500 000 steps and fit them to this training's
            number, or take them as they are (the published run: no difference).
    """
    linear = schedule == "linear"
    adaptivity: Schedule = Linear(gamma, 0.0) if linear else Staircase(gamma, decay, stages)
    threshold: float | Schedule = tau
    if rescale:
        adaptivity = Rescaled(adaptivity, steps=STEPS[schedule], most=1.0)
        threshold = Rescaled(tau, steps=STEPS[schedule], power=0.5)
    phase = Phase(
        binarizer=Scheduled(Latentless),
        binary=Scheduled(Bop, gamma=adaptivity, tau=threshold),
        real=adam(Linear(real_lr, 0.0) if linear else real_lr),
    )
    return Method("bop", (phase,))

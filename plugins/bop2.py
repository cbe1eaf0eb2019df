r"""Second-order Bop (Suarez-Ramirez et al., 2021): Bop with a scale of its own for each gradient.

    m <- m + gamma (g - m)               g = dL/dw, m_0 = v_0 = 0
    v <- v + sigma (g^2 - v)
    w <- -w    where w m / (sqrt(v) + 1e-10) > tau                            biased
               where w (m/gamma) / (sqrt(v/sigma) + 1e-10) > tau              unbiased

"Unbiased" is the authors' word: m/gamma and v/sigma, not Adam's 1 - beta^t. A flip no longer
depends on the scale of the loss, as it does for Bop.

Linear, each step: tau 1e-5 -> 1e-8, gamma 1e-2 -> 1e-5, sigma 1e-7 -> 1e-2 (it grows), the
learning rate 1e-2 -> 1e-3. The ends are reached however short the training is.

stored: w in {-1, +1}    computed with: w    moved by: the flip rule    judged with: w
Real parameters are moved by Adam.
source: the official code's CIFAR-10 runs of 500 epochs: 91.9 % biased, 91.4 % unbiased
departs from the official code: weights are +-1 from the first forward on (there they are real
until the first step), and a push of exactly tau does not flip
tune: where gamma begins, where sigma ends, where tau begins
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Le

from bnnbench.elementwise import Movement, sqrt, where
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Linear, Scheduled
from bnnbench.spaces import Float
from bnnbench_plugins.bop import Latentless
from bnnbench_plugins.flipper import Flipper, flip_
from bnnbench_plugins.optimizers import LearningRate, adam

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

EPSILON = 1e-10  #: what is added to the root of v

Rate = Annotated[float, Gt(0), Le(1)]
Gamma = Annotated[float, Gt(0), Le(1), Float(1e-4, 1e-1, log=True)]
Sigma = Annotated[float, Gt(0), Le(1), Float(1e-4, 1e-1, log=True)]
Tau = Annotated[float, Ge(0), Float(1e-7, 1e-3, log=True)]


def _bop2(
    w: Any, g: Any, m: Any, v: Any, gamma: float, sigma: float, slope: float, least: float
) -> Any:
    m = m + gamma * (g - m)
    v = v + sigma * (g * g - v)
    return where(sqrt(v) * slope + least - w * m < 0.0, -w, w), m, v


class Bop2(Flipper):
    """Flip a weight where the average of its gradient is strong for its own scale and against it.

    The weights are -1 or +1 from the start: what it is given is replaced by its sign.

    Args:
        params: weights, or groups of them.
        gamma: share of the new gradient in the first average.
        sigma: share of the new square in the second.
        tau: what their ratio must exceed for a flip.
        unbiased: compare (m/gamma)/sqrt(v/sigma) with tau in place of m/sqrt(v).

    Raises:
        ValueError: gamma or sigma outside (0, 1], or a negative tau.
    """

    _hyper = ("gamma", "sigma", "tau", "unbiased")

    def __init__(
        self,
        params: Iterable[Any],
        gamma: Gamma = 1e-2,
        sigma: Sigma = 1e-2,
        tau: Tau = 1e-5,
        unbiased: bool = False,
    ) -> None:
        if not (0 < gamma <= 1 and 0 < sigma <= 1 and tau >= 0):
            raise ValueError(
                "0 < gamma <= 1, 0 < sigma <= 1 and tau >= 0 must hold, got"
                f" {gamma=}, {sigma=}, {tau=}"
            )
        super().__init__(params, gamma=gamma, sigma=sigma, tau=tau, unbiased=unbiased)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight, which needs no division."""
        gamma, sigma, tau = group["gamma"], group["sigma"], group["tau"]
        tau, spread = _threshold(gamma, sigma, tau, group["unbiased"])
        return Movement(_bop2, (gamma, sigma, tau / spread, tau * EPSILON), ("m", "v"))

    def _flip(self, w: Tensor, gamma: float, sigma: float, tau: float, unbiased: bool) -> None:
        g: Any = w.grad  # a weight without one is not flipped
        m, scratch = self._average(w, "m", g, gamma), g.square()
        v = self._average(w, "v", scratch, sigma)
        tau, spread = _threshold(gamma, sigma, tau, unbiased)
        # tau (sqrt(v)/spread + epsilon) - w m < 0, the test without its division
        short = torch.sqrt(v, out=scratch).mul_(tau / spread).add_(tau * EPSILON)
        short.addcmul_(w, m, value=-1)
        flip_(w, torch.lt(short, 0, out=short))


def _threshold(gamma: float, sigma: float, tau: float, unbiased: bool) -> tuple[float, float]:
    """Tau and the divisor of sqrt(v), for averages that are as they are or divided by shares."""
    return (tau * gamma, math.sqrt(sigma)) if unbiased else (tau, 1.0)


def bop2(
    *,
    gamma: Gamma = 1e-2,
    gamma_end: Rate = 1e-5,
    sigma: Rate = 1e-7,
    sigma_end: Sigma = 1e-2,
    tau: Tau = 1e-5,
    tau_end: Annotated[float, Ge(0)] = 1e-8,
    unbiased: bool = False,
    real_lr: LearningRate = 1e-2,
    real_lr_end: Annotated[float, Ge(0)] = 1e-3,
) -> Method:
    """Train with second-order Bop; every schedule is linear over all steps and reaches its end.

    Args:
        gamma: the weight of the new gradient in its average, at first (CIFAR-10 run: 1e-2).
        gamma_end: and in the last step (1e-5).
        sigma: the weight of the new square in its average, at first (1e-7).
        sigma_end: and in the last step (1e-2).
        tau: the threshold of a flip, at first (1e-5).
        tau_end: and in the last step (1e-8).
        unbiased: compare (m/gamma)/sqrt(v/sigma) in place of m/sqrt(v) (the better run: no).
        real_lr: Adam's learning rate for the real parameters, at first (1e-2).
        real_lr_end: and in the last step (1e-3).
    """
    phase = Phase(
        binarizer=Scheduled(Latentless),
        binary=Scheduled(
            Bop2,
            gamma=Linear(gamma, gamma_end),
            sigma=Linear(sigma, sigma_end),
            tau=Linear(tau, tau_end),
            unbiased=unbiased,
        ),
        real=adam(Linear(real_lr, real_lr_end)),
    )
    return Method("bop2", (phase,))

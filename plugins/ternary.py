r"""Ternary weight networks (Li, Zhang and Liu, 2016): a third weight, 0, between the two.

    delta = 0.7 mean |w|                 over the layer
    alpha = mean of |w| over |w| > delta
    w_t   = alpha sign(w) where |w| > delta, else 0
    g     = dL/dw_t                      as is
    w     <- clip(w + S (Adam(w, g) - w), -1, 1)        S = 1/c, c = sqrt(1.5/(fan_in + fan_out))

More than one bit: the network is judged with two ("ternary"), and beside with alpha sign w, which
never is 0 ("binary"), to say what the third value is worth.

stored: w in [-1, 1]    computed with: w_t    moved by: Adam, clip    judged with: w_t
source: the article's equations and the public Caffe code, which has one delta and alpha a layer
departs from the code: it moves w by SGD (0.01, momentum 0.9, weight decay 1e-4); here the rule and
the rates are those of the straight-through estimator, so that the two differ in w_t alone
tune: lr; threshold
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Lt

from bnnbench.binarization import sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Geometric, PerLayer, Scheduled
from bnnbench.spaces import Float
from bnnbench_plugins.binaryconnect import inverse_glorot, uniform
from bnnbench_plugins.optimizers import ClippedAdam, LearningRate, LearningRateEnd, adam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Threshold = Annotated[float, Ge(0), Lt(1), Float(0.3, 0.95)]  #: below 1, some |w| exceed delta


@dataclass(frozen=True)
class Ternary:
    """alpha sign(w) where |w| is above ``threshold`` times its mean over the layer, else 0.

    Args:
        threshold: in means of |w| (0.7).
    """

    threshold: Threshold = 0.7

    def forward(self, latent: Tensor) -> Tensor:
        """Return the ternary weight."""
        above, alpha = self._parts(latent)
        return sign(latent).mul_(above).mul_(alpha)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def signs(self, latent: Tensor) -> Tensor:
        """Return alpha sign(``latent``), without a 0."""
        _, alpha = self._parts(latent)
        return sign(latent).mul_(alpha)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (alpha sign w), "ternary" (w_t) and "real" (the latents)."""
        views = {"binary": self.signs, "ternary": self.forward, "real": unchanged}
        return {name: InferenceMode(view) for name, view in views.items()}

    def _parts(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Where |w| > delta, as 0 and 1, and alpha, which is neither 0 nor infinite."""
        info, size = torch.finfo(latent.dtype), latent.abs()
        above = torch.gt(size, self.threshold * size.mean(), out=torch.empty_like(size))
        alpha = size.mul_(above).sum() / above.sum().clamp_min_(1)
        return above, alpha.clamp_(info.tiny, info.max)


def ternary(
    *, lr: LearningRate = 1e-3, lr_end: LearningRateEnd = 3e-7, threshold: Threshold = 0.7
) -> Method:
    """Train ternary weights with the straight-through estimator.

    Args:
        lr: learning rate of the first epoch (BNN's CIFAR-10 script: 1e-3).
        lr_end: where the learning rate goes (the same script: 3e-7).
        threshold: delta as a share of mean |w| (the article: 0.7).
    """
    schedule = Geometric(lr, lr_end)
    phase = Phase(
        binarizer=Scheduled(Ternary, threshold=threshold),
        binary=Scheduled(ClippedAdam, lr=PerLayer(schedule, inverse_glorot)),
        real=adam(schedule),
    )
    return Method("ternary", (phase,), judged="ternary", initialize=uniform())

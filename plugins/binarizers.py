"""The binarizers that several methods share.

    identity        w_b = w                                   dL/dw = dL/dw_b
    sign            w_b = H sign(w)                           dL/dw = dL/dw_b
    sign-hardtanh   w_b = sign(w)                             dL/dw = dL/dw_b 1{|w| <= 1}
    stochastic      w_b = +H with p = hard_sigmoid(w/H),      dL/dw = dL/dw_b
                          -H else

source: BinaryConnect (Courbariaux et al., 2015), eq. 1 to 3; the mask, BNN (2016), eq. 4.
sign(0) = +1. H is 1 or, per layer, c = sqrt(1.5 / (fan_in + fan_out)), "glorot".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from bnnbench.binarization import hard_sigmoid, sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Scale = float | Literal["glorot"]  #: H


def glorot(weight: Tensor) -> float:
    """Return c = sqrt(1.5 / (fan_in + fan_out)) of a layer's weight (out, in, *kernel).

    The coefficient of BinaryConnect's public code, half the bound of Glorot's uniform initializer;
    both fans count the kernel's area.

    >>> dense, conv = torch.empty(1024, 8192), torch.empty(128, 3, 3, 3)
    >>> round(1 / glorot(dense), 2), round(1 / glorot(conv), 2)
    (78.38, 28.04)
    """
    area = math.prod(weight.shape[2:])
    return math.sqrt(1.5 / (area * (weight.shape[0] + weight.shape[1])))


def height(scale: Scale, weight: Tensor) -> float:
    """Return H for a layer's weight."""
    return glorot(weight) if scale == "glorot" else float(scale)


@dataclass(frozen=True)
class Identity:
    """The network computes with the latent itself; judged as it is ("real") and by its signs."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return ``latent``."""
        return latent

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (the signs) and "real" (the latents)."""
        return {"binary": InferenceMode(sign), "real": InferenceMode(unchanged)}


@dataclass(frozen=True)
class Sign:
    """H sign(w), with the gradient handed on as it is (BinaryConnect, eq. 1; the STE)."""

    scale: Scale = 1.0

    def forward(self, latent: Tensor) -> Tensor:
        """Return H sign(``latent``)."""
        return sign(latent).mul_(height(self.scale, latent))

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (H sign w) and "real" (the latents)."""
        return {"binary": InferenceMode(self.forward), "real": InferenceMode(unchanged)}


@dataclass(frozen=True)
class SignHardTanh:
    """sign(x), with the gradient of hard tanh, whose mask includes |x| = 1 (BNN, eq. 4).

    The mask is inclusive because a latent that is clipped to the edge would otherwise never move
    again.
    """

    def forward(self, latent: Tensor) -> Tensor:
        """Return sign(``latent``)."""
        return sign(latent)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` where |``latent``| <= 1, else 0."""
        return grad * (latent.abs() <= 1)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (sign w) and "real" (the latents)."""
        return {"binary": InferenceMode(sign), "real": InferenceMode(unchanged)}


@dataclass(frozen=True)
class Stochastic:
    """+-H, +H with probability hard_sigmoid(w/H) (BinaryConnect, eq. 2 and 3).

    One draw a step serves forward and backward. "ensemble" averages the outputs of ``draws``
    sampled networks.
    """

    scale: Scale = 1.0
    draws: int = 10

    def forward(self, latent: Tensor) -> Tensor:
        """Return a draw of +-H."""
        h = height(self.scale, latent)
        u = torch.rand_like(latent)
        return torch.lt(u, hard_sigmoid(latent / h), out=u).mul_(2 * h).sub_(h)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (H sign w), "real" (the latents) and "ensemble" (of draws)."""
        modes = dict(Sign(self.scale).inference_modes())
        return modes | {"ensemble": InferenceMode(self.forward, self.draws)}

"""The binarizers that several methods share.

    identity        w_b = w                                   dL/dw = dL/dw_b
    sign            w_b = H sign(w)                           dL/dw = dL/dw_b
    sign-hardtanh   w_b = sign(w)                             dL/dw = dL/dw_b 1{|w| <= 1}
    stochastic      w_b = +H with p = hard_sigmoid(w/H),      dL/dw = dL/dw_b
                          -H else
    quadratic       w_b = sign(w)                             dL/dw = dL/dw_b (2 - 2|w|)+
    swish           w_b = sign(w)                             dL/dw = dL/dw_b s'(w)
    ede             w_b = sign(w)                             dL/dw = dL/dw_b k t (1 - tanh^2(t w))
    reste           w_b = sign(w)                             dL/dw = dL/dw_b r'(w)

    s'(w) = beta (2 - beta w tanh(beta w/2)) / (1 + cosh(beta w)),  beta = 5
    k     = max(1/t, 1)
    r'(w) = |w|^((1-o)/o) / o,  0.1^(1/o)/0.1 where |w| <= 0.1,  0 where |w| > 1.5

Those from quadratic on are made for activations. EDE and ReSTE begin near the identity and
close in on the sign, epoch by epoch: t = tmin (tmax/tmin)^(e/E) (``Geometric``), and
o = 1 + (1 - cos(pi/2 e/E)) (o_end - 1) (``Exponent``).

source: BinaryConnect (Courbariaux et al., 2015), eq. 1 to 3; the mask, BNN (2016), eq. 4;
quadratic, Bi-Real Net (Liu et al., 2018); swish, larq's SwishSign; ede, IR-Net (Qin et al., 2020);
reste, ReSTE (Wu et al., 2023).
departs from the public code of Bi-Real Net, IR-Net and ReSTE: sign(0) is +1, there it is 0.
sign(0) = +1. H is 1 or, per layer, c = sqrt(1.5 / (fan_in + fan_out)), "glorot".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt

from bnnbench.binarization import hard_sigmoid, sign
from bnnbench.chance import draw_key, uniform
from bnnbench.elementwise import Projection, clip, where
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnnbench.schedules import Progress

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


def _signed(w: Any, h: float) -> Any:
    return where(w >= 0.0, h, -h)


def _drawn(w: Any, u: Any, h: float) -> Any:
    return where(u < clip((w / h + 1.0) / 2.0, 0.0, 1.0), h, -h)


def _masked(w: Any, g: Any, h: float) -> Any:
    return where(abs(w) <= 1.0, g, 0.0 * g)


@dataclass(frozen=True)
class Identity:
    """The network computes with the latent itself; judged as it is ("real") and by its signs."""

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
        """Return "binary" (the signs) and "real" (the latents)."""
        return {"binary": InferenceMode(sign), "real": InferenceMode(unchanged)}


@dataclass(frozen=True)
class Sign:
    """H sign(w), with the gradient handed on as it is (BinaryConnect, eq. 1; the STE).

    Args:
        scale: H, a number (1) or "glorot", each layer's own (:func:`glorot`).
    """

    scale: Scale = 1.0

    def forward(self, latent: Tensor) -> Tensor:
        """Return H sign(``latent``)."""
        return sign(latent).mul_(height(self.scale, latent))

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(_signed, numbers=(height(self.scale, latent),))

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (H sign w) and "real" (the latents)."""
        return {"binary": InferenceMode(self.forward), "real": InferenceMode(unchanged)}


class _SignForward:
    """Forward is the sign; the subclasses differ in the gradient."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return sign(``latent``)."""
        return sign(latent)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (sign w) and "real" (the latents)."""
        return {"binary": InferenceMode(sign), "real": InferenceMode(unchanged)}


@dataclass(frozen=True)
class SignHardTanh(_SignForward):
    """sign(x), with the gradient of hard tanh, whose mask includes |x| = 1 (BNN, eq. 4).

    The mask is inclusive because a latent that is clipped to the edge would otherwise never move
    again.
    """

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` where |``latent``| <= 1, else 0."""
        size = latent.abs()
        return torch.le(size, 1, out=size).mul_(grad)

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(_signed, _masked, (1.0,))


@dataclass(frozen=True)
class Stochastic:
    """+-H, +H with probability hard_sigmoid(w/H) (BinaryConnect, eq. 2 and 3).

    One draw a step serves forward and backward. "ensemble" averages the outputs of ``draws``
    sampled networks.

    Args:
        scale: H, a number (1) or "glorot", each layer's own (:func:`glorot`).
        draws: networks of the ensemble (10).
    """

    scale: Scale = 1.0
    draws: Annotated[int, Ge(1)] = 10

    def forward(self, latent: Tensor) -> Tensor:
        """Return a draw of +-H."""
        h = height(self.scale, latent)
        u = uniform(latent, draw_key())
        return torch.lt(u, hard_sigmoid(latent / h), out=u).mul_(2 * h).sub_(h)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(_drawn, numbers=(height(self.scale, latent),), random=True)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (H sign w), "real" (the latents) and "ensemble" (of draws)."""
        modes = dict(Sign(self.scale).inference_modes())
        return modes | {"ensemble": InferenceMode(self.forward, self.draws)}


@dataclass(frozen=True)
class Quadratic(_SignForward):
    """sign(x), with the gradient (2 - 2|x|)+ of a piecewise quadratic (Bi-Real Net)."""

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` (2 - 2|``latent``|)+."""
        return latent.abs().mul_(-2).add_(2).clamp_min_(0).mul_(grad)


@dataclass(frozen=True)
class Swish(_SignForward):
    """sign(x), with the gradient of a sign made of the swish function; negative far from 0.

    Args:
        beta: how steep it is (5).
    """

    beta: Annotated[float, Gt(0)] = 5.0

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` s'(``latent``), as beta (1 - h tanh h)(1 - tanh^2 h), h = beta w/2."""
        h = (latent * (self.beta / 2)).clamp_(-20, 20)  # beyond, tanh is 1 and the product 0
        slope = h.tanh()
        bell = h.mul_(slope).neg_().add_(1).mul_(self.beta)
        return slope.square_().neg_().add_(1).mul_(bell).mul_(grad)


@dataclass(frozen=True)
class EDE(_SignForward):
    """sign(x), with the gradient of k tanh(t x), k = max(1/t, 1) (IR-Net).

    A small t is the identity, a large one the sign; t grows as training goes on.

    Args:
        t: how hard the gradient is.
    """

    t: Annotated[float, Gt(0)] = 1.0

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` k t (1 - tanh^2(t ``latent``))."""
        height = max(1.0, self.t)  # k t
        return (latent * self.t).tanh_().square_().mul_(-height).add_(height).mul_(grad)


@dataclass(frozen=True)
class ReSTE(_SignForward):
    """sign(x), with the gradient of sign(x) |x|^(1/o), cut off at 0.1 and at 1.5 (ReSTE).

    o = 1 is the identity, a large o the sign; o grows as training goes on. Below 0.1 the slope is
    that of the chord from 0, past 1.5 it is 0.

    Args:
        o: the root (at the end of training: 3).
    """

    o: Annotated[float, Ge(1)] = 3.0

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` |``latent``|^((1-o)/o) / o between the cuts."""
        slope = latent.abs()
        near, far = slope <= 0.1, slope > 1.5
        slope.log_().mul_((1 - self.o) / self.o).exp_().div_(self.o)  # a power, in less time
        slope.masked_fill_(near, 0.1 ** (1 / self.o) / 0.1).masked_fill_(far, 0.0)
        return slope.mul_(grad)


@dataclass(frozen=True)
class Exponent:
    """ReSTE's o by epoch: 1 + (1 - cos(pi/2 e/E)) (end - 1), constant inside an epoch.

    From 1, the identity, towards ``end``, which the epoch after the last would reach.

    >>> from bnnbench.schedules import Progress
    >>> [round(Exponent(3.0)(Progress(0, 4, e, 4)), 4) for e in range(4)]
    [1.0, 1.1522, 1.5858, 2.2346]
    """

    end: float

    def __call__(self, at: Progress) -> float:
        """Return the value in the epoch of ``at``."""
        return 1 + (1 - math.cos(math.pi / 2 * at.epoch / at.epochs)) * (self.end - 1)

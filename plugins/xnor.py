r"""XNOR-Net's binary weights (Rastegari et al., 2016): signs with a height for each filter.

    w   <- clip(w - mean of w over the input channels, -1, 1)      kept, at the start and each step
    w_b = alpha sign(w)                  alpha = mean |w| over the filter, of n weights
    g   = dL/dw_b m                      m = (alpha 1{|w| < 1} + 1/n) (1 - 1/C_in)       "torch7"
    w   <- Adam(w, g + weight decay)

Other gradients of alpha sign(w), ``gradient``:

    alpha       dL/dw_b alpha 1{|w| <= 1}                                   larq
    detached    dL/dw_b 1{|w| <= 1}                                         Bi-Real Net, ReActNet
    exact       dL/dw_b alpha 1{|w| <= 1} + sign(w) mean(dL/dw_b sign(w))   the chain rule

In "torch7" 1/n stands for the second term of the chain rule, and 1 - 1/C_in for the centring. Its
mask leaves |w| = 1 out, where the clip puts weights; 1/n keeps those alive.

For the network of the article: ``activation = "sign"``, a real first and last layer.

stored: w in [-1, 1], centred    computed with: alpha sign w    moved by: Adam, centre, clip
judged with: alpha sign w
source: the official Torch7 code, its AlexNet regime for Adam: 55 epochs with a learning rate of
1e-3 x 1, 0.5, 0.1, 0.05, 0.01 from epochs 0, 18, 29, 43, 52, and weight decay in the first two
departs from the official code: it centres and clips as a batch begins, which is the same training,
but tests the weights of the last batch's beginning; here the network judged is centred and has
had its last step. There all gradients are multiplied by 1e9 for Adam (and n), so that its epsilon
vanishes; here epsilon and the weight decay are divided by 1e9 instead (``boost``), the same step.
A layer of a single input channel is not centred: nothing would be left of it. Latents start from
the architecture's weights or from another run's, where the code draws them from N(0, 2/fan_in).
tune: lr; gradient; with ``boost = 1`` weight_decay too, which counts for nothing otherwise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch.optim import Adam

from bnnbench.binarization import sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Pieces, Scheduled
from bnnbench.spaces import Choice
from bnnbench_plugins.optimizers import Constrained, FusedAdam, LearningRate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

RATES = ((0.0, 1.0), (18 / 55, 0.5), (29 / 55, 0.1), (43 / 55, 0.05), (52 / 55, 0.01))
DECAYS = ((0.0, 1.0), (29 / 55, 0.0))

Gradient = Literal["torch7", "exact", "alpha", "detached"]


def heights(size: Tensor) -> Tensor:
    """Return alpha of each filter, the mean of |w|, as (filters, 1, ...); never 0 or infinite.

    >>> heights(torch.tensor([[1.0, 3.0], [0.0, 0.0]])) > 0
    tensor([[True],
            [True]])
    """
    info, dims = torch.finfo(size.dtype), tuple(range(1, size.ndim))
    return size.mean(dims, keepdim=True).clamp_(info.tiny, info.max)


@dataclass(frozen=True)
class Scaled:
    """alpha sign(w), alpha = mean |w| of each filter, with one of four gradients.

    Args:
        gradient: which, of those at the head of the file (the official code: "torch7").
    """

    gradient: Annotated[Gradient, Choice("torch7", "exact", "alpha", "detached")] = "torch7"

    def forward(self, latent: Tensor) -> Tensor:
        """Return alpha sign(``latent``)."""
        return sign(latent).mul_(heights(latent.abs()))

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return the pseudo-gradient; see the head of the file for each."""
        size = latent.abs()
        if self.gradient == "detached":
            return torch.le(size, 1, out=size).mul_(grad)
        alpha = heights(size)
        if self.gradient == "torch7":
            n, channels = latent[0].numel(), latent.shape[1]
            centring = 1 - 1 / channels if channels > 1 else 1.0
            m = torch.lt(size, 1, out=size).mul_(alpha * centring).add_(centring / n)
            return m.mul_(grad)
        through = torch.le(size, 1, out=size).mul_(alpha).mul_(grad)
        return through if self.gradient == "alpha" else through.add_(_of_alpha(latent, grad))

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (alpha sign w) and "real" (the latents)."""
        return {"binary": InferenceMode(self.forward), "real": InferenceMode(unchanged)}


def _of_alpha(latent: Tensor, grad: Tensor) -> Tensor:
    """The part of the chain rule that goes through alpha: sign(w) mean(g sign(w))."""
    signs = sign(latent)
    dims = tuple(range(1, latent.ndim))
    return signs.mul_((grad * signs).mean(dims, keepdim=True))


def constrained_(latent: Tensor) -> Tensor:
    """Centre over the input channels and clip to [-1, 1], in place.

    >>> constrained_(torch.tensor([[0.5, 1.5], [4.0, 0.0]]))
    tensor([[-0.5000,  0.5000],
            [ 1.0000, -1.0000]])
    """
    if latent.shape[1] > 1:
        latent.sub_(latent.mean(1, keepdim=True))
    return latent.clamp_(-1, 1)


def constrained(weight: Tensor) -> Tensor:
    """Return a copy that is centred and clipped."""
    return constrained_(weight.clone())


class CentredAdam(Constrained, FusedAdam):
    """Adam, then the mean over the input channels is taken off and w is clipped to [-1, 1].

    What it is given is left alone until the first step: a method starts from :func:`constrained`.

    Args:
        params: latents, or groups of them.
        lr: learning rate.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
        weight_decay: share of a latent that is added to its gradient.
    """

    def constrain(self, latent: Tensor, group: Mapping[str, Any]) -> None:
        """Centre and clip a latent, in place."""
        constrained_(latent)


def xnor(
    *,
    gradient: Annotated[Gradient, Choice("torch7", "exact", "alpha", "detached")] = "torch7",
    lr: LearningRate = 1e-3,
    weight_decay: Annotated[float, Ge(0)] = 5e-4,
    boost: Annotated[float, Ge(1)] = 1e9,
) -> Method:
    """Train with XNOR-Net's weights and its AlexNet regime.

    Args:
        gradient: what the latent is handed (the official code: "torch7").
        lr: learning rate of the first 18 of 55 parts (the regime's 1e-2, x0.1 for Adam).
        weight_decay: of all parameters in the first 29 of 55 parts, then 0 (5e-4).
        boost: what Adam's gradients are multiplied by before the decay is added (1e9).
    """
    rates = {
        "lr": Pieces(lr, RATES),
        "weight_decay": Pieces(weight_decay / boost, DECAYS),
        "eps": 1e-8 / boost,
    }
    phase = Phase(
        binarizer=Scheduled(Scaled, gradient=gradient),
        binary=Scheduled(CentredAdam, **rates),
        real=Scheduled(Adam, **rates, fused=True),
        start=constrained,
    )
    return Method("xnor", (phase,))

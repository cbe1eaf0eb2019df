r"""IR-Net, information retention forward and backward (Qin et al., CVPR 2020).

    w^  = (w - mean w) / std w                       per filter of n weights, std with n - 1
    s   = round(log2(mean |w^|))                     per filter
    Q_w = 2^s sign(w^)                               Libra parameter binarization
    g   = dL/dQ_w 2^s k t (1 - tanh^2(t w^))         the error decay estimator, k = max(1/t, 1)
    dL/dw = (g - mean g - w^ sum(g w^)/(n - 1)) / std w
    t   = t_min (t_max/t_min)^(e/E)                  in epoch e of E
    w   <- SGD(w, dL/dw)                             momentum, weight decay, the rate by a cosine

The gradient goes through mean and std; 2^s is a constant to it. For activations, which have the
same estimator, choose ``activation = "ede"`` in the network: its t goes from 0.1 to 10.

stored: w    computed with: Q_w    moved by: SGD    judged with: Q_w
source: the official code's VGG-Small script for CIFAR-10: 300 epochs with batches of 128, a rate of
0.007, momentum 0.9, weight decay 1e-4 on all parameters, t from 0.1 to 10. Its ResNet-20 script
has a rate of 0.1, 400 epochs, and t from 0.001.
departs from the official code: sign(0) is +1, there 0; a filter whose weights are all equal, which
has no std, is +1 throughout and gets no gradient, there both are no numbers. Flips are counted
by the sign of w, as for every method; the sign that is deployed is that of w - mean w.
tune: lr and t_min
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt
from bnnbench import Float, hookimpl
from bnnbench.binarization import sign
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Cosine, Geometric, Scheduled
from bnnbench_plugins.binarizers import EDE
from torch.optim import SGD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.hookspecs import Register
    from torch import Tensor

requires_api = "1.0"

Rate = Annotated[float, Gt(0), Float(1e-3, 3e-1, log=True)]
Momentum = Annotated[float, Ge(0), Lt(1)]
WeightDecay = Annotated[float, Ge(0), Float(1e-6, 1e-3, log=True)]
First = Annotated[float, Gt(0), Float(1e-3, 1.0, log=True)]
Last = Annotated[float, Gt(0)]


def standardized(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return w^ and std w of each filter, (filters, 1, ...); an infinite std where it would be 0.

    Then w^ is 0, and what is divided by std is 0 too.
    """
    dims = tuple(range(1, w.ndim))
    centred = w - w.mean(dims, keepdim=True)
    squares = centred.square().sum(dims, keepdim=True)
    spread = (squares / max(w[0].numel() - 1, 1)).sqrt_()
    spread.masked_fill_(spread == 0, math.inf)
    return centred.div_(spread), spread


def heights(standard: Tensor) -> Tensor:
    """Return 2^s of each filter of w^, (filters, 1, ...); 1 where all of it is 0."""
    size = standard.abs().mean(tuple(range(1, standard.ndim)), keepdim=True)
    return size.masked_fill_(size == 0, 1.0).log2_().round_().exp2_()


@dataclass(frozen=True)
class Libra:
    """2^s sign(w^), with the gradient of 2^s k tanh(t w^), down to w.

    Args:
        t: how hard the estimator is: small is the identity, large the sign (from 0.1 to 10).
    """

    t: Annotated[float, Gt(0), Float(1e-3, 10.0, log=True)] = 1.0

    def forward(self, latent: Tensor) -> Tensor:
        """Return Q_w of ``latent``."""
        standard, _ = standardized(latent)
        return sign(standard).mul_(heights(standard))

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return dL/dw of ``latent`` from ``grad``, dL/dQ_w."""
        standard, spread = standardized(latent)
        g = EDE(self.t).backward(standard, grad).mul_(heights(standard))
        dims, freedom = tuple(range(1, latent.ndim)), max(latent[0].numel() - 1, 1)
        along = (g * standard).sum(dims, keepdim=True) / freedom
        return (g - g.mean(dims, keepdim=True) - standard * along).div_(spread)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary", Q_w."""
        return {"binary": InferenceMode(self.forward)}


def ir_net(
    *,
    lr: Rate = 0.007,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 1e-4,
    t_min: First = 0.1,
    t_max: Last = 10.0,
) -> Method:
    """Train with IR-Net.

    Args:
        lr: SGD's first learning rate (VGG-Small script: 0.007; ResNet-20: 0.1).
        momentum: of SGD (0.9).
        weight_decay: of all parameters (1e-4).
        t_min: t of the first epoch (VGG-Small script: 0.1; ResNet-20: 0.001).
        t_max: where t goes (10).
    """
    moved = Scheduled(SGD, lr=Cosine(lr), momentum=momentum, weight_decay=weight_decay)
    phase = Phase(binarizer=Scheduled(Libra, t=Geometric(t_min, t_max)), binary=moved, real=moved)
    return Method("ir-net", (phase,))


@hookimpl
def register_methods(register: Register) -> None:
    """Register the method by its name in study files."""
    register("ir-net", ir_net)


@hookimpl
def register_binarizers(register: Register) -> None:
    """Register the binarizer, to be crossed with other optimizers."""
    register("libra", Libra)

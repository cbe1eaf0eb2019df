r"""AdaBin, adaptive binary sets (Tu et al., ECCV 2022): no +-1, but two values of its own.

    w_b = alpha_w sign((w - beta_w)/alpha_w) + beta_w       per filter of n weights
          beta_w = mean w,  alpha_w = sqrt(mean (w - beta_w)^2)
    a_b = alpha_a sign((a - beta_a)/alpha_a) + beta_a       per layer, learned, 1 and 0 at first
    a   = gamma+ max(x, 0) - gamma- max(-x, 0)              Maxout per channel, 1 and 0.25 at first

The gradient of a sign is k t (1 - tanh^2(t u)), k = max(1/t, 1), for weights, with t from ``t_min``
to ``t_max`` as in IR-Net, and (2 - 2|u|)+ for activations, as in Bi-Real Net. All else is
differentiated as it stands, alpha_w and beta_w too: with u = (w - beta_w)/alpha_w, d = the gradient
of the sign at u, g = dL/dw_b and means over the filter

    dL/dw = d g - mean(d g) + u mean(g sign u - d g u) + mean g

stored: w    computed with: beta_w +- alpha_w    moved by: SGD    judged with: beta_w +- alpha_w
source: the official code's CIFAR-10 ResNet-20 script: 400 epochs with batches of 128, a rate of 0.1
that falls by a cosine, momentum 0.9, weight decay 1e-4 on all parameters, t from 0.001 to 10
departs from the official code: a_b is that of the article, there beta_a is multiplied by alpha_a;
sign(0) is +1, there 0. A filter whose weights are all equal has u = 0. Flips are counted by the
sign of w, as for every method; the sign that is deployed is that of w - beta_w.
tune: lr and t_min; take a network with "adabin" in its name for the activations
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt, Lt
from bnnbench import Float, hookimpl
from bnnbench.binarization import binarize, sign
from bnnbench.interfaces import InferenceMode
from bnnbench.layers import BinaryActivation
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Cosine, Geometric, Scheduled
from bnnbench_plugins.architectures.activations import Dropout
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.architectures.vgg import vgg_small
from bnnbench_plugins.architectures.weights import Weights, Whole
from bnnbench_plugins.binarizers import EDE, Quadratic
from torch import nn
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


def centred(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return u of w, and alpha_w and beta_w of each filter, (filters, 1, ...).

    u is 0 where alpha_w is.
    """
    dims = tuple(range(1, w.ndim))
    beta = w.mean(dims, keepdim=True)
    u = w - beta
    alpha = u.square().mean(dims, keepdim=True).sqrt_()
    return u.div_(alpha.masked_fill(alpha == 0, math.inf)), alpha, beta


@dataclass(frozen=True)
class AdaptiveSets:
    """beta_w +- alpha_w of each filter, with the whole gradient down to w.

    Args:
        t: how hard the gradient of the sign is (from 0.001 to 10).
    """

    t: Annotated[float, Gt(0), Float(1e-3, 10.0, log=True)] = 1.0

    def forward(self, latent: Tensor) -> Tensor:
        """Return w_b of ``latent``."""
        u, alpha, beta = centred(latent)
        return sign(u).mul_(alpha).add_(beta)

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return dL/dw of ``latent`` from ``grad``, dL/dw_b."""
        u, _, _ = centred(latent)
        dims = tuple(range(1, latent.ndim))
        through = EDE(self.t).backward(u, grad)
        stretched = (grad * sign(u) - through * u).mean(dims, keepdim=True)
        moved = (grad - through).mean(dims, keepdim=True)
        return through.add_(u.mul_(stretched)).add_(moved)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary", w_b."""
        return {"binary": InferenceMode(self.forward)}


class AdaptiveSign(nn.Module):
    """a_b, with alpha_a and beta_a learned for the whole layer."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return two values, beta_a +- alpha_a; same shape as ``x``."""
        signs = binarize((x - self.beta) / self.alpha, Quadratic())
        return self.alpha * signs + self.beta


class Maxout(nn.Module):
    """gamma+ max(x, 0) - gamma- max(-x, 0), both learned for each channel (dimension 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels))
        self.negative = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations; same shape as ``x``."""
        wide = (-1, *[1] * (x.ndim - 2))
        return self.positive.view(wide) * x.relu() - self.negative.view(wide) * (-x).relu()


def adaptive(network: nn.Module, *, maxout: bool = False) -> nn.Module:
    """Return the network with adaptive activations in the place of its binary ones.

    With ``maxout`` one stands before each; the network is then a plain sequence of layers, the
    channels being those of the normalization before.
    """
    channels = 0
    for name, layer in list(network.named_children()):
        channels = getattr(layer, "num_features", channels)
        if isinstance(layer, BinaryActivation):
            binary = BinaryActivation(AdaptiveSign())
            setattr(network, name, nn.Sequential(Maxout(channels), binary) if maxout else binary)
    return network


def adabin_mlp(
    *,
    shape: tuple[int, ...],
    classes: int,
    depth: Whole = 3,
    width: Whole = 1024,
    dropout: Dropout = 0.0,
    first: Weights = "real",
    last: Weights = "real",
    maxout: bool = False,
) -> nn.Module:
    """Return the dense network "mlp" with adaptive activations.

    Args:
        shape: of one input; it is flattened.
        classes: number of outputs.
        depth: number of hidden layers.
        width: units of each hidden layer.
        dropout: share of hidden units dropped, after the activation.
        first: whether the first layer's weights are binary (the article's networks: real).
        last: whether the output layer's weights are binary (the article's networks: real).
        maxout: whether a Maxout stands before each activation (the article's ResNets: it does).
    """
    network = mlp(
        shape=shape,
        classes=classes,
        depth=depth,
        width=width,
        activation="sign",
        dropout=dropout,
        first=first,
        last=last,
    )
    return adaptive(network, maxout=maxout)


def adabin_vgg_small(*, shape: tuple[int, ...], classes: int, width: Whole = 128) -> nn.Module:
    """Return VGG-Small with adaptive activations; first and last layer are real.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of outputs.
        width: filters of the first two convolutions (128); then twice, then four times as many.

    Raises:
        UsageError: the input is not an image of 8 x 8 or more.
    """
    return adaptive(vgg_small(shape=shape, classes=classes, width=width))


def adabin(
    *,
    lr: Rate = 0.1,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 1e-4,
    t_min: First = 1e-3,
    t_max: Last = 10.0,
) -> Method:
    """Train with AdaBin's weights.

    Args:
        lr: SGD's first learning rate (ResNet-20 script: 0.1).
        momentum: of SGD (0.9).
        weight_decay: of all parameters, alpha_a, beta_a and Maxout's too (1e-4).
        t_min: t of the first epoch (0.001).
        t_max: where t goes (10).
    """
    moved = Scheduled(SGD, lr=Cosine(lr), momentum=momentum, weight_decay=weight_decay)
    phase = Phase(
        binarizer=Scheduled(AdaptiveSets, t=Geometric(t_min, t_max)), binary=moved, real=moved
    )
    return Method("adabin", (phase,))


@hookimpl
def register_methods(register: Register) -> None:
    """Register the method by its name in study files."""
    register("adabin", adabin)


@hookimpl
def register_binarizers(register: Register) -> None:
    """Register the binarizer, to be crossed with other optimizers."""
    register("adaptive-sets", AdaptiveSets)


@hookimpl
def register_architectures(register: Register) -> None:
    """Register the networks whose activations are AdaBin's."""
    register("adabin-mlp", adabin_mlp)
    register("adabin-vgg-small", adabin_vgg_small)

r"""BinaryConnect (Courbariaux, Bengio and David, 2015), algorithm 1.

    p   = hard_sigmoid(w/H)              hard_sigmoid(x) = clip((x + 1)/2, 0, 1)
    w_b = +H if w >= 0 else -H           deterministic, eq. 1
    w_b = +H with probability p else -H  stochastic, eq. 2; one draw serves forward and backward
    w   <- clip(w - S eta dL/dw_b, -H, H)

    H   = 1, or c = sqrt(1.5/(fan_in + fan_out)) per layer ("glorot")
    S   = H^2/c^2 for SGD, H/c for Adam: the step that keeps H = 1 equal to H = c

The gradient at w_b is handed to w as it is: no mask, no chain rule through p.

stored: w in [-H, H]    computed with: +-H    moved by: Adam or SGD, scaled per layer, clip
judged with: H sign w (deterministic); w itself (stochastic, as published), beside H sign w and the
mean output of sampled networks
source: the public code's Adam script (MNIST: 1e-3 -> 3e-6, 250 epochs); section 2.6 for judging
departs from the public code: S multiplies the learning rate, where the code takes the whole step
and stretches it; the two are the same rule, this one rounds less. The code gives 1/c to SGD too;
with batch normalization the exact factor there is 1/c^2 (``lr_scale = "auto"``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from torch.optim import SGD

from bnnbench.methods import Method, Phase
from bnnbench.schedules import Geometric, PerLayer, Scheduled
from bnnbench_plugins.binarizers import Scale, Sign, Stochastic, glorot, height
from bnnbench_plugins.optimizers import ClippedAdam, ClippedSGD, LearningRate, LearningRateEnd, adam

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LrScale = Literal["auto", "glorot", "glorot_sq", "none"]


def one(latent: Tensor) -> float:
    """Return 1, whatever the layer."""
    return 1.0


def inverse_glorot(latent: Tensor) -> float:
    """Return 1/c of the layer, the factor that is exact for Adam and H = 1."""
    return 1 / glorot(latent)


def _stretch(latent: Tensor, *, scale: Scale, power: int) -> float:
    return (height(scale, latent) / glorot(latent)) ** power


def uniform(scale: Scale = 1.0) -> Callable[[Tensor], Tensor]:
    """Return an initializer that draws latents from U(-H, H)."""
    return partial(_uniform, scale=scale)


def _uniform(weight: Tensor, *, scale: Scale) -> Tensor:
    h = height(scale, weight)
    return torch.empty_like(weight).uniform_(-h, h)


def binaryconnect(
    *,
    binarization: Literal["deterministic", "stochastic"] = "deterministic",
    optimizer: Literal["adam", "sgd"] = "adam",
    lr: LearningRate = 1e-3,
    lr_end: LearningRateEnd = 3e-6,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    scale: Scale = 1.0,
    lr_scale: LrScale = "auto",
    draws: Annotated[int, Ge(2)] = 10,
) -> Method:
    """Train with BinaryConnect.

    Args:
        binarization: by the sign, or by a draw at every step.
        optimizer: what moves the latents and the real parameters.
        lr: learning rate of the first epoch (MNIST script: 1e-3).
        lr_end: where the learning rate goes (3e-6).
        momentum: of SGD; Adam has its own.
        scale: H, a number or "glorot".
        lr_scale: S: "glorot" is 1/c, "glorot_sq" 1/c^2, "none" 1; "auto" the exact one.
        draws: networks in the ensemble by which the stochastic form is judged beside.
    """
    schedule = Geometric(lr, lr_end)
    rate = PerLayer(schedule, _lr_factor(lr_scale, optimizer, scale))
    clip = PerLayer(1.0, partial(height, scale))
    binary: Scheduled[Any]
    real: Scheduled[Any]
    if optimizer == "adam":
        binary = Scheduled(ClippedAdam, lr=rate, clip=clip)
        real = adam(schedule)
    else:
        binary = Scheduled(ClippedSGD, lr=rate, clip=clip, momentum=momentum)
        real = Scheduled(SGD, lr=schedule, momentum=momentum)
    stochastic = binarization == "stochastic"
    binarizer: Scheduled[Any] = (
        Scheduled(Stochastic, scale=scale, draws=draws)
        if stochastic
        else Scheduled(Sign, scale=scale)
    )
    return Method(
        f"binaryconnect-{binarization}",
        (Phase(binarizer, binary, real),),
        judged="real" if stochastic else "binary",
        initialize=uniform(scale),
    )


def _lr_factor(lr_scale: LrScale, optimizer: str, scale: Scale) -> Callable[[Tensor], float]:
    if lr_scale == "none":
        return one
    if lr_scale == "auto":
        return partial(_stretch, scale=scale, power=1 if optimizer == "adam" else 2)
    return partial(_stretch, scale=1.0, power=1 if lr_scale == "glorot" else 2)

r"""The straight-through estimator: BNN (Courbariaux, Hubara et al., 2016), algorithm 1.

    w_b = sign(w)                        sign(0) = +1
    g   = dL/dw_b                        or dL/dw_b 1{|w| <= 1}, ``gradient = "hardtanh"``
    w   <- clip(w + S (Adam(w, g) - w), -1, 1)        S = 1/c, c = sqrt(1.5/(fan_in + fan_out))

For binary activations choose ``activation = "sign"`` in the architecture: there, the gradient is
that of hard tanh.

stored: w in [-1, 1]    computed with: sign w    moved by: Adam, clip    judged with: sign w
source: the public Theano code; the 1e-3 -> 3e-7 of its CIFAR-10 script
departs from the text: the mask 1{|w| <= 1} on the weights' gradient is off by default, as in the
public code, which clips instead. ``lr = 1e-2``, ``decay = "linear"`` and ``lr_scale = "none"`` make
the STE of the BNEW programs, which clip before the next step instead of after this one.
tune: lr; gradient where latents saturate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from bnnbench.methods import Method, Phase
from bnnbench.schedules import Geometric, Linear, PerLayer, Scheduled
from bnnbench.spaces import Choice
from bnnbench_plugins.binarizers import Sign, SignHardTanh
from bnnbench_plugins.binaryconnect import inverse_glorot, one, uniform
from bnnbench_plugins.optimizers import ClippedAdam, LearningRate, LearningRateEnd, adam

if TYPE_CHECKING:
    from bnnbench.schedules import Schedule


def ste(
    *,
    lr: LearningRate = 1e-3,
    lr_end: LearningRateEnd = 3e-7,
    gradient: Annotated[
        Literal["identity", "hardtanh"], Choice("identity", "hardtanh")
    ] = "identity",
    lr_scale: Literal["glorot", "none"] = "glorot",
    decay: Literal["geometric", "linear"] = "geometric",
) -> Method:
    """Train with the straight-through estimator.

    Args:
        lr: learning rate of the first epoch (CIFAR-10 script: 1e-3).
        lr_end: where the learning rate goes (3e-7).
        gradient: what the latent is handed: the gradient as it is, or masked where |w| > 1.
        lr_scale: per layer, S = 1/c ("glorot") or 1 ("none").
        decay: the learning rate falls by the same factor each epoch to lr_end (the public code), or
            linearly to 0 (the BNEW programs).
    """
    schedule: Schedule = Geometric(lr, lr_end) if decay == "geometric" else Linear(lr, 0.0)
    phase = Phase(
        binarizer=Scheduled(Sign if gradient == "identity" else SignHardTanh),
        binary=Scheduled(
            ClippedAdam, lr=PerLayer(schedule, inverse_glorot if lr_scale == "glorot" else one)
        ),
        real=adam(schedule),
    )
    return Method("ste", (phase,), initialize=uniform())

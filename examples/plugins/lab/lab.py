r"""LAB, loss-aware binarization (Hou, Yao and Kwok, ICLR 2017).

    d     = sqrt(v) + 1e-8               v: Adam's second moment of the layer's weights, with its
                                         bias; it stands for the diagonal of the Hessian
    alpha = ||d * w||_1 / ||d||_1        per layer
    b     = sign(w)
    w_b   = alpha b                      the proximal Newton step towards +-alpha
    w     <- clip(Adam(w, dL/dw_b), -1, 1)

Where the loss is steep a weight counts for more in the height of its layer. As long as there is
no v, d is the same for all, and alpha the mean of |w|.

stored: w in [-1, 1]    computed with: alpha sign w    moved by: Adam, clip
judged with: alpha sign w
source: the official code's MNIST script: 50 epochs with batches of 100, a rate of 0.01 that is
multiplied by 0.1 after epochs 15 and 25; latents from U(-c, c), c = sqrt(1.5/(fan_in + fan_out))
departs from the official code: it keeps v a second time, beside Adam's; this looks at Adam's own
tune: lr
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Gt, Le
from bnnbench import Float, hookimpl
from bnnbench.binarization import sign
from bnnbench.errors import UsageError
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Pieces, Scheduled
from bnnbench_plugins.binaryconnect import uniform
from bnnbench_plugins.optimizers import ClippedAdam, adam
from torch.optim import Adam

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.hookspecs import Register
    from torch import Tensor
    from torch.optim import Optimizer

requires_api = "1.0"

EPSILON = 1e-8

Rate = Annotated[float, Gt(0), Float(1e-4, 3e-2, log=True)]
Decay = Annotated[float, Gt(0), Le(1)]


class LossAware:
    """alpha sign(w), alpha weighted by Adam's second moment; the gradient is handed on as it is."""

    def __init__(self) -> None:
        self.optimizer: Optimizer | None = None

    def inform(self, optimizer: Optimizer) -> None:
        """Look at an Adam from now on.

        Raises:
            UsageError: it is no Adam, and has no second moments.
        """
        if not isinstance(optimizer, Adam):
            raise UsageError(
                f"LAB weighs by Adam's second moment, which {type(optimizer).__name__} does not"
                " have; let an optimizer derived from torch.optim.Adam move the weights"
            )
        self.optimizer = optimizer

    def height(self, latent: Tensor) -> Tensor:
        """Return alpha of a layer, a number above 0."""
        size: Tensor = latent.abs()
        state: Mapping[str, Any] = self.optimizer.state.get(latent, {}) if self.optimizer else {}
        if "exp_avg_sq" in state:
            d = state["exp_avg_sq"].sqrt().add_(EPSILON)
            alpha = size.mul_(d).sum().div_(d.sum())
        else:
            alpha = size.mean()
        return alpha.clamp(min=torch.finfo(latent.dtype).tiny)

    def forward(self, latent: Tensor) -> Tensor:
        """Return alpha sign(``latent``)."""
        return sign(latent).mul_(self.height(latent))

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary", alpha sign w, with the second moment of the moment it is asked for."""
        return {"binary": InferenceMode(self.forward)}


def lab(*, lr: Rate = 1e-2, decay: Decay = 0.1) -> Method:
    """Train with loss-aware binarization.

    Args:
        lr: Adam's learning rate in the first 15 of 50 parts of training (MNIST script: 0.01).
        decay: what it is multiplied by then, and once more after 25 parts (0.1).
    """
    rate = Pieces(lr, ((0.0, 1.0), (0.3, decay), (0.5, decay * decay)))
    phase = Phase(
        binarizer=Scheduled(LossAware), binary=Scheduled(ClippedAdam, lr=rate), real=adam(rate)
    )
    return Method("lab", (phase,), initialize=uniform("glorot"))


@hookimpl
def register_methods(register: Register) -> None:
    """Register the method by its name in study files."""
    register("lab", lab)


@hookimpl
def register_binarizers(register: Register) -> None:
    """Register the binarizer, to be crossed with other optimizers that are Adams."""
    register("loss-aware", LossAware)

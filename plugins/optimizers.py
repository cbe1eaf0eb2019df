"""Optimizers that keep the latents where they must stay, as inside [-clip, clip].

    w <- clip(w + step, -clip, clip)        step: Adam's, or SGD's with momentum, as in torch.optim

source: BinaryConnect (Courbariaux et al., 2015), algorithm 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch.optim import SGD, Adam

from bnnbench.schedules import Hyper, Scheduled
from bnnbench.spaces import Float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

LearningRate = Annotated[float, Gt(0), Float(1e-4, 3e-2, log=True)]
LearningRateEnd = Annotated[float, Gt(0)]
WeightDecay = Annotated[float, Ge(0), Float(1e-6, 1e-3, log=True)]


def adam(lr: Hyper) -> Scheduled[torch.optim.Optimizer]:
    """Return torch's Adam in its fused form, which is the same rule several times as fast."""
    return Scheduled(Adam, lr=lr, fused=True)


def keep(optimizer: torch.optim.Optimizer, **hyperparameters: Any) -> None:
    """Add hyperparameters to every group of an optimizer that does not set them itself."""
    for name, value in hyperparameters.items():
        optimizer.defaults[name] = value
        for group in optimizer.param_groups:
            group.setdefault(name, value)


class FusedAdam(Adam):
    """torch's Adam in its fused form, with those of its hyperparameters that are used here."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


class Constrained(torch.optim.Optimizer):
    """After each step of the class below, every latent goes back to where it must stay."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take the step of the class below, then constrain."""
        loss = super().step(closure)
        for group in self.param_groups:
            for latent in group["params"]:
                self.constrain(latent, group)
        return loss

    def constrain(self, latent: Tensor, group: Mapping[str, Any]) -> None:
        """Change a latent in place; ``group`` has its hyperparameters."""
        raise NotImplementedError


class _Clipped(Constrained):
    """After each step, w <- clip(w, -clip, clip); ``clip`` is a key of the groups."""

    def constrain(self, latent: Tensor, group: Mapping[str, Any]) -> None:
        latent.clamp_(-group["clip"], group["clip"])


class ClippedAdam(_Clipped, FusedAdam):
    """Adam, then w <- clip(w, -clip, clip)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        FusedAdam.__init__(self, params, lr=lr, betas=betas, eps=eps)
        keep(self, clip=clip)


class ClippedSGD(_Clipped, SGD):
    """SGD with momentum, then w <- clip(w, -clip, clip)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-2,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
        clip: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        SGD.__init__(self, params, lr=lr, momentum=momentum)
        keep(self, clip=clip)

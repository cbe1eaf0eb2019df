"""Optimizers that keep the latents where they must stay, as inside [-clip, clip].

    w <- clip(w + step, -clip, clip)        step: Adam's, or SGD's with momentum, as in torch.optim

source: BinaryConnect (Courbariaux et al., 2015), algorithm 1
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch.optim import SGD, Adam

from bnnbench.elementwise import Movement, clip, sqrt
from bnnbench.schedules import Hyper, Scheduled
from bnnbench.spaces import Float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

LearningRate = Annotated[float, Gt(0), Float(1e-4, 3e-2, log=True)]
LearningRateEnd = Annotated[float, Gt(0)]
Epsilon = Annotated[float, Gt(0)]
ADAM = ("exp_avg", "exp_avg_sq")  #: what Adam remembers of a weight, by the names of torch
WeightDecay = Annotated[float, Ge(0), Float(1e-6, 1e-3, log=True)]


def adam(lr: Hyper) -> Scheduled[torch.optim.Optimizer]:
    """Return torch's Adam in its fused form, which is the same rule several times as fast."""
    return Scheduled(FusedAdam, lr=lr)


def keep(optimizer: torch.optim.Optimizer, **hyperparameters: Any) -> None:
    """Add hyperparameters to every group of an optimizer that does not set them itself."""
    for name, value in hyperparameters.items():
        optimizer.defaults[name] = value
        for group in optimizer.param_groups:
            group.setdefault(name, value)


def adam_rule(
    w: Any, g: Any, m: Any, v: Any,
    rate: float, share1: float, beta2: float, share2: float, eps: float, decay: float, root: float,
) -> Any:  # fmt: skip
    """Adam for one weight; its numbers are those of :func:`adam_numbers`."""
    g = g + decay * w
    m = m + share1 * (g - m)
    v = beta2 * v + share2 * g * g
    return w - rate * m / (sqrt(v) / root + eps), m, v


def adam_numbers(group: Mapping[str, Any], step: int) -> tuple[float, ...]:
    """Return the rate without its bias, the shares of the new, and the bias of sqrt(v)."""
    beta1, beta2 = group["betas"]
    rate, root = group["lr"] / (1 - beta1**step), math.sqrt(1 - beta2**step)
    return rate, 1 - beta1, beta2, 1 - beta2, group["eps"], group["weight_decay"], root


def _clipped_adam(w: Any, g: Any, m: Any, v: Any, bound: float, *adams: float) -> Any:
    w, m, v = adam_rule(w, g, m, v, *adams)
    return clip(w, -bound, bound), m, v


def _clipped_sgd(w: Any, g: Any, lr: float, bound: float) -> Any:
    return clip(w - lr * g, -bound, bound)


def _clipped_momentum(w: Any, g: Any, m: Any, lr: float, momentum: float, bound: float) -> Any:
    m = momentum * m + g
    return clip(w - lr * m, -bound, bound), m


class FusedAdam(Adam):
    """torch's Adam in its fused form, with those of its hyperparameters that are used here.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
        weight_decay: share of a parameter that is added to its gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Epsilon = 1e-8,
        weight_decay: WeightDecay = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight."""
        return Movement(adam_rule, adam_numbers(group, step), ADAM)


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
    """Adam, then w <- clip(w, -clip, clip).

    Args:
        params: latents, or groups of them.
        lr: learning rate.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
        clip: the bound of every latent (1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Epsilon = 1e-8,
        clip: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        FusedAdam.__init__(self, params, lr=lr, betas=betas, eps=eps)
        keep(self, clip=clip)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight."""
        return Movement(_clipped_adam, (group["clip"], *adam_numbers(group, step)), ADAM)


class ClippedSGD(_Clipped, SGD):
    """SGD with momentum, then w <- clip(w, -clip, clip).

    Args:
        params: latents, or groups of them.
        lr: learning rate.
        momentum: share of the old in the sum of gradients (0: none).
        clip: the bound of every latent (1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-2,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
        clip: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        SGD.__init__(self, params, lr=lr, momentum=momentum)
        keep(self, clip=clip)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight, which needs no memory without momentum."""
        if not group["momentum"]:
            return Movement(_clipped_sgd, (group["lr"], group["clip"]))
        numbers = (group["lr"], group["momentum"], group["clip"])
        return Movement(_clipped_momentum, numbers, ("momentum_buffer",))

r"""BNEW, Binarized Networks the Easy Way (Paren and Poudel, BMVC 2022).

    min f(w) + lambda R(w)  over w_b in [-1, 1]^p        R(w) = p - ||w_b||^2, dR/dw = -2 w

    w        <- clip((1 + 2 lambda) w, -1, 1)
    w        <- Adam(w, dL/dw)                "reg_then_adam"; "adam_then_reg" is the other order
    lambda_e  = min(lambda_0 max(e, 1)/E, 1)  lambda_0 = budget / total steps

The network computes with w itself, inside the hull of the binary weights: no sign is in the way of
the gradient. Expansion, which is a negative weight decay, drives w to +-1. Then w_b is locked to
its sign and the real parameters go on alone.

relax       lambda = 0, lr -> 0 linearly; alone it is the method ``relaxed``
harden      lambda as above; a new Adam, lr -> 0 linearly over this and the next
fine-tune   at its start w <- sign(w), or mean|w| sign(w) per filter ("filter"); then real
            parameters only

A weight without a gradient grows by prod (1 + 2 lambda), about e^budget, whatever the length of the
training: that is the hyperparameter that was tuned, lambda_0 T = 1e-4 x 352 000 = 35. With too
little, the lock does to the network what any late projection does.

stored: w in [-1, 1], then +-1    computed with: w    moved by: expansion, clip, Adam; then nothing
judged with: sign w ("binary"), beside w ("relaxed")
source: the official CIFAR-10 program: lr 1e-2, 200 epochs of relax, 1000 of the rest, the last 20
of them locked; the ImageNet program for ``scale = "filter"`` and ``order = "adam_then_reg"``
departs from the poster: lambda is not multiplied by the learning rate, and comes before Adam, as in
the official programs. The printed (1 + 2 lambda eta) lets weights grow by 12 % in all.
departs from the official code: 0 is locked to +1; the lock is done once, on weights that no
optimizer moves any more, where the code projects again after each epoch; the network is selected
among all epochs after the lock.
tune: budget and lr; then relax and lock. With ``start_from`` a relaxed run set relax = 0. A budget
below 18 gives a warning: most weights do not get to +-1.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch.optim import Adam

from bnnbench.binarization import sign
from bnnbench.elementwise import Movement, Projection, clip
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Linear, Scheduled
from bnnbench.spaces import Float
from bnnbench_plugins.frozen import locked
from bnnbench_plugins.optimizers import (
    ADAM,
    Epsilon,
    LearningRate,
    adam,
    adam_numbers,
    adam_rule,
    keep,
)
from bnnbench_plugins.xnor import Scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from bnnbench.schedules import Progress

ENOUGH = 18.0  #: the budget from which nearly all weights get to +-1

Order = Literal["reg_then_adam", "adam_then_reg"]
Ramp = Literal["epoch", "step"]
LockScale = Literal["none", "filter"]


class BudgetWarning(UserWarning):
    """The weights cannot be expected to be binary when they are locked."""


@dataclass(frozen=True)
class Hardening:
    """lambda = min(budget / total r, 1), r = max(e, 1)/E by epochs, or from 0 to 1 by steps.

    The sum of 2 lambda over a stage of any length is about ``budget``. What falls to the lock is
    not spent: 4 % of it as published, half of it in a stage of 4 epochs whose last is locked.

    >>> from bnnbench.schedules import Progress
    >>> [Hardening(2.0)(Progress(0, 32, e, 4)) for e in range(4)]
    [0.015625, 0.015625, 0.03125, 0.046875]
    """

    budget: float
    ramp: Ramp = "epoch"

    def __call__(self, at: Progress) -> float:
        """Return lambda at ``at``."""
        by_step = at.step / max(at.total - 1, 1)
        r = by_step if self.ramp == "step" else max(at.epoch, 1) / at.epochs
        return min(self.budget / at.total * r, 1.0)


def _expanding_adam(
    w: Any,
    g: Any,
    m: Any,
    v: Any,
    before: float,
    hull_before: float,
    after: float,
    hull_after: float,
    *adams: float,
) -> Any:
    w = clip(w * before, -hull_before, hull_before)
    w, m, v = adam_rule(w, g, m, v, *adams)
    return clip(w * after, -hull_after, hull_after), m, v


class Bnew(Adam):
    """Adam in the hull of the binary weights, with an expansion by 1 + 2 lam before or after it.

    ``lam`` is not multiplied by the learning rate. With "reg_then_adam" a weight may leave the hull
    until the next step clips it.

    Args:
        params: latents, or groups of them.
        lr: learning rate.
        lam: lambda, half the share by which a weight grows in a step.
        order: whether the expansion comes before Adam's step or after it.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-2,
        lam: Annotated[float, Ge(0), Float(1e-6, 1e-1, log=True)] = 1e-4,
        order: Order = "reg_then_adam",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Epsilon = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        keep(self, lam=lam, order=order)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight: growth and bound come before Adam or after it."""
        expansion, nothing = (1 + 2 * group["lam"], 1.0), (1.0, math.inf)
        first = group["order"] == "reg_then_adam"
        around = expansion + nothing if first else nothing + expansion
        return Movement(_expanding_adam, (*around, *adam_numbers(group, step)), ADAM)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Expand, clip and take Adam's step, in the order of each group."""
        loss = None  # the closure comes first: its gradients are those of the weights as they stand
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._expand("reg_then_adam")
        super().step()
        self._expand("adam_then_reg")
        return loss

    def _expand(self, order: Order) -> None:
        for group in self.param_groups:
            if group["order"] == order:
                for w in group["params"]:
                    if group["lam"]:
                        w.mul_(1 + 2 * group["lam"])
                    w.clamp_(-1, 1)


@dataclass(frozen=True)
class Relaxed:
    """The network computes with the latent itself, which is on its way to being binary.

    With ``scale`` "filter" the binary network has mean|w| sign(w) per filter, else sign(w).

    Args:
        scale: what the signs are multiplied by when the weights are locked: "none" or "filter".
    """

    scale: LockScale = "none"

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
        """Return "binary" (the signs, scaled or not) and "relaxed" (the latents)."""
        return {
            "binary": InferenceMode(projection(self.scale)),
            "relaxed": InferenceMode(unchanged),
        }


def projection(scale: LockScale) -> Callable[[Tensor], Tensor]:
    """Return what the weights are locked to."""
    return Scaled().forward if scale == "filter" else sign


def relaxed(*, lr: LearningRate = 1e-2) -> Method:
    """Train weights in [-1, 1], the first phase of BNEW and the start of all its baselines.

    Args:
        lr: learning rate of the first step, which falls linearly to 0 (CIFAR-10 program: 1e-2).
    """
    return Method("relaxed", (_relax(lr),), judged="relaxed")


def bnew(
    *,
    budget: Annotated[float, Gt(0), Float(10, 100, log=True)] = 35.0,
    lr: LearningRate = 1e-2,
    relax: Annotated[float, Ge(0), Lt(1)] = 1 / 6,
    lock: Annotated[float, Gt(0), Lt(1), Float(0.01, 0.2, log=True)] = 0.02,
    order: Order = "reg_then_adam",
    ramp: Ramp = "epoch",
    scale: LockScale = "none",
) -> Method:
    """Train in the hull of the binary weights, harden, lock, and fine-tune what is real.

    Args:
        budget: lambda_0 times the number of steps (CIFAR-10: 1e-4 x 1000 epochs of 352 steps).
        lr: learning rate as each stage begins, linearly to 0 in it (1e-2).
        relax: share of the epochs without expansion (200 of 1200); 0 for a run that starts from a
            relaxed one.
        lock: share of the other epochs with locked weights (20 of 1000).
        order: the expansion before Adam (CIFAR-10 program) or after it (ImageNet program).
        ramp: lambda grows by epochs (both programs) or by steps.
        scale: what is locked: the sign (CIFAR-10), or with mean|w| per "filter" (ImageNet).
    """
    if budget < ENOUGH:
        warnings.warn(_shortfall(budget), BudgetWarning, stacklevel=2)
    rate = Linear(lr, 0.0)
    harden = Phase(
        binarizer=Scheduled(Relaxed, scale=scale),
        binary=Scheduled(Bnew, lr=rate, lam=Hardening(budget, ramp), order=order),
        real=adam(rate),
        share=(1 - relax) * (1 - lock),
        name="harden",
        selectable=False,
    )
    fine_tune = locked(adam(rate), share=(1 - relax) * lock, project=projection(scale))
    first = (_relax(lr, relax, scale, order, selectable=False),) if relax else ()
    return Method("bnew", (*first, harden, fine_tune))


def _relax(
    lr: float,
    share: float = 1.0,
    scale: LockScale = "none",
    order: Order = "reg_then_adam",
    *,
    selectable: bool = True,
) -> Phase:
    rate = Linear(lr, 0.0)
    return Phase(
        binarizer=Scheduled(Relaxed, scale=scale),
        binary=Scheduled(Bnew, lr=rate, lam=0.0, order=order),
        real=adam(rate),
        share=share,
        name="relax",
        selectable=selectable,
    )


def _shortfall(budget: float) -> str:
    return (
        f"a budget of {budget:g} lets a weight grow by e^{budget:g} = {math.exp(budget):.3g} times"
        f" at most; below {ENOUGH:g} most weights do not reach +-1 before they are locked (as"
        " published: 35)"
    )

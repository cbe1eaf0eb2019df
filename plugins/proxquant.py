r"""ProxQuant (Bai, Wang and Liberty, ICLR 2019), binary.

    w <- Adam(w, dL/dw)
    w <- sign(w) (1 + sign(d) max(|d| - r, 0)),  d = |w| - 1        the prox of r | |w| - 1 |
    w <- clip(w, -1, 1)

The prox moves |w| by r towards 1; with the clip, which takes what is above 1, the two are
w <- clip(w + r sign(w), -1, 1).

    r_e = budget e / (steps per epoch * sum of e over the epochs that harden)        e = 0, 1, ...

As published r = lr reg e, with lr 1e-2, reg 1e-4 and 391 steps in each of 200 epochs: the sum of r
over all steps is 1e-6 * 391 * 199 * 200 / 2 = 7.8. This sum, the way that a weight is pushed, is
the hyperparameter here, so that a training of another length needs no other one.

prox        the rule above
fine-tune   at its start w <- sign(w); the real parameters go on alone

stored: w in [-1, 1], then +-1    computed with: w    moved by: Adam, prox, clip; then nothing
judged with: sign w ("binary"), beside w ("relaxed")
source: the official program's CIFAR-10 script: Adam with a constant 1e-2, 300 epochs, frozen after
200; it starts from a real-valued network (``start_from``)
departs from the official code: sign(0) = +1, so that a weight of 0 is pushed too; the network is
selected among the epochs after the freeze, where the code looks at the signs in all of them. A
training with one hardening epoch, whose r would be 0, spends the whole budget in it.
tune: budget and lr
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt

from bnnbench.binarization import sign
from bnnbench.elementwise import Movement, clip, where
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Scheduled
from bnnbench.spaces import Float
from bnnbench_plugins.bnew import Relaxed
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bnnbench.schedules import Progress


@dataclass(frozen=True)
class Homotopy:
    """r = c e in epoch e, with c such that r adds up to ``budget`` over the epochs that harden.

    These are the first ``share`` of the epochs.

    >>> from bnnbench.schedules import Progress
    >>> [Homotopy(12.0, share=0.8)(Progress(0, 10, e, 5)) for e in range(4)]
    [0.0, 1.0, 2.0, 3.0]
    """

    budget: float
    share: float

    def __call__(self, at: Progress) -> float:
        """Return r at ``at``."""
        hardening = min(max(round(self.share * at.epochs), 1), max(at.epochs - 1, 1))
        steps = at.total / at.epochs
        if hardening == 1:
            return self.budget / steps
        return self.budget * at.epoch / (steps * hardening * (hardening - 1) / 2)


def _prox_adam(w: Any, g: Any, m: Any, v: Any, r: float, *adams: float) -> Any:
    w, m, v = adam_rule(w, g, m, v, *adams)
    return clip(w + where(w >= 0.0, r, -r), -1.0, 1.0), m, v


class ProxAdam(torch.optim.Adam):
    """Adam, then a step of length ``r`` towards -1 or +1, whichever is nearer, and the clip.

    Args:
        params: latents, or groups of them.
        lr: learning rate.
        r: length of the step towards the nearer of -1 and +1.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-2,
        r: Annotated[float, Ge(0), Float(1e-6, 1e-2, log=True)] = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Epsilon = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        keep(self, r=r)

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for one weight."""
        return Movement(_prox_adam, (group["r"], *adam_numbers(group, step)), ADAM)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take Adam's step, then the prox."""
        loss: float | None = super().step(closure)
        for group in self.param_groups:
            for w in group["params"]:
                w.add_(sign(w), alpha=group["r"]).clamp_(-1, 1)
        return loss


def proxquant(
    *,
    budget: Annotated[float, Gt(0), Float(1, 100, log=True)] = 7.8,
    lr: LearningRate = 1e-2,
    harden: Annotated[float, Gt(0), Lt(1)] = 2 / 3,
) -> Method:
    """Push the weights to +-1 by a growing prox, freeze them, and fine-tune what is real.

    Args:
        budget: how far a weight is pushed in all (CIFAR-10 script: 1e-6 * 391 * 19 900 = 7.8).
        lr: Adam's constant learning rate (1e-2).
        harden: share of the epochs before the freeze (200 of 300).
    """
    prox = Phase(
        binarizer=Scheduled(Relaxed),
        binary=Scheduled(ProxAdam, lr=lr, r=Homotopy(budget, harden)),
        real=adam(lr),
        share=harden,
        name="prox",
        selectable=False,
    )
    return Method("proxquant", (prox, locked(adam(lr), share=1 - harden)))

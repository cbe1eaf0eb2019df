r"""BMD, mirror descent for binary weights (Ajanthan, Gupta et al., AISTATS 2021).

    md-tanh-s      b = tanh(beta w~),  g = dL/db        w~ <- Adam(w~, g): g as it is, no clip
    gd-tanh        b = tanh(beta w~)                    w~ <- Adam(w~, g beta (1 - b^2))
    md-tanh        a = (1 + b)/(1 - b + 1e-20) exp(-2 lr^ beta m/(sqrt v + eps))
                   b <- (a - 1)/(a + 1),  b_0 = tanh(w_0)
    md-softmax-s   b = softmax(beta u)_1 - softmax(beta u)_0,  u_1 <- Adam(u_1, g), u_0 likewise, -g

m, v are Adam's moments of g and lr^ = lr sqrt(1 - beta_2^t)/(1 - beta_1^t). beta grows from 1 to
``beta_final`` by equal factors:

    ramp "step"    beta_final^(ceil(n k/T)/n) at step k of T, n = ``updates``: the code multiplies
                   after iterations 0, T/n, 2T/n, ...
    ramp "epoch"   1 in epoch 0, then beta_final^((e - 1)/(E - 2)), as the BNEW programs do it

md-tanh: with a = exp(2 atanh b - 2 x) the update is b <- tanh(atanh b - x), which neither overflows
nor divides by 0; the 1e-20 limits atanh(1) to ln(2e20)/2. A weight that has become exactly +1 can
come back and one that has become -1 cannot: so it is in the published rule. At a constant beta
md-tanh is md-tanh-s. As beta grows it is not: md-tanh-s looks at all of w~ with the new beta,
md-tanh only at its next steps.

md-softmax-s: softmax over two levels is tanh(beta (u_1 - u_0)/2). The levels +1 and -1 get g and
-g, and Adam is odd in its gradient, so u_1 and u_0 move by the same and opposite steps:
w~ = (u_1 - u_0)/2 moves by Adam's step on g, which is md-tanh-s. It is trained as that; only its
first w~ is another, half the difference of two draws. The network brings one draw; the other is a
random permutation of it, which has the same values without knowing how they were drawn.

stored: w~ in R, or b in [-1, 1] (md-tanh)    computed with: tanh(beta w~), or b    moved by: Adam;
md-tanh by its closed form    judged with: sign w~ ("binary"), beside tanh(beta w~) ("relaxed")
source: the official CIFAR-10 ResNet-18 script, 1.02^500 = 2.0e4 in 100 000 iterations: lr 1e-3,
times 0.3 after iteration 0 and after each 30 000
departs from the official code: +1 for 0; the real parameters, which its networks do not have, are
moved by Adam with the same learning rate. ``decay = "linear"``, ``ramp = "epoch"``, ``lr = 1e-2``,
``lock = 0.02`` and beta_final = 1.01^998 make the BMD of the BNEW programs.
tune: beta_final and lr. gd-tanh stops learning where tanh is flat: it wants a smaller beta_final.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from bnnbench.binarization import sign
from bnnbench.elementwise import Projection, tanh
from bnnbench.interfaces import InferenceMode
from bnnbench.methods import Method, Phase, unchanged
from bnnbench.schedules import Linear, Scheduled, Stairs
from bnnbench.spaces import Float
from bnnbench_plugins.bnew import Relaxed
from bnnbench_plugins.frozen import locked
from bnnbench_plugins.optimizers import Epsilon, LearningRate, adam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from bnnbench.schedules import Progress, Schedule

MOST = 1e35  #: the largest beta
FURTHEST = 0.5 * math.log(2e20)  #: atanh(1), with the 1e-20 of the closed form

Beta = Annotated[float, Gt(0), Le(MOST), Float(1.0, 1e3, log=True)]
Variant = Literal["md-tanh-s", "md-tanh", "gd-tanh", "md-softmax-s"]


@dataclass(frozen=True)
class AnnealedSteps:
    """final^(ceil(updates k/T)/updates) at step k of T: 1 at step 0 alone, then so many factors.

    >>> from bnnbench.schedules import Progress
    >>> [AnnealedSteps(16.0, 4)(Progress(k, 8, 0, 1)) for k in range(8)]
    [1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 16.0]
    """

    final: float
    updates: int

    def __call__(self, at: Progress) -> float:
        """Return beta at the step of ``at``."""
        done = -(-self.updates * at.step // at.total)
        return float(self.final ** (done / self.updates))


@dataclass(frozen=True)
class AnnealedEpochs:
    """1 in epoch 0, then final^((e - 1)/(E - 2)): 1 in epoch 1 too, and ``final`` in the last.

    Of two epochs, the second has ``final``.

    >>> from bnnbench.schedules import Progress
    >>> [AnnealedEpochs(4.0)(Progress(0, 4, e, 4)) for e in range(4)]
    [1.0, 1.0, 2.0, 4.0]
    """

    final: float

    def __call__(self, at: Progress) -> float:
        """Return beta in the epoch of ``at``."""
        if at.epoch == 0:
            return 1.0
        return float(self.final ** ((at.epoch - 1) / (at.epochs - 2) if at.epochs > 2 else 1))


def _squashed(w: Any, beta: float) -> Any:
    return tanh(beta * w)


def _chained(w: Any, g: Any, beta: float) -> Any:
    b = tanh(beta * w)
    return (1.0 - b * b) * g * beta


@dataclass(frozen=True)
class Tanh:
    """tanh(beta w~), with the gradient handed on as it is (md-tanh-s).

    Args:
        beta: how steep it is; it grows as training goes on.
    """

    beta: Beta = 1.0

    def forward(self, latent: Tensor) -> Tensor:
        """Return tanh(beta ``latent``); a product that overflows is +-1 all the same."""
        return (latent * self.beta).tanh_()

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad``."""
        return grad

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(_squashed, numbers=(self.beta,))

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (the signs) and "relaxed" (tanh of the latents)."""
        return {"binary": InferenceMode(sign), "relaxed": InferenceMode(self.forward)}


@dataclass(frozen=True)
class TanhGradient(Tanh):
    """tanh(beta w~), with its own gradient beta (1 - b^2) (gd-tanh).

    Args:
        beta: how steep it is; it grows as training goes on.
    """

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return ``grad`` beta (1 - b^2); where tanh is flat it is 0, however large beta is."""
        b = self.forward(latent)
        return torch.mul(b, b, out=b).neg_().add_(1).mul_(grad).mul_(self.beta)

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for one weight."""
        return Projection(_squashed, _chained, (self.beta,))


def mirrored(b: Tensor, x: Tensor) -> Tensor:
    """Change b to (a - 1)/(a + 1), a = (1 + b)/(1 - b + 1e-20) exp(-2 x), in place; return it.

    >>> mirrored(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([-100.0, -100.0, 100.0]))
    tensor([-1.,  1., -1.])
    """
    return b.clamp_(-1, 1).atanh_().clamp_(max=FURTHEST).sub_(x).tanh_()


class MirrorTanh(torch.optim.Optimizer):
    """Mirror descent in closed form on weights in [-1, 1], with Adam's moments (md-tanh).

    Args:
        params: weights, or groups of them.
        lr: learning rate.
        beta: what the learning rate is multiplied by; it grows as training goes on.
        betas: shares of the old in both averages (0.9, 0.999).
        eps: added to the root of the average of squares (1e-8).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: LearningRate = 1e-3,
        beta: Beta = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Epsilon = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move each weight along the mirror."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for b in group["params"]:
                if b.grad is not None:
                    mirrored(b, self._step_of(b, group))
        return loss

    def _step_of(self, b: Tensor, group: dict[str, Any]) -> Tensor:
        """The way of the dual variable: lr^ beta m/(sqrt v + eps)."""
        state, (beta1, beta2) = self.state[b], group["betas"]
        if not state:
            state.update(t=0, m=torch.zeros_like(b), v=torch.zeros_like(b))
        state["t"] += 1
        m = state["m"].lerp_(b.grad, 1 - beta1)
        v = state["v"].mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
        lr = group["lr"] * math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
        spread = v.sqrt().add_(group["eps"])
        return torch.div(m, spread, out=spread).mul_(lr * group["beta"])


def halved_difference(weight: Tensor) -> Tensor:
    """Return half the difference of a draw, ``weight``, and a permutation of it."""
    order = torch.randperm(weight.numel(), device=weight.device)
    return (weight - weight.flatten()[order].view_as(weight)).div_(2)


def bmd(
    *,
    variant: Variant = "md-tanh-s",
    beta_final: Annotated[float, Ge(1), Le(MOST), Float(1e3, 1e5, log=True)] = 2e4,
    ramp: Literal["step", "epoch"] = "step",
    updates: Annotated[int, Ge(1)] = 500,
    lr: LearningRate = 1e-3,
    decay: Literal["stairs", "linear"] = "stairs",
    lr_scale: Annotated[float, Gt(0), Le(1)] = 0.3,
    lock: Annotated[float, Ge(0), Lt(1)] = 0.0,
) -> Method:
    """Train with mirror descent.

    Args:
        variant: the rule: the stable form with tanh, its closed form, plain gradient descent
            through tanh, or the stable form with softmax.
        beta_final: where beta, which begins with 1, goes (CIFAR-10 ResNet-18 script: 1.02^500).
        ramp: beta grows by steps (the official code) or by epochs (the BNEW programs).
        updates: how often beta grows by steps (100 000 iterations by 200).
        lr: Adam's learning rate (1e-3).
        decay: its course: by stairs (the official code) or linearly to 0 (the BNEW programs).
        lr_scale: what a stair multiplies the learning rate by, after the first iteration and after
            each 3/10 of training (0.3).
        lock: share of the epochs, at the end, with locked weights (none; the BNEW programs: 0.02).
    """
    steps = ramp == "step"
    beta: Schedule = AnnealedSteps(beta_final, updates) if steps else AnnealedEpochs(beta_final)
    stairs = Stairs(lr, lr_scale, Fraction(10, 3))
    rate: Schedule = stairs if decay == "stairs" else Linear(lr, 0.0)
    phases: tuple[Phase, ...] = (_annealing(variant, beta, rate, 1 - lock),)
    if lock:
        phases = (*phases, locked(adam(rate), share=lock))
    softmax = variant == "md-softmax-s"
    return Method(f"bmd-{variant}", phases, initialize=halved_difference if softmax else unchanged)


def _annealing(variant: Variant, beta: Schedule, rate: Schedule, share: float) -> Phase:
    if variant == "md-tanh":
        return Phase(
            binarizer=Scheduled(Relaxed),
            binary=Scheduled(MirrorTanh, lr=rate, beta=beta),
            real=adam(rate),
            share=share,
            start=torch.tanh,
            name="anneal",
        )
    kind = TanhGradient if variant == "gd-tanh" else Tanh
    return Phase(
        binarizer=Scheduled(kind, beta=beta),
        binary=adam(rate),
        real=adam(rate),
        share=share,
        name="anneal",
    )

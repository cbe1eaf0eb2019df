r"""BayesBiNN, the Bayesian learning rule on binary weights (Meng, Bachmann and Khan, ICML 2020).

    delta  = log(u/(1 - u))/2            u uniform, fresh for each of S passes
    b      = tanh((lambda + delta)/tau)  a relaxed draw of the Bernoulli with mean mu = tanh(lambda)
    s      = (1 - b^2 + eps) / (tau (1 - mu^2 + eps))                                    eps = 1e-10
    g      = N mean over the passes of s dL/db               N examples; L is the mean over a batch
    M      <- beta M + (1 - beta) (g + rho (lambda - lambda_0))        lambda_0 = 0, the prior
    lambda <- lambda - eta M/(1 - beta^k)                              k steps, eta by a cosine

lambda, the natural parameter of each weight, begins as +-10, drawn with equal chances.

stored: lambda    computed with: b, S times a step    moved by: the rule above
judged with: sign lambda, the mode of the posterior, beside its mean tanh lambda ("mean") and the
mean output of networks drawn from it ("ensemble")
source: the official code's MNIST script: 500 epochs with batches of 100, eta 1e-4, tau 1e-10,
S = 1, beta = 0, rho = 1, sign lambda for testing. The CIFAR-10 script has eta 3e-4, batches of 50
and 10 N in the place of N, because of its augmentation (``trainset_scale``).
departs from the official code: mu is that of the article, of the lambda of the step; the code has
it from the lambda of the step before. eta (1 + cos(pi e/E))/2 in epoch e of E, where the code has
e + 1, so that nothing moves in its last epoch. sign(0) is +1, there -1. The code's networks have no
real parameters; here Adam moves them, by the mean gradient of the passes.
tune: lr and temperature
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from bnnbench import Float, Int, hookimpl
from bnnbench.binarization import sign
from bnnbench.chance import draw_key, uniform
from bnnbench.interfaces import Closure, InferenceMode
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Cosine, Scheduled
from torch.optim import Adam, Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bnnbench.hookspecs import Register
    from torch import Tensor

requires_api = "1.0"

EPSILON = 1e-10

Rate = Annotated[float, Gt(0), Float(1e-6, 1e-1, log=True)]
Temperature = Annotated[float, Gt(0), Float(1e-10, 1.0, log=True)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Samples = Annotated[int, Ge(1), Int(1, 5)]
Weight = Annotated[float, Ge(0)]
Scale = Annotated[float, Gt(0)]
Draws = Annotated[int, Ge(2)]


class Concrete:
    """b, a relaxed draw, with the gradient s dL/db of the natural parameter.

    Args:
        temperature: tau; the smaller, the nearer are the draws to +-1 (1e-10).
        draws: networks in the ensemble that it may be judged by.
    """

    def __init__(self, temperature: Temperature = 1e-10, draws: Draws = 10) -> None:
        self.temperature, self.draws = temperature, draws
        self.drawn: dict[int, Tensor] = {}

    def forward(self, latent: Tensor) -> Tensor:
        """Return a draw of b, kept for :meth:`backward` until the next."""
        u = uniform(latent, draw_key())
        drawn = u.div(1 - u).log_().div_(2).add_(latent).div_(self.temperature).tanh_()
        self.drawn[id(latent)] = drawn
        return drawn

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return s ``grad``, s of the draw that ``grad`` belongs to."""
        b = self.drawn[id(latent)] if id(latent) in self.drawn else self.forward(latent)
        width = 1 - latent.tanh().square() + EPSILON
        return (1 - b.square() + EPSILON).div_(width.mul_(self.temperature)).mul_(grad)

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (the signs), "mean" (tanh lambda) and "ensemble" (of draws)."""
        return {
            "binary": InferenceMode(sign),
            "mean": InferenceMode(torch.tanh),
            "ensemble": InferenceMode(bernoulli, self.draws),
        }


def bernoulli(natural: Tensor) -> Tensor:
    """Return draws of +-1 with mean tanh(``natural``)."""
    u = uniform(natural, draw_key())
    return torch.lt(u, (2 * natural).sigmoid(), out=u).mul_(2).sub_(1)


class BayesBiNN(Optimizer):
    """The natural-gradient step on lambda; it asks for a gradient once for each sample.

    Args:
        lr: eta (MNIST script: 1e-4).
        momentum: beta (0).
        samples: S, passes forward and backward in a step (1).
        reweight: rho, the weight of the prior (1).
        trainset_scale: what N is multiplied by (1; the CIFAR scripts: 10).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Rate = 1e-4,
        momentum: Momentum = 0.0,
        samples: Samples = 1,
        reweight: Weight = 1.0,
        trainset_scale: Scale = 1.0,
    ) -> None:
        hyper = {
            "lr": lr,
            "momentum": momentum,
            "samples": samples,
            "reweight": reweight,
            "trainset_scale": trainset_scale,
        }
        super().__init__(params, hyper)

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Take a step with the mean gradient of some passes; return their mean loss."""
        samples = self.param_groups[0]["samples"]
        total: dict[Tensor, Tensor] = {}
        losses = []
        for _ in range(samples):
            losses.append(closure())
            for group in self.param_groups:
                for natural in group["params"]:
                    if natural.grad is not None:
                        total[natural] = total.get(natural, 0) + natural.grad
        for group in self.param_groups:
            examples = closure.examples * group["trainset_scale"]
            for natural in group["params"]:
                if natural in total:
                    self._move(natural, total[natural].mul_(examples / samples), group)
        return torch.stack(losses).mean()

    def _move(self, natural: Tensor, grad: Tensor, group: Mapping[str, Any]) -> None:
        state, beta = self.state[natural], group["momentum"]
        if not state:
            state.update(step=0, momentum=torch.zeros_like(natural))
        state["step"] += 1
        pull = grad.add_(natural, alpha=group["reweight"])
        average = state["momentum"].mul_(beta).add_(pull, alpha=1 - beta)
        natural.sub_(average, alpha=group["lr"] / (1 - beta ** state["step"]))


def coins(weight: Tensor, *, size: float) -> Tensor:
    """Return +-``size``, drawn with equal chances, in the shape of ``weight``."""
    return torch.randint_like(weight, 2).mul_(2 * size).sub_(size)


def bayesbinn(
    *,
    lr: Rate = 1e-4,
    temperature: Temperature = 1e-10,
    momentum: Momentum = 0.0,
    samples: Samples = 1,
    reweight: Weight = 1.0,
    trainset_scale: Scale = 1.0,
    start: Annotated[float, Ge(0), Float(1e-1, 1e1, log=True)] = 10.0,
    draws: Draws = 10,
    real_lr: Annotated[float, Gt(0), Float(1e-4, 3e-2, log=True)] = 1e-3,
) -> Method:
    """Train with BayesBiNN.

    Args:
        lr: eta of the first epoch (MNIST script: 1e-4; CIFAR-10: 3e-4).
        temperature: tau (1e-10).
        momentum: beta (0).
        samples: S, passes forward and backward in a step (1).
        reweight: rho, the weight of the prior (1).
        trainset_scale: what N is multiplied by (1; the CIFAR scripts, which augment: 10).
        start: the size of the first lambda (10).
        draws: networks in the ensemble that it is judged by beside (the script: none).
        real_lr: the first learning rate of Adam, which moves the real parameters (the code's
            networks have none).
    """
    phase = Phase(
        binarizer=Scheduled(Concrete, temperature=temperature, draws=draws),
        binary=Scheduled(
            BayesBiNN,
            lr=Cosine(lr),
            momentum=momentum,
            samples=samples,
            reweight=reweight,
            trainset_scale=trainset_scale,
        ),
        real=Scheduled(Adam, lr=Cosine(real_lr)),
    )
    return Method("bayesbinn", (phase,), initialize=partial(coins, size=start))


@hookimpl
def register_methods(register: Register) -> None:
    """Register the method by its name in study files."""
    register("bayesbinn", bayesbinn)


@hookimpl
def register_binarizers(register: Register) -> None:
    """Register the relaxed draws."""
    register("concrete", Concrete)


@hookimpl
def register_optimizers(register: Register) -> None:
    """Register the rule that moves natural parameters."""
    register("bayesbinn", BayesBiNN)

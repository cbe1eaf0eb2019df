"""Steps 1 and 3 of Algorithm 1 of BinaryConnect for the binary weights, in three ways.

:class:`Separate` calls the binarizer and the optimizer one after the other. :class:`OnePass` does
the same in one compiled pass, for those that have a rule for one weight
(:mod:`bnnbench.elementwise`), and binarizes for the next step while it is there. :class:`Asked`
is for an optimizer that asks for gradients itself, as often as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from bnnbench.chance import draw_key
from bnnbench.elementwise import has_rule
from bnnbench.errors import PluginError
from bnnbench.interfaces import Informed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from bnnbench.interfaces import Binarizer
    from bnnbench.latents import Latents

Way = Literal["auto", "compiled", "separate"]
Gradient = Callable[[], "Tensor"]  #: steps 1 and 2: project, leave dL/dw_b, return the loss

#: weights times steps from which compiling, a second or two, is won back; see docs/speed.md
WORTH = 2_000_000_000
#: the same for a GPU, where it takes longer and saves less: estimated, and never measured
WORTH_GPU = 100_000_000_000

#: what compiles a pass, by the type of the device
COMPILERS = {"cpu": "numba", "cuda": "triton"}


class Update(Protocol):
    """How the binary weights get from one step to the next."""

    def project(self, binarizer: Binarizer) -> None:
        """1. w_b <- binarize(w)."""
        ...

    def take(self, gradient: Gradient, binarizer: Binarizer, following: Binarizer | None) -> Tensor:
        """1. and 2. by ``gradient``, then dL/dw and 3. w <- update(w, dL/dw); return the loss.

        ``following`` is the binarizer of the next step, where nothing else uses the weights before.
        """
        ...


class _Once:
    """One gradient for each step."""

    step: Callable[..., None]

    def take(self, gradient: Gradient, binarizer: Binarizer, following: Binarizer | None) -> Tensor:
        """1. and 2. by ``gradient``, then dL/dw and 3. w <- update(w, dL/dw); return the loss."""
        loss = gradient()
        self.step(binarizer, following)
        return loss


class Separate(_Once):
    """The binarizer's and the optimizer's own operations."""

    def __init__(self, latents: Latents, optimizer: Optimizer | None) -> None:
        self.latents, self.optimizer = latents, optimizer

    def project(self, binarizer: Binarizer) -> None:
        """1. w_b <- binarize(w)."""
        self.latents.project(binarizer.forward)

    def step(self, binarizer: Binarizer, following: Binarizer | None) -> None:
        """2. dL/dw and 3. w <- update(w, dL/dw)."""
        if self.optimizer is None:
            return
        self.latents.pull_back(binarizer.backward)
        self.latents.flips.watch()
        self.optimizer.step()
        self.optimizer.zero_grad()


class OnePass(_Once):
    """One compiled pass over each layer's weights."""

    def __init__(self, latents: Latents, optimizer: Any) -> None:
        self.latents, self.optimizer = latents, optimizer
        self.run = _pass_over(latents)
        self.projected = False

    def project(self, binarizer: Binarizer) -> None:
        """1. w_b <- binarize(w), unless the step before has done it."""
        if not self.projected:
            self.latents.project(binarizer.forward)

    def step(self, binarizer: Binarizer, following: Binarizer | None) -> None:
        """2. dL/dw, 3. w <- update(w, dL/dw), and 1. of the next step."""
        self.latents.flips.unwatch()
        for group in self.optimizer.param_groups:
            self._move(group, binarizer, following)
        self.projected = following is not None

    def _move(self, group: Mapping[str, Any], binarizer: Any, following: Any) -> None:
        name, latent = group["layer"], group["params"][0]
        now, then = binarizer.elementwise(latent), (following or binarizer).elementwise(latent)
        state = self.optimizer.state[latent]
        # a tensor, as torch's own have it; torch moves it to a GPU when it loads a state
        state["step"] = state.get("step", torch.tensor(0.0)).cpu() + 1
        moved = self.optimizer.elementwise(group, int(state["step"]))
        key = draw_key() if then.random and following is not None else (0, 0)
        flips = self.run(
            (moved.rule, then.forward, now.backward, then.random),
            (latent, self.latents.gradient(name), self.latents.weights[name]),
            [_moment(state, name, latent) for name in moved.moments],
            (moved.numbers, now.numbers, then.numbers),
            key,
        )
        self.latents.weights[name].grad = None
        self.latents.flips.add(name, flips)


def _pass_over(latents: Latents) -> Callable[..., Tensor | int]:
    """The pass for the device that the latents lie on."""
    if _device(latents) != "cpu":
        from bnnbench import fused

        return fused.run
    from bnnbench import kernels, threads

    return partial(kernels.run, parallel=threads.follow_torch_threads() > 1)


def _device(latents: Latents) -> str:
    """The type of the device that the latents lie on."""
    return next((latent.device.type for latent in latents.tensors.values()), "cpu")


def _moment(state: dict[str, Any], name: str, latent: Tensor) -> Tensor:
    """What an optimizer remembers of a latent under a name, at first 0."""
    if state.get(name) is None:
        state[name] = torch.zeros_like(latent)
    moment: Tensor = state[name]
    return moment


class Asked:
    """The optimizer's ``step`` is given a :class:`bnnbench.interfaces.Closure`, and asks.

    ``real`` are the real parameters, whose gradients add up over the calls.
    """

    def __init__(
        self, latents: Latents, optimizer: Any, real: Sequence[Tensor], examples: int
    ) -> None:
        self.latents, self.optimizer = latents, optimizer
        self.real, self.examples = real, examples

    def project(self, binarizer: Binarizer) -> None:
        """1. w_b <- binarize(w)."""
        self.latents.project(binarizer.forward)

    def take(self, gradient: Gradient, binarizer: Binarizer, following: Binarizer | None) -> Tensor:
        """Let the optimizer do steps 1 to 3; return the mean loss of the calls.

        Raises:
            PluginError: it did not call its closure, so that nothing was learned from the batch.
        """
        closure = Evaluation(self.latents, binarizer, gradient, self.examples)
        self.latents.flips.watch()
        self.optimizer.step(closure)
        self.optimizer.zero_grad()
        calls = len(closure.losses)
        if not calls:
            raise PluginError(
                f"a step that requires its closure must call it, {type(self.optimizer).__name__}'s"
                " did not; call it, or let step(closure=None) do without"
            )
        for parameter in self.real:
            if calls > 1 and parameter.grad is not None:
                parameter.grad.div_(calls)
        return torch.stack(closure.losses).mean()


class Evaluation:
    """A :class:`bnnbench.interfaces.Closure`; it keeps the loss of every call."""

    def __init__(
        self, latents: Latents, binarizer: Binarizer, gradient: Gradient, examples: int
    ) -> None:
        self.latents, self.binarizer, self.gradient = latents, binarizer, gradient
        self.examples = examples
        self.losses: list[Tensor] = []

    def __call__(self) -> Tensor:
        """1. w_b <- binarize(w) and 2. dL/dw; return the loss."""
        with torch.enable_grad():  # a step may forbid it, as torch's own do
            loss = self.gradient()
        self.latents.pull_back(self.binarizer.backward)
        self.losses.append(loss)
        return loss


def update_of(
    latents: Latents,
    binarizer: Binarizer,
    optimizer: Optimizer | None,
    way: Way,
    steps: int,
    real: Sequence[Tensor] = (),
    examples: int = 0,
) -> Update:
    """Return the way to go for a phase; ``steps`` are those of the whole training.

    The choice depends on what is trained and never on a measurement, so that a training that is
    taken up goes on with the same arithmetic. ``real`` are the real parameters, ``examples`` the
    size of the training set.
    """
    if optimizer is not None and requires_closure(optimizer):
        return Asked(latents, optimizer, real, examples)
    if way == "auto":
        worth = WORTH if _device(latents) == "cpu" else WORTH_GPU
        way = "compiled" if len(latents) * steps >= worth else "separate"
    if way == "compiled" and optimizer is not None and can_compile(latents, binarizer, optimizer):
        return OnePass(latents, optimizer)
    return Separate(latents, optimizer)


def requires_closure(optimizer: Optimizer) -> bool:
    """Whether an optimizer's ``step`` cannot be called without a closure.

    >>> w = torch.zeros(1)
    >>> requires_closure(torch.optim.LBFGS([w])), requires_closure(torch.optim.Adam([w]))
    (True, False)
    """
    first = next(iter(signature(optimizer.step).parameters.values()), None)
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return first is not None and first.kind in positional and first.default is Parameter.empty


def can_compile(latents: Latents, binarizer: Binarizer, optimizer: Optimizer) -> bool:
    """Whether both have rules for one weight, and the latents lie where compiled code reaches.

    A rule sees one weight, and never what the optimizer remembers of the others.
    """
    return (
        has_rule(binarizer)
        and has_rule(optimizer)
        and not isinstance(binarizer, Informed)
        and all(_reachable(latent) for latent in latents.tensors.values())
        and find_spec(COMPILERS[_device(latents)]) is not None
    )


def _reachable(latent: Tensor) -> bool:
    """Whether a pass goes there: its device, its precision, and no gaps in memory."""
    exact = latent.dtype in (torch.float32, torch.float64)
    return (
        latent.device.type in COMPILERS
        and exact
        and torch.empty_like(latent).stride() == latent.stride()
    )

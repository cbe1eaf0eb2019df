"""Steps 1 and 3 of Algorithm 1 of BinaryConnect for the binary weights, in two ways.

:class:`Separate` calls the binarizer and the optimizer one after the other. :class:`OnePass` does
the same in one compiled pass, for those that have a rule for one weight
(:mod:`bnnbench.elementwise`), and binarizes for the next step while it is there.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from bnnbench.chance import draw_key
from bnnbench.elementwise import has_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from bnnbench.interfaces import Binarizer
    from bnnbench.latents import Latents

Way = Literal["auto", "compiled", "separate"]

#: weights times steps from which compiling, a second or two, is won back; see docs/speed.md
WORTH = 2_000_000_000


class Update(Protocol):
    """How the binary weights get from one step to the next."""

    def project(self, binarizer: Binarizer) -> None:
        """1. w_b <- binarize(w)."""
        ...

    def step(self, binarizer: Binarizer, following: Binarizer | None) -> None:
        """2. dL/dw and 3. w <- update(w, dL/dw).

        ``following`` is the binarizer of the next step, where nothing else uses the weights before.
        """
        ...


class Separate:
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


class OnePass:
    """One compiled pass over each layer's weights."""

    def __init__(self, latents: Latents, optimizer: Any) -> None:
        from bnnbench import kernels

        self.latents, self.optimizer, self.kernels = latents, optimizer, kernels
        self.parallel = kernels.follow_torch_threads() > 1
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
        state["step"] = state.get("step", torch.tensor(0.0)) + 1  # a tensor, as torch's own have it
        moved = self.optimizer.elementwise(group, int(state["step"]))
        key = draw_key() if then.random and following is not None else (0, 0)
        flips = self.kernels.run(
            (moved.rule, then.forward, now.backward, then.random),
            (latent, self.latents.gradient(name), self.latents.weights[name]),
            [_moment(state, name, latent) for name in moved.moments],
            (moved.numbers, now.numbers, then.numbers),
            key,
            parallel=self.parallel,
        )
        self.latents.weights[name].grad = None
        self.latents.flips.add(name, flips)


def _moment(state: dict[str, Any], name: str, latent: Tensor) -> Tensor:
    """What an optimizer remembers of a latent under a name, at first 0."""
    if state.get(name) is None:
        state[name] = torch.zeros_like(latent)
    moment: Tensor = state[name]
    return moment


def update_of(
    latents: Latents, binarizer: Binarizer, optimizer: Optimizer | None, way: Way, steps: int
) -> Update:
    """Return the way to go for a phase; ``steps`` are those of the whole training.

    The choice depends on what is trained and never on a measurement, so that a training that is
    taken up goes on with the same arithmetic.
    """
    if way == "auto":
        way = "compiled" if len(latents) * steps >= WORTH else "separate"
    if way == "compiled" and optimizer is not None and can_compile(latents, binarizer, optimizer):
        return OnePass(latents, optimizer)
    return Separate(latents, optimizer)


def can_compile(latents: Latents, binarizer: Binarizer, optimizer: Optimizer) -> bool:
    """Whether both have rules for one weight, and the latents lie where compiled code reaches."""
    return (
        has_rule(binarizer)
        and has_rule(optimizer)
        and all(_reachable(latent) for latent in latents.tensors.values())
        and find_spec("numba") is not None
    )


def _reachable(latent: Tensor) -> bool:
    """Whether a latent is on CPU, in a precision that is compiled, and without gaps in memory."""
    exact = latent.dtype in (torch.float32, torch.float64)
    return (
        latent.device.type == "cpu"
        and exact
        and torch.empty_like(latent).stride() == latent.stride()
    )

"""A phase under way: its optimizers, its binarizer of the moment, its place in its stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.interfaces import Informed
from bnnbench.layers import real_parameters
from bnnbench.measurements import Measurement
from bnnbench.schedules import PerLayer, Progress, resolve
from bnnbench.updates import update_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from bnnbench.interfaces import Binarizer, InferenceMode
    from bnnbench.latents import Latents
    from bnnbench.methods import Phase
    from bnnbench.schedules import Scheduled
    from bnnbench.updates import Gradient, Way


class Stretch:
    """A phase under way: its optimizers, its binarizer of the moment, its place in its stage.

    The phase begins ``begun`` epochs after its stage, which has ``epochs`` of ``steps`` each.
    ``total`` are the steps of the whole training, ``examples`` the size of the training set.
    """

    def __init__(
        self,
        number: int,
        phase: Phase,
        latents: Latents,
        model: nn.Module,
        begun: int,
        epochs: int,
        steps: int,
        way: Way = "auto",
        total: int = 0,
        examples: int = 0,
    ) -> None:
        self.number, self.phase = number, phase
        self.begun, self.epochs, self.steps = begun, epochs, steps
        self.informs: Optimizer | None = None
        self.binarizer = self.build(self.progress(0, 0))
        real = list(real_parameters(model).values())
        wanted = {
            "binary": (phase.binary, latents.groups()),
            "real": (phase.real, [{"params": real}]),
        }
        self.optimizers: dict[str, tuple[Scheduled[Optimizer], Optimizer]] = {
            role: (scheduled, scheduled.optimizer(groups, self.now))
            for role, (scheduled, groups) in wanted.items()
            if any(group["params"] for group in groups)
        }
        binary = self.optimizers["binary"][1] if "binary" in self.optimizers else None
        self.update = update_of(latents, self.binarizer, binary, way, total, real, examples)
        if isinstance(self.binarizer, Informed):
            self.informs = binary
            self.build(self.now)

    def progress(self, epoch: int, step: int) -> Progress:
        """How far the stage has come at a step of an epoch of this phase."""
        epoch += self.begun
        return Progress(epoch * self.steps + step, self.epochs * self.steps, epoch, self.epochs)

    def build(self, at: Progress) -> Binarizer:
        """Return the binarizer of this moment, and remember both."""
        self.now, self.binarizer = at, self._built(at)
        return self.binarizer

    def _built(self, at: Progress) -> Binarizer:
        binarizer: Any = self.phase.binarizer.build(at)
        if self.informs is not None:
            binarizer.inform(self.informs)
        return binarizer  # type: ignore[no-any-return]

    def project(self) -> None:
        """1. w_b <- binarize(w)."""
        self.update.project(self.binarizer)

    def step(self, gradient: Gradient, following: Progress | None) -> Tensor:
        """1. and 2. by ``gradient``, then dL/dw and 3. w <- update(w, dL/dw); return the loss.

        ``following`` is the next step, if it is of this epoch.
        """
        for scheduled, optimizer in self.optimizers.values():
            scheduled.update(optimizer, self.now)
        after = None if following is None else self._built(following)
        loss = self.update.take(gradient, self.binarizer, after)
        if "real" in self.optimizers:
            optimizer = self.optimizers["real"][1]
            optimizer.step()
            optimizer.zero_grad()
        return loss

    @property
    def modes(self) -> Mapping[str, InferenceMode]:
        """The ways to judge the network as it stands."""
        return self.binarizer.inference_modes()

    def go_on_from(self, before: Stretch) -> None:
        """Take over the optimizer of the real parameters."""
        if "real" in self.optimizers:
            self.optimizers["real"] = (self.phase.real, before.optimizers["real"][1])

    def state(self) -> dict[str, Any]:
        """What the optimizers remember, by role."""
        return {role: optimizer.state_dict() for role, (_, optimizer) in self.optimizers.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Let the optimizers remember it."""
        for role, (_, optimizer) in self.optimizers.items():
            _recall(optimizer, state[role])

    def told(self) -> dict[str, Any]:
        """What the ways to judge the network depend on beside the latents, for :meth:`tell`."""
        return {} if self.informs is None else self.informs.state_dict()

    def tell(self, told: Mapping[str, Any]) -> None:
        """Let an informed binarizer see the optimizer as it was."""
        if self.informs is not None:
            _recall(self.informs, told)

    def hyperparameters(self) -> list[Measurement]:
        """The scheduled hyperparameters as they stood at the end of the epoch."""
        binarizer = [
            Measurement(f"binarizer.{name}", resolve(value, self.now))
            for name, value in self.phase.binarizer.hyper.items()
            if callable(value)
        ]
        return binarizer + [
            Measurement(f"{role}.{name}", float(group[name]), layer=layer)
            for role, (scheduled, optimizer) in self.optimizers.items()
            for name, value in scheduled.hyper.items()
            for layer, group in _groups(optimizer, value)
        ]


def _recall(optimizer: Optimizer, state: Any) -> None:
    """Let an optimizer remember what its ``state_dict`` gave."""
    optimizer.load_state_dict(state)
    for parameter, remembered in optimizer.state.items():
        remembered.update(_laid_like(parameter, remembered))


def _laid_like(parameter: Tensor, remembered: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """What has the shape of a parameter, in its memory order: fused steps rely on it."""
    for name, value in remembered.items():
        if getattr(value, "shape", None) == parameter.shape:
            yield name, torch.empty_like(parameter).copy_(value)


def _groups(optimizer: Optimizer, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The groups to read a hyperparameter from: every layer's, or one for all if they are equal."""
    if isinstance(value, PerLayer) and callable(value.value):
        yield from ((group["layer"], group) for group in optimizer.param_groups)
    elif callable(value):
        yield "", optimizer.param_groups[0]

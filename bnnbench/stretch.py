"""A phase under way: its optimizers, its binarizer of the moment, its place in its stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

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
    from bnnbench.updates import Way


class Stretch:
    """A phase under way: its optimizers, its binarizer of the moment, its place in its stage.

    The phase begins ``begun`` epochs after its stage, which has ``epochs`` of ``steps`` each.
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
    ) -> None:
        self.number, self.phase = number, phase
        self.begun, self.epochs, self.steps = begun, epochs, steps
        self.binarizer = self.build(self.progress(0, 0))
        real = [{"params": list(real_parameters(model).values())}]
        wanted = {"binary": (phase.binary, latents.groups()), "real": (phase.real, real)}
        self.optimizers: dict[str, tuple[Scheduled[Optimizer], Optimizer]] = {
            role: (scheduled, scheduled.optimizer(groups, self.now))
            for role, (scheduled, groups) in wanted.items()
            if any(group["params"] for group in groups)
        }
        binary = self.optimizers["binary"][1] if "binary" in self.optimizers else None
        self.update = update_of(latents, self.binarizer, binary, way, total)

    def progress(self, epoch: int, step: int) -> Progress:
        """How far the stage has come at a step of an epoch of this phase."""
        epoch += self.begun
        return Progress(epoch * self.steps + step, self.epochs * self.steps, epoch, self.epochs)

    def build(self, at: Progress) -> Binarizer:
        """Return the binarizer of this moment, and remember both."""
        self.now, self.binarizer = at, self.phase.binarizer.build(at)
        return self.binarizer

    def project(self) -> None:
        """1. w_b <- binarize(w)."""
        self.update.project(self.binarizer)

    def step(self, following: Progress | None) -> None:
        """2. dL/dw and 3. w <- update(w, dL/dw); ``following``: the next step, if of this epoch."""
        for scheduled, optimizer in self.optimizers.values():
            scheduled.update(optimizer, self.now)
        after = None if following is None else self.phase.binarizer.build(following)
        self.update.step(self.binarizer, after)
        if "real" in self.optimizers:
            optimizer = self.optimizers["real"][1]
            optimizer.step()
            optimizer.zero_grad()

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
            optimizer.load_state_dict(state[role])
            for parameter, remembered in optimizer.state.items():
                remembered.update(_laid_like(parameter, remembered))

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

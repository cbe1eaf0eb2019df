"""Which epoch's network is judged at the end."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.interfaces import InferenceMode
    from bnnbench.measurements import Measurement
    from bnnbench.training import Training


class Selected:
    """The network of the best epoch on validation so far (of equals the latest), or of the last."""

    def __init__(self, select: str) -> None:
        self.best = select == "best"
        self.accuracy = -math.inf
        self.at: dict[str, int] = {}
        self.state: dict[str, Any] = {}

    def offer(self, training: Training, measured: list[Measurement], at: dict[str, int]) -> None:
        """Keep the network as it stands, if it is to be preferred; ``at``: its epoch and phase."""
        judged = ("accuracy", "validation", training.method.judged)
        accuracy = next(m.value for m in measured if (m.metric, m.split, m.mode) == judged)
        if self.best and accuracy < self.accuracy:
            return
        self.accuracy, self.at = accuracy, at
        told = training.stretch.told() if training.stretch else {}
        state = {"model": training.model.state_dict(), "latents": training.latents.state()}
        self.state = copy.deepcopy(state | {"told": told})

    def restore(self, training: Training) -> tuple[Mapping[str, InferenceMode], dict[str, int]]:
        """Bring the network back, and the ways to judge it as they were at the time."""
        stretch = training.stretch_of(self.at["phase"])  # its optimizers may change the latents
        training.model.load_state_dict(self.state["model"])
        training.latents.load(self.state["latents"])
        stretch.tell(self.state.get("told", {}))
        epoch = self.at["epoch"] - 1
        for activation in training.activations:
            activation.follow(training.at(epoch, stretch.steps - 1))
        at = stretch.progress(epoch - training.spans[stretch.number][0], stretch.steps - 1)
        return stretch.build(at).inference_modes(), self.at

    def saved(self) -> dict[str, Any]:
        """Return all of it, as nested plain values and tensors."""
        return {"accuracy": self.accuracy, "at": self.at, "state": self.state}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on with what :meth:`saved` gave."""
        self.accuracy, self.at, self.state = saved["accuracy"], saved["at"], saved["state"]

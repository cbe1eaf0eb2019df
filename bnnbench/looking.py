"""Letting a probe look at a network, without a trace in the training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from bnnbench.seeds import RandomState, derive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.interfaces import Onlooker, Scene
    from bnnbench.measurements import Measurement


@torch.no_grad()
def look(probe: Onlooker, scene: Scene, seed: int) -> list[Measurement]:
    """Return what a probe sees; weights, modes and random numbers are as before when it is done.

    The probe's own random numbers depend on ``seed`` and the epoch, not on other probes.
    """
    with RandomState(derive(seed, "probe", scene.epoch)).in_force(), _put_back(scene):
        scene.model.eval()
        return list(probe.look(scene))


@contextmanager
def _put_back(scene: Scene) -> Iterator[None]:
    """Put the network's binary weights and all modules' modes back when the block ends."""
    weights = scene.latents.weights
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    training = [(module, module.training) for module in scene.model.modules()]
    try:
        yield
    finally:
        for name, weight in kept.items():
            weights[name].copy_(weight)
        for module, was in training:
            module.training = was

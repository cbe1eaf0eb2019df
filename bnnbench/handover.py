"""Handing weights from one network to another, by name: every weight must find its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from bnnbench.checkpoints import Weights


def check_places(given: Mapping[str, Tensor], network: nn.Module, source: str) -> None:
    """Refuse weights that do not fit a network one to one.

    Raises:
        UsageError: a weight without a place, a place without a weight, or another shape.
    """
    places = network.state_dict()
    for name, tensor in given.items():
        if name not in places:
            raise _misfit(source, f"{_told(name, tensor)} finds no place in this network")
        if places[name].shape != tensor.shape:
            place = tuple(places[name].shape)
            raise _misfit(source, f"{_told(name, tensor)} does not fit the place of shape {place}")
    for name, place in places.items():
        if name not in given:
            raise _misfit(source, f"there is none for {_told(name, place)} of this network")


def _told(name: str, tensor: Tensor) -> str:
    return f"{name!r} of shape {tuple(tensor.shape)}"


def _misfit(source: str, what: str) -> UsageError:
    return UsageError(
        f"the weights of {source} are handed over by name, but {what}; give both runs the same"
        " architecture"
    )


@torch.no_grad()
def hand_over(weights: Weights, network: nn.Module, source: str) -> None:
    """Let a network begin with a run's weights; binary layers with its latents.

    Raises:
        UsageError: the weights do not fit.
    """
    given = {**weights.network, **weights.latents}
    check_places(given, network, source)
    network.load_state_dict(given)


def check_teacher_mode(method: str, judged: str, draws: int) -> None:
    """Refuse a teacher that is judged as more than one network."""
    if draws > 1:
        raise UsageError(
            f"a teacher is one network, but {method} is judged by the mean of {draws}"
            f" ({judged!r}); set its judged to another mode"
        )


def as_teacher(weights: Weights, network: nn.Module) -> nn.Module:
    """Return the network with the weights by which the run was judged, fixed, in eval mode.

    Raises:
        UsageError: the run is judged by the mean of several networks.
    """
    check_teacher_mode(weights.run.method.name, weights.judged, weights.draws)
    network.load_state_dict(weights.network)
    for module in network.modules():
        if isinstance(module, BinaryActivation):
            module.follow(weights.progress)
    return network.eval().requires_grad_(False)

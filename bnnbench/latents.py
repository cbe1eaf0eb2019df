"""What a method remembers of the binary weights, kept beside what the network computes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.errors import PluginError
from bnnbench.flips import Flips
from bnnbench.layers import binary_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from bnnbench.interfaces import View


class Latents:
    """The latents of all binary layers of a network, by the layer's name.

    The network's parameters are only ever written by :meth:`project`, the latents only ever by an
    optimizer: nothing is saved, overwritten and restored.
    """

    def __init__(self, model: nn.Module, initialize: View | None = None) -> None:
        self.weights: dict[str, Tensor] = {
            name: layer.get_parameter("weight") for name, layer in binary_layers(model).items()
        }
        self.tensors: dict[str, Tensor] = {
            name: (initialize(w.detach()) if initialize else w.detach()).clone()
            for name, w in self.weights.items()
        }
        self.flips = Flips(self)

    def __len__(self) -> int:
        """The number of binary weights."""
        return sum(latent.numel() for latent in self.tensors.values())

    def lie_as_weights(self) -> None:
        """Take the weights' order in memory; ask before an optimizer knows the latents."""
        for name, latent in self.tensors.items():
            self.tensors[name] = torch.empty_like(self.weights[name].detach()).copy_(latent)

    def groups(self) -> list[dict[str, Any]]:
        """Return one group of parameters for each layer, for a torch optimizer."""
        return [{"params": [latent], "layer": name} for name, latent in self.tensors.items()]

    @torch.no_grad()
    def become(self, view: View) -> None:
        """Replace every latent by a view of itself, as a phase begins."""
        self.flips.watch()
        for latent in self.tensors.values():
            latent.copy_(view(latent))

    @torch.no_grad()
    def project(self, view: View) -> None:
        """Let the network compute with a view of the latents."""
        for name, latent in self.tensors.items():
            self.weights[name].copy_(view(latent))

    @torch.no_grad()
    def pull_back(self, backward: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Give every latent the pseudo-gradient that belongs to the gradient at its weight."""
        for name, latent in self.tensors.items():
            latent.grad = backward(latent, self.gradient(name))
            self.weights[name].grad = None

    def gradient(self, name: str) -> Tensor:
        """Return the gradient at a layer's weight, of the latent's shape and memory order.

        Raises:
            PluginError: the weight took no part in the loss.
        """
        grad, latent = self.weights[name].grad, self.tensors[name]
        if grad is None:
            raise PluginError(
                f"every binary layer must take part in the loss, but {name!r} got no gradient;"
                " remove it from the architecture or use it"
            )
        return grad if grad.stride() == latent.stride() else torch.empty_like(latent).copy_(grad)

    @torch.no_grad()
    def views(self, view: View) -> dict[str, Tensor]:
        """Return a view of every latent, by layer."""
        return {name: view(latent) for name, latent in self.tensors.items()}

    @torch.no_grad()
    def codes(self) -> dict[str, Tensor]:
        """Return the sign bit of every latent, by layer: True for +1, and for 0."""
        return {name: latent >= 0 for name, latent in self.tensors.items()}

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all latents."""
        return {name: latent.clone() for name, latent in self.tensors.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Put the latents of a copy back."""
        for name, latent in self.tensors.items():
            latent.copy_(state[name])

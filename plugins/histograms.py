r"""How the latents of a layer are distributed, the histograms of BinaryConnect's figure 2.

    u = w/H                                  H: where the latents are clipped
    latent_bin_00       share of u < -1
    latent_bin_i        share of u in [-1 + (i-1)/20, -1 + i/20), i = 1 ... 40; the last with its 1
    latent_bin_41       share of u > 1
    latent_saturated    share of |u| >= 0.999
    latent_distance     mean of |1 - |u||, the way to the nearest binary weight
    latent_mean, latent_sd    of w, over the layer's weights

The bins are the same for every epoch and every run, so that their shares compare. A look before
training sees the network's own weights, whatever the method makes of them at its first step. For
Bop the latent is the weight: from its first epoch on all of it is in the bins 1 and 40.

source: BinaryConnect (Courbariaux et al., 2015), figure 2, the first layer of an MLP
departs from it: the figure has bins of its own for each histogram
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Gt

from bnnbench.measurements import Measurement
from bnnbench_plugins.occasions import chosen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bnnbench.interfaces import Scene
    from bnnbench.latents import Latents

BINS = 40  #: from -1 to 1, beside the two that are outside
NEAR = 1e-3  #: what is as close to the bound as this is saturated


class Histograms:
    """Histograms of the latents of the first binary layer, or of all.

    Args:
        layers: the first binary layer of the network (as in the figure), or all.
        epochs: when to look; left out, after 0, 1, 2, 5, 10, 20, 50, ... epochs. The last is added.
        bound: H, which is 1 but for a method that is told another scale.
    """

    def __init__(
        self,
        layers: Literal["first", "all"] = "first",
        epochs: tuple[int, ...] = (),
        bound: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        self.layers, self.epochs, self.bound = layers, epochs, bound

    def step(self, latents: Latents) -> None:
        """Do nothing."""

    def epoch(self, latents: Latents) -> tuple[()]:
        """Return nothing: see :meth:`look`."""
        return ()

    def look(self, scene: Scene) -> Iterator[Measurement]:
        """Return the histograms, in shares, and the figures beside them."""
        if not chosen(scene, self.epochs):
            return
        latents = list(scene.latents.tensors.items())
        for layer, latent in latents if self.layers == "all" else latents[:1]:
            for metric, value in figures(latent, self.bound).items():
                yield Measurement(metric, value, layer=layer)

    def state(self) -> dict[str, Any]:
        """Return nothing: no look depends on the one before."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember nothing."""


def figures(latent: Tensor, bound: float = 1.0) -> dict[str, float]:
    """Return all figures of a layer by their names; see the head of the file."""
    w = latent.detach().double()
    size = (w / bound).abs()
    found = {
        "latent_mean": w.mean().item(),
        "latent_sd": w.std(correction=0).item(),
        "latent_saturated": (size >= 1 - NEAR).double().mean().item(),
        "latent_distance": (1 - size).abs().mean().item(),
    }
    shares = enumerate(histogram(w / bound))
    return found | {f"latent_bin_{number:02}": share for number, share in shares}


def histogram(u: Tensor) -> list[float]:
    """Return the share of numbers in each bin, the one below -1 first and the one above 1 last.

    >>> [round(share, 2) for share in histogram(torch.tensor([-3.0, -1.0, 1.0, 1.0]))[::40]]
    [0.25, 0.5]
    """
    edges = torch.arange(-BINS // 2, BINS // 2 + 1, device=u.device).double() / (BINS / 2)
    places = torch.bucketize(u, edges, right=True) - (u == 1).long()  # 1 itself is not outside
    counts = torch.bincount(places.flatten(), minlength=BINS + 2)
    return [count / u.numel() for count in counts.tolist()]

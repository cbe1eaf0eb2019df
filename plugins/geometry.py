r"""What binarization keeps of angles and of dot products (Anderson and Berg, ICLR 2018).

    cos theta = w.w_b / (|w| |w_b|)          of each filter: w of d = fan_in numbers
    x = a.w_b,  y = a.w                      see bnnbench_plugins.products

w is the latent and w_b the weight of the inference mode "binary": its sign, with or without a
height, which the angle does not see. Where they are equal there is no latent of its own and no
angle: nothing is yielded for Bop, for frozen weights and for BNEW once they are locked. Another
mode with one draw whose weight is neither is compared with w_b too, under the mode's name:
tanh(beta w~) of BMD is "relaxed". For BNEW w is the weight before its projection.

With independent weights cos theta goes to E|w|/sqrt(E w^2) as d grows:

    Gaussian                  sqrt(2/pi)                         37.07 degrees
    uniform in [-1, 1]        (1/2)/sqrt(1/3) = sqrt(3)/2        30
    ternary of Gaussian       2 phi(t)/sqrt(2 (1 - Phi(t)))      34.2 where t = 0.1
    two unrelated vectors     0, with deviations of 1/sqrt(d)    90

Ternary is sign(w) where |w| is above t standard deviations, else 0.

Measured besides, in the same shape: ``angle_gaussian``, Gaussian latents and their binarization;
``angle_shuffled``, the layer's latents in a random order; ``angle_apart``, each filter and its own
w_b in a random order.

source: the article's sections 3.1 and 3.2; the official code's notebooks for 500 images and for the
ternary .5956 rad, a median of simulations with d = 1000: that is t = 0.1, though the notebook has
t = 0.02/0.18, which gives .590
departs from it: it takes test images, here they are of the validation split; the activations are
those of the network with w_b
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le

from bnnbench.measurements import Measurement
from bnnbench_plugins.occasions import chosen
from bnnbench_plugins.products import Cells, Clouds, Pair, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bnnbench.interfaces import Scene, View
    from bnnbench.latents import Latents


def ternary_angle(t: float) -> float:
    """Return the angle in degrees of Gaussian weights to their signs, 0 where |w| <= ``t`` sigma.

    The dot product is E|w| above t, 2 phi(t); the square of the ternary vector's length is the
    probability to be above t, 2 (1 - Phi(t)). At t = 0 it is the angle of binarization.

    >>> round(ternary_angle(0.0), 2), round(ternary_angle(0.1), 2)
    (37.07, 34.15)
    """
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    return math.degrees(math.acos(2 * density / math.sqrt(math.erfc(t / math.sqrt(2)))))


GAUSSIAN = math.degrees(math.acos(math.sqrt(2 / math.pi)))  #: 37.07
UNIFORM = math.degrees(math.acos(math.sqrt(3) / 2))  #: 30
TERNARY = ternary_angle(0.1)  #: 34.15
QUANTILES = (5, 25, 50, 75, 95)  #: of the filters' angles, in percent


class Geometry:
    """The angle of each layer's filters to their binarization, and what dot products keep.

    Args:
        epochs: when to look; left out, after 0, 1, 2, 5, 10, 20, 50, ... epochs. The last is added.
        images: how many of validation are shown for dot products (the official code: 500); with 0
            there are none.
        grid: cells on a side of the histogram of dot products after the last epoch; 0 for none.
    """

    def __init__(
        self,
        epochs: tuple[int, ...] = (),
        images: Annotated[int, Ge(0)] = 500,
        grid: Annotated[int, Ge(0), Le(99)] = 24,
    ) -> None:
        self.epochs, self.images, self.grid = epochs, images, grid

    def step(self, latents: Latents) -> None:
        """Do nothing."""

    def epoch(self, latents: Latents) -> tuple[()]:
        """Return nothing: see :meth:`look`."""
        return ()

    def look(self, scene: Scene) -> Iterator[Measurement]:
        """Return angles in degrees, and figures of dot products; see the head of the file."""
        pairs = paired(scene) if chosen(scene, self.epochs) else []
        view = scene.modes["binary"].view
        for pair in pairs:
            for metric, value in _angles(pair, view).items():
                yield Measurement(metric, value, mode=pair.mode, layer=pair.layer)
        if pairs and self.images:
            yield from self._products(scene, pairs)

    def state(self) -> dict[str, Any]:
        """Return nothing: no look depends on the one before."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember nothing."""

    def _products(self, scene: Scene, pairs: list[Pair]) -> Iterator[Measurement]:
        layers, clouds = {pair.layer for pair in pairs}, Clouds(pairs)
        show(scene, self.images, clouds.hear, layers)
        for (layer, mode), (plain, control) in clouds.points.items():
            for metric, value in _agreement(plain.figures(), control.figures()).items():
                yield Measurement(metric, value, split="validation", mode=mode, layer=layer)
        if scene.last and self.grid:
            cells = Cells(pairs, clouds, self.grid)
            show(scene, self.images, cells.hear, layers)
            for pair in pairs:
                yield from _counted(cells, pair)


def paired(scene: Scene) -> list[Pair]:
    """Return the weights that are compared with the binary ones, by mode and layer.

    The latent comes first, under no mode's name.
    """
    latents, binary = scene.latents.tensors, scene.latents.views(scene.modes["binary"].view)
    found = [Pair(layer, "", binary[layer], w) for layer, w in latents.items()]
    for name, mode in scene.modes.items():
        if mode.draws == 1 and name != "binary":
            real = scene.latents.views(mode.view)
            others = {k: w for k, w in real.items() if not torch.equal(w, latents[k])}
            found += [Pair(layer, name, binary[layer], w) for layer, w in others.items()]
    return [pair for pair in found if not torch.equal(pair.real, pair.binary)]


def angles(left: Tensor, right: Tensor) -> Tensor:
    """Return the angle in degrees of each filter of one to that of the other, (filters,).

    Filters whose length is 0 in either have no angle and are left out. Of unit vectors it is
    2 atan(|u - v|/|u + v|), which is exact for small angles too.

    >>> angles(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.ones(2, 2)).round(decimals=4)
    tensor([45.,  0.], dtype=torch.float64)
    """
    w, v = left.detach().double().flatten(1), right.detach().double().flatten(1)
    w, v = (x / x.norm(dim=1, keepdim=True) for x in (w, v))
    theta = 2 * torch.atan2((w - v).norm(dim=1), (w + v).norm(dim=1))
    return theta.rad2deg()[theta.isfinite()]


def _angles(pair: Pair, view: View) -> dict[str, float]:
    """All figures of a pair of weights that need no data."""
    theta = angles(pair.real, pair.binary)
    found = _spread("angle", theta) | _quantiles("angle", theta)
    if pair.mode:
        return found
    return found | {"fan_in": float(pair.real[0].numel())} | _controls(pair, view)


def _controls(pair: Pair, view: View) -> dict[str, float]:
    """What the angle would be if the latents were random, and if w_b were another's."""
    w = pair.real
    gaussian = torch.randn_like(w)
    moved = w.flatten()[_order(w.numel(), w)].view(w.shape)
    unrelated = angles(w, pair.binary.flatten(1)[:, _order(w[0].numel(), w)])
    return {
        **_spread("angle_gaussian", angles(gaussian, view(gaussian))),
        **_spread("angle_shuffled", angles(moved, view(moved))),
        **_spread("angle_apart", unrelated),
        **_quantiles("angle_apart", unrelated),
    }


def _order(n: int, like: Tensor) -> Tensor:
    return torch.randperm(n, device=like.device)


def _spread(name: str, theta: Tensor) -> dict[str, float]:
    """Mean and standard deviation over the filters, if there are any."""
    if not len(theta):
        return {}
    return {f"{name}_mean": theta.mean().item(), f"{name}_sd": theta.std(correction=0).item()}


def _quantiles(name: str, theta: Tensor) -> dict[str, float]:
    """Quantiles over the filters, if there are any."""
    if not len(theta):
        return {}
    wanted = torch.tensor(QUANTILES, device=theta.device).double() / 100
    values = theta.quantile(wanted).tolist()
    return {f"{name}_q{q:02}": value for q, value in zip(QUANTILES, values, strict=True)}


def _agreement(plain: Mapping[str, float], control: Mapping[str, float]) -> dict[str, float]:
    found = {f"dot_{name}": value for name, value in plain.items()}
    both = {name: control[name] for name in ("r", "slope") if name in control}
    return found | {f"dot_shuffled_{name}": value for name, value in both.items()}


def _counted(cells: Cells, pair: Pair) -> Iterator[Measurement]:
    for x, y, count in cells.filled(pair):
        name = f"dot_cell_{x:02}_{y:02}"
        yield Measurement(name, float(count), split="validation", mode=pair.mode, layer=pair.layer)

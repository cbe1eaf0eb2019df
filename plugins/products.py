r"""Dot products of what goes into a layer with its weights, binary and real, and how they agree.

    x = a.w_b,  y = a.w       for each image, filter and place: before bias, pooling, normalization
    r = cov(x, y)/(sd x sd y)                slope = cov(x, y)/var x

    cells: counts of ((x - mean x)/sd x, (y - mean y)/sd y) in a square of so many cells, 6 wide;
    what is outside is counted at its rim

    control: the entries of a, of all images that are shown together, in a random order. If their
    mean is 0, r is then the cosine of w_b and w over the whole layer, whatever the data.

source: Anderson and Berg (2018), section 3.2, and the official code's plots: 500 images
departs from the code: it shuffles the activations of all images at once, here those of up to 50
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from bnnbench.interfaces import Scene

    Hear = Callable[[str, nn.Module, Tensor], None]

TOGETHER, NUMBERS = 50, 2**19  #: most images in one pass, and most numbers in them
WIDTH = 6.0  #: of the square of cells, in standard deviations


class Pair(NamedTuple):
    """Two weights of a layer; ``mode`` names the inference mode of the real one, if it has one."""

    layer: str
    mode: str
    binary: Tensor
    real: Tensor


def products(layer: nn.Module, a: Tensor, weight: Tensor) -> Tensor:
    """Return the dot products of a layer's input with a weight, at every place."""
    if not isinstance(layer, nn.Conv2d):
        return functional.linear(a, weight)
    convolved: Tensor = layer._conv_forward(a, weight, None)  # with the layer's own padding
    return convolved


def shuffled(a: Tensor) -> Tensor:
    """Return the same numbers in a random order, in the same shape."""
    return a.flatten()[torch.randperm(a.numel(), device=a.device)].view(a.shape)


class Cloud:
    """Points (x, y), of which sums are kept."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: Tensor | float = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add points; both tensors are of one shape."""
        x, y = x.double().flatten(), y.double().flatten()
        self.n += x.numel()
        self.sums = self.sums + torch.stack([x.sum(), y.sum(), x @ x, y @ y, x @ y])

    def figures(self) -> dict[str, float]:
        """Return means and deviations, and r and slope where they are defined."""
        x, y, xx, yy, xy = (s / self.n for s in torch.as_tensor(self.sums).tolist())
        var_x, var_y = _variance(x, xx), _variance(y, yy)
        found = {"x_mean": x, "x_sd": math.sqrt(var_x), "y_mean": y, "y_sd": math.sqrt(var_y)}
        if var_x and var_y:
            found["r"] = (xy - x * y) / math.sqrt(var_x * var_y)
            found["slope"] = (xy - x * y) / var_x
        return found


def _variance(mean: float, square: float) -> float:
    """A variance, 0 where it is no more than rounding."""
    variance = square - mean * mean
    return variance if variance > 1e-12 * square else 0.0


class Clouds:
    """The cloud of each pair of weights, and its control with shuffled activations."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs
        self.points = {(p.layer, p.mode): (Cloud(), Cloud()) for p in pairs}

    def hear(self, name: str, layer: nn.Module, a: Tensor) -> None:
        """Add the points of what goes into a layer."""
        mixed = shuffled(a)
        for pair in (pair for pair in self.pairs if pair.layer == name):
            plain, control = self.points[name, pair.mode]
            plain.add(products(layer, a, pair.binary), products(layer, a, pair.real))
            control.add(products(layer, mixed, pair.binary), products(layer, mixed, pair.real))


class Cells:
    """Counts of the points of each pair of weights, in cells around the clouds' means."""

    def __init__(self, pairs: list[Pair], clouds: Clouds, side: int) -> None:
        self.pairs, self.side = pairs, side
        self.figures = {key: plain.figures() for key, (plain, _) in clouds.points.items()}
        self.counts: dict[tuple[str, str], Any] = dict.fromkeys(self.figures, 0)

    def hear(self, name: str, layer: nn.Module, a: Tensor) -> None:
        """Count the points of what goes into a layer."""
        for pair in (pair for pair in self.pairs if pair.layer == name):
            found = self.figures[name, pair.mode]
            if "r" not in found:
                continue
            x = self._places(products(layer, a, pair.binary), found["x_mean"], found["x_sd"])
            y = self._places(products(layer, a, pair.real), found["y_mean"], found["y_sd"])
            counts = torch.bincount((x * self.side + y).flatten(), minlength=self.side**2)
            self.counts[name, pair.mode] += counts

    def _places(self, x: Tensor, mean: float, sd: float) -> Tensor:
        z = (x.double() - mean) / sd
        return ((z / WIDTH + 0.5) * self.side).floor_().clamp_(0, self.side - 1).long()

    def filled(self, pair: Pair) -> Iterator[tuple[int, int, int]]:
        """Yield the column along x, the row along y and the count of each cell that has one."""
        counts = self.counts[pair.layer, pair.mode]
        for place, count in enumerate(counts.tolist() if torch.is_tensor(counts) else ()):
            if count:
                yield *divmod(place, self.side), count


def show(scene: Scene, images: int, hear: Hear, layers: set[str]) -> None:
    """Run the first ``images`` of validation through the binary network; say what goes into layers.

    ``hear`` is told the layer's name, the layer and its input.
    """
    scene.latents.project(scene.modes["binary"].view)
    modules = {name: m for name, m in scene.model.named_modules() if name in layers}
    examples, order = scene.validation, torch.arange(min(images, len(scene.validation)))
    together = max(1, min(TOGETHER, NUMBERS // math.prod(examples.shape)))
    with _overheard(modules, hear):
        for inputs, _ in examples.batches(together, order):
            scene.model(inputs)


@contextmanager
def _overheard(modules: Mapping[str, nn.Module], hear: Hear) -> Iterator[None]:
    handles = [
        module.register_forward_pre_hook(partial(_pass_on, hear, name))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass_on(hear: Hear, name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    hear(name, layer, inputs[0])

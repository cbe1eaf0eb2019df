"""The layers by whose type a network says what is binary in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from bnnbench.binarization import binarize
from bnnbench.errors import PluginError
from bnnbench.schedules import Progress, Scheduled

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.interfaces import Binarizer


class BinaryLinear(nn.Linear):
    """A dense layer whose weight is binary: no behaviour of its own, only a name."""


class BinaryConv2d(nn.Conv2d):
    """A convolution whose weight is binary: no behaviour of its own, only a name."""


class BinaryActivation(nn.Module):
    """An activation of one bit: ``binarizer.forward`` with ``binarizer.backward`` for gradient.

    A scheduled binarizer is built anew as the whole training goes on, whatever its phases. One that
    is a module is called as it is and differentiated by autograd; its parameters are real
    parameters of the network, which learn, are selected and handed over with the others.

    Raises:
        PluginError: a module is scheduled; built anew, it would forget what it has learned.
    """

    def __init__(self, binarizer: Binarizer | Scheduled[Binarizer] | nn.Module) -> None:
        super().__init__()
        self.scheduled = binarizer if isinstance(binarizer, Scheduled) else None
        if isinstance(binarizer, Scheduled):
            binarizer = binarizer.build(Progress(0, 1, 0, 1))
        self.learned = isinstance(binarizer, nn.Module)
        if self.learned and self.scheduled:
            raise PluginError(
                "a binarizer that is a module keeps what it learns and cannot be scheduled, got"
                f" {type(binarizer).__name__}; hand over the module itself"
            )
        self.binarizer: Any = binarizer

    def follow(self, at: Progress) -> None:
        """Take the binarizer of this progress, where it is scheduled."""
        if self.scheduled is not None:
            self.binarizer = self.scheduled.build(at)

    def forward(self, x: Tensor) -> Tensor:
        """Return the binarized activations; same shape as ``x``."""
        activations: Tensor = self.binarizer(x) if self.learned else binarize(x, self.binarizer)
        return activations

    def extra_repr(self) -> str:
        """Name the binarizer in the printed network; a module is printed below."""
        return "" if self.learned else repr(self.binarizer)


def binary_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with binary weights, by their name in the network, in its order."""
    kinds = (BinaryLinear, BinaryConv2d)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def real_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter that is not the weight of a binary layer, by its name."""
    binary = {id(layer.weight) for layer in binary_layers(model).values()}
    return {name: p for name, p in model.named_parameters() if id(p) not in binary}


def activation_bits(model: nn.Module) -> int:
    """Return 1 where the network binarizes its activations, else 32."""
    return 1 if any(isinstance(module, BinaryActivation) for module in model.modules()) else 32

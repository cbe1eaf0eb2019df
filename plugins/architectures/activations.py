"""The activations that the networks share: real ones, the sign, and those that learn a bias.

    sign         sign(x), the gradient of hard tanh (BNN)
    quadratic    sign(x), the gradient (2 - 2|x|)+ (Bi-Real Net)
    swish        sign(x), the gradient of a sign made of the swish function (larq's SwishSign)
    ede          sign(x), the gradient of k tanh(t x), t from 0.1 to 10 over the training (IR-Net)
    reste        sign(x), the gradient of sign(x) |x|^(1/o), o from 1 to 3 over it (ReSTE)
    rsign        sign(x + b), b learned per channel, the gradient of quadratic (ReActNet)
    rprelu       PReLU(x + b) + c, b, c and the slope learned per channel (ReActNet); real

source: BNN (2016), section 1.3; Bi-Real Net (2018); IR-Net's VGG-Small script for t; ReSTE (2023);
ReActNet (2020)
departs from ReActNet's code: sign(0) is +1, there 0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import nn

from bnnbench.layers import BinaryActivation
from bnnbench.schedules import Geometric, Scheduled
from bnnbench_plugins.binarizers import EDE, Exponent, Quadratic, ReSTE, SignHardTanh, Swish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

Activation = Literal[
    "relu", "hardtanh", "rprelu", "sign", "quadratic", "swish", "ede", "reste", "rsign"
]
Dropout = Annotated[float, Ge(0), Lt(1)]  #: the share of units that are dropped


class Bias(nn.Module):
    """x + b, one b for each channel (dimension 1), 0 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted inputs; same shape as ``x``."""
        return x + self.b.view(-1, *[1] * (x.ndim - 2))


class RSign(nn.Sequential):
    """sign(x + b), b learned for each channel, with the quadratic gradient (ReActNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__(Bias(channels), BinaryActivation(Quadratic()))


class RPReLU(nn.Sequential):
    """PReLU(x + b) + c, with b, c and the slope learned for each channel (ReActNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__(Bias(channels), nn.PReLU(channels), Bias(channels))


_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "hardtanh": lambda channels: nn.Hardtanh(),
    "rprelu": RPReLU,
    "sign": lambda channels: BinaryActivation(SignHardTanh()),
    "quadratic": lambda channels: BinaryActivation(Quadratic()),
    "swish": lambda channels: BinaryActivation(Swish()),
    "ede": lambda channels: BinaryActivation(Scheduled(EDE, t=Geometric(1e-1, 10.0))),
    "reste": lambda channels: BinaryActivation(Scheduled(ReSTE, o=Exponent(3.0))),
    "rsign": RSign,
}


def activation_layer(name: Activation, channels: int) -> nn.Module:
    """Return a layer that applies the activation; the shape stays.

    ``channels`` is the size of dimension 1 of what it is given. "relu", "hardtanh" and "rprelu" are
    real, the others of one bit.
    """
    return _LAYERS[name](channels)


def after_norm(
    number: int, activation: Activation, channels: int, dropout: float
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers that follow the normalization of hidden layer ``number``."""
    yield f"{activation}{number}", activation_layer(activation, channels)
    if dropout:
        yield f"dropout{number}", nn.Dropout(dropout)

"""The activations that the networks share: real ones, and the sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Lt
from torch import nn

from bnnbench.layers import BinaryActivation
from bnnbench_plugins.binarizers import SignHardTanh

if TYPE_CHECKING:
    from collections.abc import Iterator

Activation = Literal["relu", "hardtanh", "sign"]
Dropout = Annotated[float, Ge(0), Lt(1)]  #: the share of units that are dropped


def activation_layer(name: Activation) -> nn.Module:
    """Return a layer that applies the activation; the shape stays.

    "sign" is of one bit, with the gradient of hard tanh (BNN, section 1.3); the others are real.
    """
    if name == "sign":
        return BinaryActivation(SignHardTanh())
    return nn.ReLU() if name == "relu" else nn.Hardtanh()


def after_norm(
    number: int, activation: Activation, dropout: float
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers that follow the normalization of hidden layer ``number``."""
    yield f"{activation}{number}", activation_layer(activation)
    if dropout:
        yield f"dropout{number}", nn.Dropout(dropout)

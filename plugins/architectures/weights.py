"""Layers with binary or real weights, without bias, as Lasagne initializes them."""

from __future__ import annotations

from typing import Literal

from torch import nn

from bnnbench.layers import BinaryConv2d, BinaryLinear

Weights = Literal["binary", "real"]


def dense_layer(inputs: int, outputs: int, weights: Weights = "binary") -> nn.Linear:
    """Return a dense layer, its weights from Glorot's U(-b, b), b = sqrt(6/(fan_in + fan_out))."""
    layer = (BinaryLinear if weights == "binary" else nn.Linear)(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def conv3_layer(
    inputs: int, outputs: int, weights: Weights = "binary", padding: int = 1
) -> nn.Conv2d:
    """Return a 3x3 convolution from Glorot's uniform; both fans count the kernel's area."""
    kind = BinaryConv2d if weights == "binary" else nn.Conv2d
    layer = kind(inputs, outputs, 3, padding=padding, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer

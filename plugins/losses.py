"""Losses of outputs o (batch, classes) and integer targets t (batch,), means over the batch.

    squared-hinge   mean over batch and classes of max(0, 1 - y o)^2,  y = +1 for t, -1 for others
    cross-entropy   mean over the batch of -log softmax(o)_t

source: squared-hinge, the public code of BinaryConnect (Courbariaux et al., 2015)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Lt
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.interfaces import Loss


def squared_hinge() -> Loss:
    """The mean over batch and classes of max(0, 1 - y o)^2, y = +1 for the class, -1 for others.

    As in BinaryConnect's public code of 2016; its code of June 2015 sums over the classes.
    """

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        y = torch.full_like(outputs, -1.0).scatter_(1, targets.unsqueeze(1), 1.0)
        return (1 - y * outputs).clamp_min(0).square().mean()

    return loss


def cross_entropy(*, label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0) -> Loss:
    """The mean over the batch of -log softmax(o)_target."""

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    return loss

"""Losses of outputs o (batch, classes, ...) and integer targets t (batch, ...), means over targets.

    squared-hinge   mean over targets and classes of max(0, 1 - y o)^2,  y = +1 for t, -1 for others
    cross-entropy   mean over targets of -log softmax(o)_t

A pixel without a label does not count. Where a batch has no label at all its loss is 0, and so is
the gradient.

source: squared-hinge, the public code of BinaryConnect (Courbariaux et al., 2015)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Lt
from torch.nn import functional

from bnnbench.metrics import UNLABELLED

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.interfaces import Loss


def squared_hinge() -> Loss:
    """The mean over targets and classes of max(0, 1 - y o)^2, y = +1 for the class, -1 for others.

    As in BinaryConnect's public code of 2016; its code of June 2015 sums over the classes.
    """

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        y = torch.full_like(outputs, -1.0).scatter_(1, _classes(targets).unsqueeze(1), 1.0)
        hinge = (1 - y * outputs).clamp_min(0).square()
        return total(hinge, targets) / (count(targets) * outputs.shape[1])

    return loss


def cross_entropy(*, label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0) -> Loss:
    """The mean over targets of -log softmax(o)_t.

    Args:
        label_smoothing: share of each target that is spread evenly over all classes (0).
    """

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        summed = functional.cross_entropy(
            outputs, targets, reduction="sum", label_smoothing=label_smoothing
        )
        return summed / count(targets)

    return loss


def count(targets: Tensor) -> Tensor | int:
    """Return how many targets there are to take a mean over: examples, or pixels with a label.

    At least 1, so that a mean over none is 0.
    """
    if targets.ndim == 1:  # an example always has a class: no need to look
        return len(targets)
    return (targets != UNLABELLED).sum().clamp_min(1)


def total(values: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of values (batch, classes, ...), without those of pixels without a label."""
    if targets.ndim == 1:
        return values.sum()
    return values.where((targets != UNLABELLED).unsqueeze(1), 0).sum()


def _classes(targets: Tensor) -> Tensor:
    """The targets, and any class where a pixel has none."""
    return targets if targets.ndim == 1 else targets.where(targets != UNLABELLED, 0)

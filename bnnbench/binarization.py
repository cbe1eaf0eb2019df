"""The sign that is never zero, and the autograd function that binarizes activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.interfaces import Binarizer


def sign(x: Tensor) -> Tensor:
    """Return +1 where x >= 0 and -1 elsewhere: there is no third value.

    BinaryConnect, eq. 1 (Courbariaux et al., 2015), which has w >= 0 for +1. ``torch.sign`` has
    sign(0) = 0, which one bit cannot hold.

    >>> sign(torch.tensor([-2.0, -0.0, 0.0, 3.0]))
    tensor([-1.,  1.,  1.,  1.])
    """
    # a comparison that writes floats; torch.where with two numbers takes many times as long
    return torch.ge(x.detach(), 0, out=torch.empty_like(x)).mul_(2).sub_(1)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return clip((x + 1) / 2, 0, 1), the probability of +1 (BinaryConnect, eq. 3).

    Neither the logistic function nor ``torch.nn.functional.hardsigmoid``, which is clip(x/6 + 1/2).

    >>> hard_sigmoid(torch.tensor([-2.0, 0.0, 0.5, 1.0]))
    tensor([0.0000, 0.5000, 0.7500, 1.0000])
    """
    return (x + 1).div_(2).clamp_(0, 1)


class _Binarize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, binarizer: Binarizer) -> Tensor:
        ctx.save_for_backward(x)
        ctx.binarizer = binarizer
        return binarizer.forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.binarizer.backward(x, grad), None


def binarize(x: Tensor, binarizer: Binarizer) -> Tensor:
    """Return ``binarizer.forward(x)``, whose gradient is ``binarizer.backward``."""
    return _Binarize.apply(x, binarizer)  # type: ignore[no-any-return, no-untyped-call]

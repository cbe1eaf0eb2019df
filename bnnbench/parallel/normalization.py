r"""Batch normalization over a batch that several processes share.

Process r of N has n_r numbers of each channel, n in all; m_r is their mean, S_r the sum of their
squared distances from it.

    m    = sum_r n_r m_r / n             S = sum_r (S_r + n_r (m_r - m)^2)
    xhat = (x - m) / sqrt(S / n + eps)   y = gamma xhat + beta

    dL/dx    = gamma / sqrt(S / n + eps) (g - mean(g) - xhat mean(g xhat)),   g = dL/dy
    dL/dgamma, dL/dbeta                  of the process's own numbers, to be summed with the others'

The means of the backward pass are over the whole batch. Running statistics are those of torch: the
mean, and S / (n - 1), by ``momentum`` or as plain averages. One exchange in each direction.

source: Ioffe and Szegedy (2015); the merging of S, Chan, Golub and LeVeque (1979)
departs from torch.nn.SyncBatchNorm, which is for accelerators alone
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed import all_gather, all_reduce

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.parallel.parts import Parts

BatchNorm = nn.modules.batchnorm._BatchNorm


def plain_norms(model: nn.Module) -> list[BatchNorm]:
    """Return the batch normalizations of a network that compute as torch's do."""
    return [
        module
        for module in model.modules()
        if isinstance(module, BatchNorm) and type(module).forward is BatchNorm.forward
    ]


class WholeNorm:
    """Lets a normalization take its statistics over the whole batch, while one is divided."""

    def __init__(self, norm: BatchNorm, parts: Parts) -> None:
        self.norm, self.alone = norm, norm.forward
        # the layer stays what it is, by type, name and state, for all who look at the network
        vars(norm)["forward"] = partial(self._forward, parts)

    def remove(self) -> None:
        """Let the layer be as it was."""
        del vars(self.norm)["forward"]

    def _forward(self, parts: Parts, x: Tensor) -> Tensor:
        norm = self.norm
        learns = norm.training or norm.running_mean is None
        if not (parts.whole and learns):
            return self.alone(x)
        norm._check_input_dim(x)
        size = x.numel() // x.shape[0] // x.shape[1]  # numbers of a channel in one example
        counts = [count * size for count in parts.counts]
        y, mean, spread = normalize(x, norm.weight, norm.bias, norm.eps, counts)
        if norm.training and norm.track_running_stats:
            _remember(norm, mean, spread / (sum(counts) - 1))
        return y


def normalize(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, counts: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, m and S of this process's x (examples, channels, ...), together with the others.

    ``counts`` are the numbers n_r of a channel. m and S have no gradient.
    """
    mean, spread = statistics(x.detach(), counts)
    xhat: Tensor = _Normalize.apply(x, mean, (spread / sum(counts) + eps).rsqrt(), sum(counts))  # type: ignore[no-untyped-call]
    y = xhat if gamma is None else xhat * _wide(gamma, x)
    y = y if beta is None else y + _wide(beta, x)
    return y.to(x.dtype), mean, spread


def statistics(x: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Return m and S over all processes, equal to the last bit in each of them."""
    x = _exact(x)
    mine = x.mean(_others(x))
    spread = (x - _wide(mine, x)).square().sum(_others(x))
    found = [torch.empty(2, len(mine), dtype=x.dtype, device=x.device) for _ in counts]
    all_gather(found, torch.stack((mine, spread)))
    terms = [(count, *both) for count, both in zip(counts, found, strict=True)]
    mean = torch.stack([count * m for count, m, _ in terms]).sum(0) / sum(counts)
    return mean, torch.stack([s + count * (m - mean).square() for count, m, s in terms]).sum(0)


class _Normalize(torch.autograd.Function):
    """From x to xhat."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, count: int) -> Tensor:
        xhat = (_exact(x) - _wide(mean, x)) * _wide(scale, x)
        ctx.save_for_backward(xhat, scale)
        ctx.count, ctx.dtype = count, x.dtype
        return xhat

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        xhat, scale = ctx.saved_tensors
        sums = torch.stack([g.sum(_others(grad)) for g in (grad, grad * xhat)])
        all_reduce(sums)
        first, second = sums / ctx.count
        pulled = (grad - _wide(first, grad) - xhat * _wide(second, grad)) * _wide(scale, grad)
        return pulled.to(ctx.dtype), None, None, None


def _remember(norm: BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics as torch does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / norm.num_batches_tracked.item()
    for running, new in ((norm.running_mean, mean), (norm.running_var, variance)):
        running.mul_(1 - momentum).add_(new.to(running.dtype), alpha=momentum)


def _exact(x: Tensor) -> Tensor:
    """The numbers in fp32, where they are of less precision."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _others(x: Tensor) -> list[int]:
    """All dimensions but the channels'."""
    return [0, *range(2, x.ndim)]


def _wide(channels: Tensor, x: Tensor) -> Tensor:
    """A number for each channel, in the shape to be combined with x."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))

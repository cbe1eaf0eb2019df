"""Optimizers that flip binary weights, and move none.

    m <- m + gamma (g - m)               g = dL/dw or a power of it, m_0 = 0
    w <- -w                              where the rule of the optimizer says so, from its averages

source: Bop (Helwegen et al., 2019), algorithm 1, and its second order (Suarez-Ramirez et al., 2021)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from bnnbench.binarization import sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor


class Flipper(torch.optim.Optimizer):
    """Flip weights of -1 and +1; what it is given is replaced by its sign.

    A kind of it names its hyperparameters in ``_hyper``. Its rule, ``_flip``, takes a weight, which
    it changes in place, and the hyperparameters of the weight's group by these names.
    """

    _hyper: ClassVar[tuple[str, ...]]  # not ``defaults``, to which torch adds keys of its own
    _flip: Callable[..., None]

    def __init__(self, params: Iterable[Any], **hyper: Any) -> None:
        super().__init__(params, hyper)
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    w.copy_(sign(w))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply the rule to every weight that has a gradient."""
        loss = closure() if closure else None
        for group in self.param_groups:
            hyper = {name: group[name] for name in self._hyper}
            for w in group["params"]:
                if w.grad is not None:
                    self._flip(w, **hyper)
        return loss

    def _average(self, w: Tensor, name: str, new: Tensor | None, gamma: float) -> Tensor:
        """Move the average ``name`` of a weight, at first 0, by the share gamma towards ``new``."""
        state = self.state[w]
        if name not in state:
            state[name] = torch.zeros_like(w)
        m: Tensor = state[name].lerp_(new, gamma)  # a factor 1 - 1e-7 would be rounded
        return m


def flip_(w: Tensor, where: Tensor) -> None:
    """Flip ``w``, in place, where ``where`` is 1 and not 0; ``where`` is overwritten.

    >>> w = torch.tensor([1.0, 1.0, -1.0])
    >>> flip_(w, torch.tensor([0.0, 1.0, 1.0]))
    >>> w
    tensor([ 1., -1.,  1.])
    """
    w.mul_(where.mul_(-2).add_(1))

"""The pass of :mod:`bnnbench.kernels` for weights on a GPU, compiled by torch when first used.

    g'  = backward(w, g)
    w'  = rule(w, g', moments)           w' and the moments take the place of the old
    out = forward(w')                    what the network computes with next
    flips += (w' >= 0) != (w >= 0)

Rules run on tensors as they are, so that the same function is the pass where it is not compiled. On
a GPU torch makes one or two kernels of it, in place of one for each operation. The numbers of a
rule are tensors of one number: as Python's own they would be compiled into the kernel, and anew at
each step at which one of them changes.

Sums of products may be rounded once where the separate operations round twice.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.chance import counted, halves
from bnnbench.sending import sent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnnbench.chance import Key
    from bnnbench.elementwise import Rule


@torch.no_grad()
def run(
    rules: tuple[Rule, Rule, Rule, bool],
    tensors: tuple[Tensor, Tensor, Tensor],
    moments: Sequence[Tensor],
    numbers: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]],
    key: Key,
) -> Tensor:
    """Move a latent, in place, and write the next weight; return the number of flips.

    Args:
        rules: of the optimizer, of the binarizer forward and backward, and whether it is random.
        tensors: w, g and out, alike in shape, type and memory order.
        moments: of the optimizer, likewise.
        numbers: of the optimizer, of backward and of forward.
        key: of :mod:`bnnbench.chance`.
    """
    flat = [_flat(tensor) for tensor in (*tensors, *moments)]
    like = flat[0]
    counts = tuple(map(len, numbers))
    told = torch.tensor([*itertools.chain(*numbers)], dtype=like.dtype)
    drawn = torch.tensor(halves(key), dtype=torch.int32)
    given = [*flat, sent(told, like.device), sent(drawn, like.device)]
    flips: Tensor = compiled(rules, counts)(*given)
    return flips


class Pass:
    """A pass that is compiled when it is first used; where that fails it runs uncompiled."""

    def __init__(self, plain: Callable[..., Tensor]) -> None:
        self.plain = plain
        self.quick: Any = torch.compile(_apart(plain), fullgraph=True, dynamic=True)
        self.works = False

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Run on w, g, out, the moments, the numbers and the key; return the number of flips."""
        if self.quick is None:
            return self.plain(*tensors)
        try:
            flips: Tensor = self.quick(*tensors)
        except Exception as error:
            if self.works:
                raise
            self.quick = None  # without a compiler: nothing has been moved yet
            cause = getattr(error, "inner_exception", error)  # torch's own says which backend
            reason = str(cause).strip().partition("\n")[0]
            warnings.warn(f"weights are moved uncompiled: {reason}", RuntimeWarning, stacklevel=2)
            return self.plain(*tensors)
        self.works = True
        return flips


@functools.cache
def compiled(rules: tuple[Rule, Rule, Rule, bool], counts: tuple[int, ...]) -> Pass:
    """Return the pass of some rules, which have so many numbers."""
    return Pass(passing(rules, counts))


def passing(rules: tuple[Rule, Rule, Rule, bool], counts: tuple[int, ...]) -> Callable[..., Tensor]:
    """Return the pass as operations of torch.

    Args:
        rules: of the optimizer, of the binarizer forward and backward, and whether it is random.
        counts: how many numbers the optimizer, backward and forward take.
    """
    rule, forward, backward, random = rules
    of_rule, of_pull, of_view = _stretches(counts)

    def whole(w: Tensor, g: Tensor, out: Tensor, *others: Tensor) -> Tensor:
        *moments, told, key = others
        each = told.unbind()
        moved = rule(w, backward(w, g, *each[of_pull]), *moments, *each[of_rule])
        new = moved if isinstance(moved, tuple) else (moved,)
        flips = torch.count_nonzero((new[0] >= 0) != (w >= 0))
        chance = (counted(w, *key.unbind()),) if random else ()
        out.copy_(forward(new[0], *chance, *each[of_view]))
        for old, value in zip((w, *moments), new, strict=True):
            old.copy_(value)
        return flips

    return whole


def _stretches(counts: tuple[int, ...]) -> list[slice]:
    """Where the numbers of each rule lie, one after the other."""
    ends = list(itertools.accumulate(counts))
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _apart(function: Any) -> FunctionType:
    """The function with a code of its own: torch compiles each code a few times at most."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_NUMBER)}")
    return FunctionType(code, function.__globals__, code.co_name, None, function.__closure__)


_NUMBER = itertools.count()


def _flat(tensor: Tensor) -> Tensor:
    """All numbers of a dense tensor as they lie in memory, (n,)."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))

"""One pass over the weights, compiled: gradient, step, binarization and flip count together.

For each weight, in the letters of :mod:`bnnbench.elementwise`:

    g'  = backward(w, g)
    w'  = rule(w, g', moments)           w' and the moments take the place of the old
    out = forward(w')                    what the network computes with next
    flips += (w' >= 0) != (w >= 0)

The pass reads and writes each number once; it is limited by memory, so that what a method adds to
its arithmetic costs next to nothing. Numba compiles it when a method is first used, for float32 and
float64, on one thread or on as many as torch has. Nothing that is compiled is kept on disk.
"""

from __future__ import annotations

import functools
import math
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import numba
import numpy as np
from numba import prange
from numba.extending import overload

from bnnbench import chance, elementwise
from bnnbench.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from bnnbench.chance import Key
    from bnnbench.elementwise import Rule

BLOCK = 4096  # weights that one thread takes at a time; their five arrays stay in its cache
#: a division by 0 is infinite: a check of each divisor would forbid SIMD
njit: Any = functools.partial(numba.njit, error_model="numpy")
U32 = np.uint32


@functools.cache
def compiled(
    rule: Rule, forward: Rule, backward: Rule, dtype: Any, *, random: bool, parallel: bool
) -> Callable[..., int]:
    """Return the pass as a function that works in place and returns the number of flips.

    Its arguments are w, g and out (n,), the moments as a tuple of arrays (n,), the numbers of the
    rule, of ``backward`` and of ``forward`` as tuples, and the two halves of the key as uint32.
    """
    move, pull = _typed(rule, dtype), _typed(backward, dtype)
    look = _typed(forward, dtype)
    value = njit(_by_chance(look, dtype) if random else _by_rule(look))

    @njit
    def one(w, g, moments, of_rule, of_pull):
        pulled = pull(*((w, g) + of_pull))
        return _together(move(*((w, pulled) + moments + of_rule)))

    @njit(nogil=True)
    def block(w, g, out, moments, of_rule, of_pull, of_view, first, second):
        flips = U32(0)  # as wide as a weight, else counting would take twice the instructions
        for i in range(w.size):
            new = one(w[i], g[i], _load(moments, i), of_rule, of_pull)
            flips = U32(flips + U32((new[0] >= 0) != (w[i] >= 0)))
            w[i] = new[0]
            _store(moments, i, new)
            out[i] = value(new[0], U32(U32(i) + first), second, of_view)
        return flips

    @njit(nogil=True, parallel=parallel)
    def whole(w, g, out, moments, of_rule, of_pull, of_view, first, second):
        flips = 0
        for number in prange((w.size + BLOCK - 1) // BLOCK):
            a = number * BLOCK
            b = min(a + BLOCK, w.size)
            flips += block(
                w[a:b], g[a:b], out[a:b], _cut(moments, a, b),
                of_rule, of_pull, of_view, U32(first + U32(a)), second,
            )  # fmt: skip
        return flips

    return cast("Callable[..., int]", whole)


def run(
    rules: tuple[Rule, Rule, Rule, bool],
    tensors: tuple[Tensor, Tensor, Tensor],
    moments: Sequence[Tensor],
    numbers: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]],
    key: Key,
    *,
    parallel: bool,
) -> int:
    """Move a latent, in place, and write the next weight; return the number of flips.

    Args:
        rules: of the optimizer, of the binarizer forward and backward, and whether it is random.
        tensors: w, g and out, alike in shape, type and memory order.
        moments: of the optimizer, likewise.
        numbers: of the optimizer, of backward and of forward.
        key: of :mod:`bnnbench.chance`.
        parallel: with the threads of :mod:`bnnbench.threads`, or with one.

    Raises:
        PluginError: a rule uses what cannot be compiled.
    """
    rule, forward, backward, random = rules
    arrays = [_flat(tensor) for tensor in tensors]
    dtype = arrays[0].dtype.type
    kernel = compiled(rule, forward, backward, dtype, random=random, parallel=parallel)
    exact = [tuple(map(dtype, some)) for some in numbers]
    try:
        flips = kernel(*arrays, tuple(_flat(m) for m in moments), *exact, *map(U32, key))
    except numba.NumbaError as error:
        raise PluginError(
            f"a rule must be plain arithmetic on numbers, but {rule.__qualname__} with"
            f" {forward.__qualname__} does not compile: {_reason(error)}"
        ) from error
    return int(flips)


def _flat(tensor: Tensor) -> Any:
    """All numbers of a dense tensor as they lie in memory, (n,)."""
    return tensor.detach().as_strided((tensor.numel(),), (1,)).numpy()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in")), "no reason")


def _by_rule(look: Any) -> Any:
    def value(w, first, second, numbers):
        return look(*((w,) + numbers))

    return value


def _by_chance(look: Any, dtype: Any) -> Any:
    least = dtype(2.0**-24)

    def value(w, first, second, numbers):
        u = dtype(np.int32(_hash(first, second) >> U32(8))) * least
        return look(*((w, u) + numbers))

    return value


FIRST, SECOND, THIRD = U32(chance.FIRST), U32(chance.SECOND), U32(chance.THIRD)


@njit
def _hash(x, second):
    """The hash of :mod:`bnnbench.chance`; numba widens every operation, each is cut back."""
    x = U32(x ^ U32(x >> U32(17)))
    x = U32(x * FIRST)
    x = U32(x ^ U32(x >> U32(11)))
    x = U32(U32(x + second) * SECOND)
    x = U32(x ^ U32(x >> U32(15)))
    x = U32(x * THIRD)
    return U32(x ^ U32(x >> U32(14)))


def _typed(function: Any, dtype: Any) -> Any:
    """A rule compiled with its literals in the precision of the weights.

    Numba takes 0.5 for a float64 and would compute all that it touches in double precision. The
    functions of its module that it calls are compiled alike.
    """
    code, names = function.__code__, function.__globals__
    literals = tuple(dtype(c) if type(c) in (int, float) else c for c in code.co_consts)
    called = {name: names[name] for name in code.co_names if name in names}
    called = {
        name: _typed(value, dtype)
        for name, value in called.items()
        if isinstance(value, FunctionType) and value.__module__ != elementwise.__name__
    }
    exact = FunctionType(
        code.replace(co_consts=literals),
        {**names, **called},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return njit(exact)


def _lambert(levels: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The coefficients of A and B in tanh x = x A(x^2)/B(x^2), lowest first.

    Lambert's continued fraction x/(1 + x^2/(3 + x^2/(5 + ...))), cut off. All its coefficients are
    positive, so that nothing cancels.
    """
    above, below = [1], [2 * levels + 1]
    for k in range(levels - 1, -1, -1):
        widened = [0, *above]
        padded = below + [0] * (len(widened) - len(below))
        above, below = below, [(2 * k + 1) * b + a for a, b in zip(widened, padded, strict=True)]
    return tuple(_over(below[0], above)), tuple(_over(below[0], below))


def _over(divisor: int, coefficients: list[int]) -> Iterator[Any]:
    return (np.float32(c / divisor) for c in coefficients)


A, B = _lambert(12)
EDGE, ONE = np.float32(9.02), np.float32(1.0)  # beyond the edge, tanh is 1 in float32


@njit
def _tanh(x):
    x = -EDGE if x < -EDGE else (EDGE if x > EDGE else x)
    y = x * x
    a = A[0] + y * (A[1] + y * (A[2] + y * (A[3] + y * (A[4] + y * (A[5] + y * A[6])))))
    b = B[0] + y * (B[1] + y * (B[2] + y * (B[3] + y * (B[4] + y * (B[5] + y * B[6])))))
    t = x * a / b
    return -ONE if t < -ONE else (ONE if t > ONE else t)


# What the vocabulary and the helpers below are, once compiled: numba looks them up by the function.


def _load(arrays: Any, i: int) -> Any: ...
def _store(arrays: Any, i: int, new: Any) -> Any: ...
def _cut(arrays: Any, a: int, b: int) -> Any: ...
def _together(new: Any) -> Any: ...


@overload(_together, inline="always")
def _(new):
    if isinstance(new, numba.types.BaseTuple):
        return lambda new: new
    return lambda new: (new,)


@overload(_load)
def _(arrays, i):
    return (
        lambda arrays, i: (),
        lambda arrays, i: (arrays[0][i],),
        lambda arrays, i: (arrays[0][i], arrays[1][i]),
        lambda arrays, i: (arrays[0][i], arrays[1][i], arrays[2][i]),
    )[len(arrays)]


@overload(_cut)
def _(arrays, a, b):
    return (
        lambda arrays, a, b: (),
        lambda arrays, a, b: (arrays[0][a:b],),
        lambda arrays, a, b: (arrays[0][a:b], arrays[1][a:b]),
        lambda arrays, a, b: (arrays[0][a:b], arrays[1][a:b], arrays[2][a:b]),
    )[len(arrays)]


def _store_one(arrays, i, new):
    arrays[0][i] = new[1]


def _store_two(arrays, i, new):
    arrays[0][i] = new[1]
    arrays[1][i] = new[2]


def _store_three(arrays, i, new):
    arrays[0][i] = new[1]
    arrays[1][i] = new[2]
    arrays[2][i] = new[3]


@overload(_store)
def _(arrays, i, new):
    return (lambda arrays, i, new: None, _store_one, _store_two, _store_three)[len(arrays)]


@overload(elementwise.where)
def _(condition, x, y):
    return lambda condition, x, y: x if condition else y


@overload(elementwise.clip)
def _(x, low, high):
    return lambda x, low, high: low if x < low else (high if x > high else x)  # NaN stays


@overload(elementwise.sqrt)
def _(x):
    return lambda x: np.sqrt(x)


@overload(elementwise.tanh)
def _(x):
    if x == numba.types.float32:
        return lambda x: _tanh(x)
    return lambda x: math.tanh(x)

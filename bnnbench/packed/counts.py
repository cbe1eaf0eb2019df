"""XNOR and popcount as they are: for processors that count the bits of a whole vector at once.

    number of products that are -1 = sum over words of popcount(x[i] xor w[i])

Each lane of a vector is another output, so that nothing is added across lanes and no length needs
a rest. With AVX-512's vector popcount that is 3 instructions for 512 products; for AVX2 and Neon
LLVM counts by byte shuffles, without vectors one word after the other: right everywhere, and on
any processor the same counts. Weights lie as (blocks, words, 32).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from bnnbench.packed.vectors import I32, I64, inner, intrinsic, load, pointer, scaled, store, vector

BLOCK = 32  #: outputs of a block
WIDE = 16  #: outputs whose counts are held in registers together
SLAB = 512  #: words that are taken together
COUNT = np.int32
WORD = np.uint64  #: how the passes read rows of inputs


def steps(words: int) -> int:
    """Return how many steps a row of so many words takes: one each."""
    return words


def arranged(weight: Any) -> Any:
    """Return weights (outputs, words) as this module's passes read them."""
    outputs, words = weight.shape
    blocks = -(-outputs // BLOCK)
    rows = np.zeros((blocks * BLOCK, words), np.uint64)
    rows[:outputs] = weight
    return np.ascontiguousarray(rows.reshape(blocks, BLOCK, words).transpose(0, 2, 1))


@functools.cache
def parts(pairs: int) -> tuple[Any, Any]:
    """Return the passes for ``2 pairs`` rows at a time: gather their words, count one block."""
    rows, tile = 2 * pairs, _tile(min(4, 2 * pairs))
    together = min(4, rows)

    @inner
    def spread(x, first, begin, end):
        """Words ``begin`` to ``end`` of rows from ``first`` on, side by side; beyond them 0."""
        found = np.zeros((rows // together, end - begin, together), np.uint64)
        for r in range(min(rows, x.shape[0] - first)):
            for i in range(begin, end):
                found[r // together, i - begin, r % together] = x[first + r, i]
        return found

    @inner
    def count(found, begin, weight, first, counts):
        """Add how many products are -1, in the words of ``found`` from ``begin`` on.

        ``counts`` is (blocks, rows, 32), its first block number ``first`` of the weights.
        """
        words = found.shape[1]
        for block in range(counts.shape[0]):
            for group in range(rows // together):
                for lane in range(0, BLOCK, WIDE):
                    start = ((first + block) * weight.shape[1] + begin) * BLOCK + lane
                    place = (block * rows + group * together) * BLOCK + lane
                    tile(found, group * words * together, weight, start, words, counts, place)

    return spread, count


def _tile(rows: int) -> Any:
    @intrinsic
    def tile(typing, found, first, weight, start, number, counts, place):
        signature = types.void(
            found, types.intp, weight, types.intp, types.intp, counts, types.intp
        )
        return signature, functools.partial(_generate, rows)

    return tile


def _generate(rows: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write the pass over some rows and outputs: their counts in registers, word after word."""
    bases = [pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 5)]
    sizes = [scaled(builder, arguments[i], size) for i, size in ((1, 8), (3, 8), (6, 4))]
    x, weight, counts = (builder.gep(base, [size]) for base, size in zip(bases, sizes, strict=True))
    wide = vector(I64, WIDE)
    sums = [cgutils.alloca_once_value(builder, ir.Constant(wide, None)) for _ in range(rows)]
    for place in sums:
        builder.store(ir.Constant(wide, None), place)
    kind = ir.FunctionType(wide, [wide])
    popcount = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{WIDE}i64")
    with cgutils.for_range(builder, arguments[4]) as word:
        w = load(builder, weight, scaled(builder, word.index, BLOCK * 8), wide, 8)
        for r, place in enumerate(sums):
            at = builder.add(scaled(builder, word.index, rows * 8), ir.Constant(I64, 8 * r))
            bits = builder.xor(_everywhere(builder, load(builder, x, at, I64, 8)), w)
            builder.store(builder.add(builder.load(place), builder.call(popcount, [bits])), place)
    for r, place in enumerate(sums):
        narrow, at = builder.trunc(builder.load(place), vector(I32, WIDE)), r * BLOCK * 4
        before = load(builder, counts, ir.Constant(I64, at), narrow.type, 4)
        store(builder, builder.add(before, narrow), counts, ir.Constant(I64, at), 4)
    return context.get_dummy_value()


def _everywhere(builder: Any, number: Any) -> Any:
    """One word in every lane."""
    undefined = ir.Constant(vector(I64, WIDE), ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(vector(I32, WIDE), None))

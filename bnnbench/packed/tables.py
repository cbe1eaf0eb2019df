"""XNOR and popcount by looking up half bytes: for processors with AVX2 but no vector popcount.

For four signs a of an input and four signs w of a weight, as numbers 0 to 15,

    T_a[w] = popcount(a xor w)                        0 to 4: how many of the products are -1
    T_ab[w] = T_a[w] + 16 T_b[w]                      for two rows of inputs in one byte

Byte shuffle (vpshufb) looks up 16 places in each of two tables of 16 at once: 16 outputs x 2 places
x 2 rows x 4 signs, 256 products, in one instruction. What remains is to add bytes whose halves are
two counts. With y the sum of three lookups (each half at most 12), and two of them at a time:

    Y += y + y'                                       modulo 256
    H += avg(y and F0, y' and F0) >> 3                the upper half's counts; avg(a, b) = (a + b)/2
    L = Y - 16 H modulo 256                           the lower half's, once at the end of a stretch

Both are exact as long as H and L stay below 256: ten steps of 48 signs (:data:`STRETCH`). For 48
signs, 16 outputs and two rows that is 17 instructions, 2.8 for 256 products, and 9 that take the
weights' bytes apart, for all rows together.

Weights lie as (blocks, 2, steps, 96): of 16 outputs and a step three vectors, the first three bytes
of each output in their lower half and the other three in the upper one. They take no more room
than in words, but for the rim.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from bnnbench.packed.vectors import (
    I8,
    I16,
    I32,
    I64,
    constant,
    inner,
    intrinsic,
    load,
    pointer,
    scaled,
    store,
    vector,
)

LANES = 16  #: outputs that are computed side by side
BLOCK = 32  #: outputs of a block
PARTS = 3  #: bytes of an output in each half of a step
STEP = 2 * PARTS  #: bytes of an output in a step
STRETCH = 10  #: steps that the counts of a byte can take
SLAB = 24  #: steps whose tables stay in the cache of a core, for eight rows
LONGEST = 2**16 - 1  #: signs whose count fits into 16 bits
COUNT = np.uint16
WORD = np.uint8  #: how the passes read rows of inputs
BYTES = vector(I8, 2 * LANES)


def _pairs() -> Any:
    """T_ab[w] at (a + 16 b, w)."""
    half = np.arange(16, dtype=np.uint8)
    ones = np.unpackbits((half[:, None] ^ half)[..., None], axis=-1).sum(-1).astype(np.uint8)
    both = ones[None, :, :] + 16 * ones[:, None, :]
    return both.reshape(256, 16).astype(np.uint8).view(np.uint64)


TABLES = _pairs()


def steps(octets: int) -> int:
    """Return how many steps a row of so many bytes takes."""
    return -(-octets // STEP)


def arranged(weight: Any) -> Any:
    """Return weights (outputs, words) as this module's passes read them."""
    rows = np.ascontiguousarray(weight).view(np.uint8)
    blocks, number = -(-len(rows) // BLOCK), steps(rows.shape[1])
    octets = np.zeros((blocks * BLOCK, STEP * number), np.uint8)
    octets[: len(rows), : rows.shape[1]] = rows
    lanes = octets.reshape(-1, LANES, number, 2, PARTS)
    found = np.ascontiguousarray(lanes.transpose(0, 2, 4, 3, 1))
    return found.reshape(blocks, 2, number, STEP * LANES)


@functools.cache
def parts(pairs: int) -> tuple[Any, Any]:
    """Return the passes for ``2 pairs`` rows at a time: spread their signs, count one block."""
    tile, write = _tile(pairs), _writer(pairs)

    @inner
    def spread(x, first, begin, end):
        """The tables of rows from ``first`` on, for the steps from ``begin`` to ``end``."""
        tables = np.empty((end - begin, STEP, pairs, 2, 16), np.uint8)
        octets = np.zeros((2 * pairs, STEP * (end - begin)), np.uint8)  # 0 beyond the last
        known = min(octets.shape[1], x.shape[1] - STEP * begin)
        for r in range(min(2 * pairs, x.shape[0] - first)):
            for o in range(known):
                octets[r, o] = x[first + r, STEP * begin + o]
        for p in range(pairs):
            write(octets, p, end - begin, TABLES, tables)
        return tables

    @inner
    def count(tables, begin, weight, first, counts):
        """Add how many products are -1, in the steps of the tables from ``begin`` on.

        ``counts`` is (blocks, rows, 32), its first block number ``first`` of the weights.
        """
        start = (2 * first * weight.shape[2] + begin) * STEP * LANES
        pitch = weight.shape[2] * STEP * LANES
        tile(tables, tables.shape[0], weight, start, pitch, counts, 2 * counts.shape[0])

    return spread, count


def _writer(pairs: int) -> Any:
    @intrinsic
    def write(typing, octets, pair, number, known, tables):
        signature = types.void(octets, types.intp, types.intp, known, tables)
        return signature, functools.partial(_generate_tables, pairs)

    return write


def _generate_tables(pairs: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write the tables of a pair of rows, each copied from those of all pairs of half bytes."""
    bases = [pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 4)]
    width = builder.mul(arguments[2], ir.Constant(I64, STEP))
    first = builder.mul(scaled(builder, arguments[1], 2), width)
    pitch = 32 * pairs  # from one half byte's tables to those of the next
    start = scaled(builder, arguments[1], 32)
    with cgutils.for_range(builder, arguments[2]) as step:
        at = builder.add(first, scaled(builder, step.index, STEP))
        place = builder.add(start, scaled(builder, step.index, STEP * pitch))
        for i in range(STEP):
            one = builder.add(at, ir.Constant(I64, i))
            a, b = (load(builder, bases[0], o, I8, 1) for o in (one, builder.add(one, width)))
            side, byte = divmod(i, PARTS)
            for n, index in enumerate(_paired(builder, a, b)):
                source = scaled(builder, builder.zext(index, I64), 16)
                table = load(builder, bases[1], source, vector(I8, 16), 8)
                offset = ir.Constant(I64, (2 * byte + n) * pitch + 16 * side)
                store(builder, table, bases[2], builder.add(place, offset), 16)
    return context.get_dummy_value()


def _paired(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The lower half bytes of two rows in one byte, and their upper ones."""
    four, low = ir.Constant(I8, 4), ir.Constant(I8, 15)
    lower = builder.or_(builder.and_(a, low), builder.shl(b, four))
    return lower, builder.or_(builder.lshr(a, four), builder.and_(b, ir.Constant(I8, 0xF0)))


def _tile(pairs: int) -> Any:
    @intrinsic
    def tile(typing, tables, number, weight, start, pitch, counts, tiles):
        signature = types.void(
            tables, types.intp, weight, types.intp, types.intp, counts, types.intp
        )
        return signature, functools.partial(_generate, pairs)

    return tile


def _generate(pairs: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write the pass over blocks, 16 outputs at a time.

    One loop for all of them: a call for each would take as long as a few steps.
    """
    bases = [pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 5)]
    one, block = ir.Constant(I64, 1), ir.Constant(I64, 2 * pairs * BLOCK * 2)
    sums = [
        [cgutils.alloca_once_value(builder, ir.Constant(BYTES, None)) for _ in "YH"]
        for _ in range(pairs)
    ]
    with cgutils.for_range(builder, arguments[6]) as tile:
        start = builder.add(arguments[3], builder.mul(tile.index, arguments[4]))
        place = builder.add(
            builder.mul(builder.lshr(tile.index, one), block),
            scaled(builder, builder.and_(tile.index, one), LANES * 2),
        )
        weight, counts = builder.gep(bases[1], [start]), builder.gep(bases[2], [place])
        _stretches(builder, bases[0], weight, arguments[1], counts, sums)
    return context.get_dummy_value()


def _stretches(builder: Any, tables: Any, weight: Any, number: Any, counts: Any, sums: Any) -> None:
    """Take stretch after stretch, with its counts in registers."""
    long = ir.Constant(I64, STRETCH)
    stretches = builder.udiv(builder.add(number, ir.Constant(I64, STRETCH - 1)), long)
    with cgutils.for_range(builder, stretches) as stretch:
        for place in (place for pair in sums for place in pair):
            builder.store(ir.Constant(BYTES, None), place)
        first = builder.mul(stretch.index, long)
        rest = builder.sub(number, first)
        least = builder.select(builder.icmp_signed("<", rest, long), rest, long)
        with cgutils.for_range(builder, least) as step:
            _step(builder, tables, weight, builder.add(first, step.index), sums)
        for p, (whole, upper) in enumerate(sums):
            _widen(builder, builder.load(whole), builder.load(upper), counts, 2 * p)


def _step(builder: Any, tables: Any, weight: Any, number: Any, sums: Any) -> None:
    """Look up 48 signs of 16 outputs in the tables of every pair of rows, and add."""
    pairs = len(sums)
    halves = _halves(builder, weight, scaled(builder, number, STEP * LANES))
    begin = scaled(builder, number, STEP * pairs * 32)
    for p, (whole, upper) in enumerate(sums):
        places = [ir.Constant(I64, 32 * (i * pairs + p)) for i in range(STEP)]
        found = [
            _call(builder, "pshuf", load(builder, tables, builder.add(begin, at), BYTES, 16), half)
            for at, half in zip(places, halves, strict=True)
        ]
        threes = [functools.reduce(builder.add, found[i : i + 3]) for i in (0, 3)]
        builder.store(functools.reduce(builder.add, threes, builder.load(whole)), whole)
        masked = [builder.and_(y, constant(I8, 2 * LANES, 0xF0)) for y in threes]
        mean = _call(builder, "pavg", *masked)
        builder.store(builder.add(builder.load(upper), _shifted(builder, mean, 3)), upper)


def _halves(builder: Any, weight: Any, place: Any) -> list[Any]:
    """The six half bytes of each half of a step, for 16 outputs."""
    found, mask = [], constant(I8, 2 * LANES, 15)
    for i in range(PARTS):
        octet = load(builder, weight, builder.add(place, ir.Constant(I64, 32 * i)), BYTES, 1)
        found += [builder.and_(octet, mask), builder.and_(_shifted(builder, octet, 4), mask)]
    return found


def _shifted(builder: Any, octets: Any, bits: int) -> Any:
    """Bytes shifted to the right in pairs, as there is no instruction for one byte."""
    pairs = builder.bitcast(octets, vector(I16, LANES))
    return builder.bitcast(builder.lshr(pairs, constant(I16, LANES, bits)), BYTES)


def _call(builder: Any, name: str, first: Any, second: Any) -> Any:
    kind = ir.FunctionType(BYTES, [BYTES, BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx2.{name}.b")
    return builder.call(function, [first, second])


def _widen(builder: Any, whole: Any, upper: Any, counts: Any, row: int) -> None:
    """Add the counts of a stretch, L and H of either half, to those of two rows."""
    lower = builder.sub(whole, builder.shl(upper, constant(I8, 2 * LANES, 4)))
    for r, octets in ((row, lower), (row + 1, upper)):
        place = ir.Constant(I64, r * BLOCK * 2)
        total = load(builder, counts, place, vector(I16, LANES), 2)
        for side in (0, LANES):
            chosen = ir.Constant(vector(I32, LANES), list(range(side, side + LANES)))
            half = builder.shuffle_vector(octets, ir.Constant(BYTES, ir.Undefined), chosen)
            total = builder.add(total, builder.zext(half, vector(I16, LANES)))
        store(builder, total, counts, place, 2)

"""XNOR and popcount by looking up half bytes: for processors with AVX2 but no vector popcount.

For four signs a of an input and four signs w of a weight, as numbers 0 to 15,

    T_a[w] = popcount(a xor w)                        0 to 4: how many of the products are -1
    T_ab[w] = T_a[w] + 16 T_b[w]                      for two rows of inputs in one byte

Byte shuffle (vpshufb) looks up 32 places of a table of 16 at once: 32 outputs x 2 rows x 4 signs,
256 products, in one instruction. What remains is to add bytes whose halves are two counts. With
y the sum of three lookups (each half at most 12), and two of them, y and y', at a time:

    Y += y + y'                                       modulo 256
    H += avg(y and F0, y' and F0) >> 3                the upper half's counts; avg(a, b) = (a + b)/2
    L = Y - 16 H modulo 256                           the lower half's, once at the end of a stretch

Both are exact as long as H and L stay below 256: ten steps of 24 signs (:data:`STRETCH`). For 24
signs, 32 outputs and two rows that is 17 instructions, 2.8 for 256 products.

Weights lie as (blocks, bytes, 32): byte b of 32 outputs side by side, the number of bytes a
multiple of 3. They take no more room than in words, but for the rim.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bnnbench.packed.vectors import (
    I8,
    I16,
    I32,
    I64,
    constant,
    load,
    njit,
    pointer,
    scaled,
    store,
    vector,
)

LANES = 32  #: outputs that are computed side by side
STEP = 3  #: bytes of signs in a step
STRETCH = 10  #: steps that the counts of a byte can take: 240 signs
LONGEST = 2**16 - 1  #: signs whose count fits into 16 bits
COUNT = np.uint16
BYTES = vector(I8, LANES)


def _pairs() -> Any:
    """T_ab[w] at (a + 16 b, w)."""
    half = np.arange(16, dtype=np.uint8)
    ones = np.unpackbits((half[:, None] ^ half)[..., None], axis=-1).sum(-1).astype(np.uint8)
    both = ones[None, :, :] + 16 * ones[:, None, :]
    return both.reshape(256, 16).astype(np.uint8).view(np.uint64)


TABLES = _pairs()


def steps(words: int) -> int:
    """Return how many steps a row of so many words takes."""
    return -(-8 * words // STEP)


def arranged(weight: Any) -> Any:
    """Return weights (outputs, words) as this module's passes read them."""
    outputs, words = weight.shape
    blocks = -(-outputs // LANES)
    octets = np.zeros((blocks * LANES, STEP * steps(words)), np.uint8)
    octets[:outputs, : 8 * words] = np.ascontiguousarray(weight).view(np.uint8)
    return np.ascontiguousarray(octets.reshape(blocks, LANES, -1).transpose(0, 2, 1))


@functools.cache
def parts(pairs: int) -> tuple[Any, Any]:
    """Return the passes for ``2 pairs`` rows at a time: spread their signs, count one block."""
    tile = _tile(pairs)

    @njit
    def spread(x, first, words):
        """The tables of rows from ``first`` on; rows and words beyond the last are all -1."""
        octets = STEP * ((8 * words + STEP - 1) // STEP)
        tables = np.empty((octets, 2, pairs, 2), np.uint64)
        for p in range(pairs):
            a, b = first + 2 * p, first + 2 * p + 1
            for o in range(octets):
                i, shift = o >> 3, np.uint64(8 * (o & 7))
                one = x[a, i] >> shift if a < x.shape[0] and i < words else np.uint64(0)
                two = x[b, i] >> shift if b < x.shape[0] and i < words else np.uint64(0)
                low = np.intp((one & np.uint64(15)) | ((two & np.uint64(15)) << np.uint64(4)))
                high = np.intp(((one >> np.uint64(4)) & np.uint64(15)) | (two & np.uint64(240)))
                tables[o, 0, p, 0], tables[o, 0, p, 1] = TABLES[low, 0], TABLES[low, 1]
                tables[o, 1, p, 0], tables[o, 1, p, 1] = TABLES[high, 0], TABLES[high, 1]
        return tables

    @njit
    def count(tables, weight, block, counts):
        """Write for each row and output of a block how many products are -1."""
        tile(tables, weight, block * weight.shape[1] * LANES, weight.shape[1] // STEP, counts)

    return spread, count


def _tile(pairs: int) -> Any:
    @intrinsic
    def tile(typing, tables, weight, start, number, counts):
        signature = types.void(tables, weight, types.intp, types.intp, counts)
        return signature, functools.partial(_generate, pairs)

    return tile


def _generate(pairs: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write the pass over one block: stretches of steps, the counts of a stretch in registers."""
    bases = [pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4)]
    tables, counts = bases[0], bases[2]
    weight, number = builder.gep(bases[1], [arguments[2]]), arguments[3]
    zero = ir.Constant(BYTES, None)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in "YH"] for _ in range(pairs)]
    for row in range(2 * pairs):
        _store_counts(builder, ir.Constant(vector(I16, LANES), None), counts, row)
    long = ir.Constant(I64, STRETCH)
    stretches = builder.udiv(builder.add(number, ir.Constant(I64, STRETCH - 1)), long)
    with cgutils.for_range(builder, stretches) as stretch:
        for place in (place for pair in sums for place in pair):
            builder.store(zero, place)
        first = builder.mul(stretch.index, long)
        rest = builder.sub(number, first)
        least = builder.select(builder.icmp_signed("<", rest, long), rest, long)
        with cgutils.for_range(builder, least) as step:
            _step(builder, tables, weight, builder.add(first, step.index), sums)
        for p, (whole, upper) in enumerate(sums):
            _widen(builder, builder.load(whole), builder.load(upper), counts, 2 * p)
    return context.get_dummy_value()


def _step(builder: Any, tables: Any, weight: Any, number: Any, sums: Any) -> None:
    """Look up 24 signs of 32 outputs in the tables of every pair of rows, and add."""
    pairs = len(sums)
    halves = _halves(builder, weight, scaled(builder, number, STEP * LANES))
    begin = scaled(builder, number, 2 * STEP * pairs * 16)
    for p, (whole, upper) in enumerate(sums):
        found = [
            _look_up(builder, tables, builder.add(begin, ir.Constant(I64, 16 * (i * pairs + p))), w)
            for i, w in enumerate(halves)
        ]
        threes = [functools.reduce(builder.add, found[i : i + 3]) for i in (0, 3)]
        builder.store(functools.reduce(builder.add, threes, builder.load(whole)), whole)
        masked = [builder.and_(y, constant(I8, LANES, 0xF0)) for y in threes]
        mean = _call(builder, "llvm.x86.avx2.pavg.b", *masked)
        builder.store(builder.add(builder.load(upper), _shifted(builder, mean, 3)), upper)


def _halves(builder: Any, weight: Any, place: Any) -> list[Any]:
    """The six half bytes of 24 signs, for 32 outputs."""
    found, mask = [], constant(I8, LANES, 15)
    for i in range(STEP):
        octet = load(builder, weight, builder.add(place, ir.Constant(I64, i * LANES)), BYTES, 1)
        found += [builder.and_(octet, mask), builder.and_(_shifted(builder, octet, 4), mask)]
    return found


def _shifted(builder: Any, octets: Any, bits: int) -> Any:
    """Bytes shifted to the right in pairs, as there is no instruction for one byte."""
    pairs = builder.bitcast(octets, vector(I16, LANES // 2))
    return builder.bitcast(builder.lshr(pairs, constant(I16, LANES // 2, bits)), BYTES)


def _look_up(builder: Any, tables: Any, place: Any, halves: Any) -> Any:
    """The table of 16 bytes at a place, at 32 indices."""
    half = load(builder, tables, place, vector(I8, 16), 16)
    twice = ir.Constant(vector(I32, LANES), [*range(16), *range(16)])
    table = builder.shuffle_vector(half, ir.Constant(vector(I8, 16), ir.Undefined), twice)
    return _call(builder, "llvm.x86.avx2.pshuf.b", table, halves)


def _call(builder: Any, name: str, first: Any, second: Any) -> Any:
    kind = ir.FunctionType(BYTES, [BYTES, BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [first, second])


def _widen(builder: Any, whole: Any, upper: Any, counts: Any, row: int) -> None:
    """Add the counts of a stretch, L and H, to those of two rows."""
    lower = builder.sub(whole, builder.shl(upper, constant(I8, LANES, 4)))
    for r, octets in ((row, lower), (row + 1, upper)):
        place = ir.Constant(I64, r * LANES * 2)
        before = load(builder, counts, place, vector(I16, LANES), 2)
        _store_counts(
            builder, builder.add(before, builder.zext(octets, vector(I16, LANES))), counts, r
        )


def _store_counts(builder: Any, value: Any, counts: Any, row: int) -> None:
    store(builder, value, counts, ir.Constant(I64, row * LANES * 2), 2)

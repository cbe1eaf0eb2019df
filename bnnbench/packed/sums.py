"""Binary weights times real inputs: no products, and few sums, each used by many outputs.

For four inputs x_0, ..., x_3 and the 16 ways w to give them signs,

    T[w] = (s_0 x_0 + s_1 x_1) + (s_2 x_2 + s_3 x_3),   s_i = +1 where bit i of w is 1, else -1

An output adds up one entry of each table, k/4 of them for k inputs: two entries make a byte's sum
b_j, eight of these a word's, and the words' sums are added in turn. With u = 2^-24, to first order

    |computed - exact| <= (10 + k/64) u sum |x|

which a plain sum only promises with k for the bracket. Where all x are integers and sum |x| is
below 2^24 nothing is rounded: the result is exact. It is the same for a row whatever rows are
computed with it, and on any number of threads.

Sixteen rows lie side by side in a vector (``many``); up to :data:`FEW` rows are taken alone, with
256 sums for each byte (``few``). Weights lie as (words, outputs).
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numpy.typing import NDArray

from bnnbench.packed.bits import WORD, Words, unpack
from bnnbench.packed.vectors import (
    COMPILED,
    I32,
    I64,
    U64,
    inner,
    intrinsic,
    load,
    pointer,
    scaled,
    store,
    vector,
)
from bnnbench.threads import follow_torch_threads

LANES = 16  #: rows side by side
FEW = 3  #: rows up to which each is taken alone
WORTH = 2**21  #: additions or subtractions from which on more threads than one pay
Numbers = NDArray[np.float32]
ROW = vector(ir.FloatType(), LANES)


def arranged(weight: Words) -> Words:
    """Return weights (outputs, words) as this module's passes read them."""
    return np.ascontiguousarray(weight.T)


def signed_sums(x: Numbers, weight: Words, length: int) -> Numbers:
    """Return the sums of inputs (n, length) with the signs of arranged weights: (n, outputs)."""
    if not COMPILED:
        return (x.astype(np.float64) @ unpack(weight.T, length).T).astype(np.float32)
    found = np.empty((len(x), weight.shape[1]), np.float32)
    threads = follow_torch_threads() if found.size * length > WORTH else 1
    height = 1 if len(x) <= FEW else LANES
    groups = -(-len(x) // height)
    most = -(-weight.shape[1] // LANES)
    parts = 1 if threads == 1 else min(most, max(1, 4 * threads // max(groups, 1)))
    compiled(height, parallel=threads > 1)(x, weight, parts, found)
    return found


@functools.cache
def compiled(height: int, *, parallel: bool) -> Any:
    """Return the sums of one row at a time, or of sixteen; see :func:`signed_sums`."""
    some = few if height == 1 else many

    @numba.njit(nogil=True, error_model="numpy", parallel=parallel)
    def whole(x, weight, parts, found):
        groups, tiles = (x.shape[0] + height - 1) // height, (weight.shape[1] + 15) // 16
        for task in prange(groups * parts):
            row, part = height * (task // parts), task % parts
            begin, end = tiles * part // parts * 16, tiles * (part + 1) // parts * 16
            some(x, weight, row, begin, min(end, weight.shape[1]), found)

    return whole


@inner
def few(x, weight, row, begin, end, found):
    """Write the sums of one row, for the outputs from ``begin`` to ``end``."""
    tables = np.empty((8, 256), np.float32)
    x_word = np.empty(WORD, np.float32)
    for i in range(weight.shape[0]):
        for j in range(WORD):
            x_word[j] = x[row, WORD * i + j] if WORD * i + j < x.shape[1] else np.float32(0)
        for j in range(8):
            _byte_sums(x_word[8 * j : 8 * j + 8], tables[j])
        for o in range(begin, end):
            w = weight[i, o]
            total = tables[0, w & U64(255)] + tables[1, (w >> U64(8)) & U64(255)]
            total += tables[2, (w >> U64(16)) & U64(255)]
            total += tables[3, (w >> U64(24)) & U64(255)]
            total += tables[4, (w >> U64(32)) & U64(255)]
            total += tables[5, (w >> U64(40)) & U64(255)]
            total += tables[6, (w >> U64(48)) & U64(255)]
            total += tables[7, w >> U64(56)]
            found[row, o] = total if i == 0 else found[row, o] + total


@inner
def _byte_sums(x, table):
    low, high = np.empty(16, np.float32), np.empty(16, np.float32)
    _half_sums(x[:4], low)
    _half_sums(x[4:], high)
    for a in range(16):
        for b in range(16):
            table[16 * a + b] = low[b] + high[a]


@inner
def _half_sums(x, table):
    for w in range(16):
        a = x[0] if w & 1 else -x[0]
        b = x[1] if w & 2 else -x[1]
        c = x[2] if w & 4 else -x[2]
        d = x[3] if w & 8 else -x[3]
        table[w] = (a + b) + (c + d)


@inner
def many(x, weight, row, begin, end, found):
    """Write the sums of sixteen rows, for the outputs from ``begin`` to ``end``."""
    outputs = -(-(end - begin) // LANES) * LANES
    sums = np.zeros((outputs, LANES), np.float32)
    side = np.empty((WORD, LANES), np.float32)  # the inputs of a word, the rows side by side
    tables = np.empty((16, 16, LANES), np.float32)
    for i in range(weight.shape[0]):
        _turn(x, row, WORD * i, side)
        for quarter in range(16):
            _tables(side, 4 * quarter, tables, quarter)
        for o in range(begin, end):
            _add(weight[i, o], tables, sums, o - begin)
    last = np.empty((LANES, LANES), np.float32)
    for o in range(begin, end, LANES):
        if row + LANES <= x.shape[0] and o + LANES <= end:
            place = row * found.shape[1] + o
            _square(sums, (o - begin) * LANES, LANES, found, place, found.shape[1])
            continue
        _square(sums, (o - begin) * LANES, LANES, last, 0, LANES)
        for r in range(min(LANES, x.shape[0] - row)):
            for lane in range(min(LANES, end - o)):
                found[row + r, o + lane] = last[r, lane]


@inner
def _turn(x, row, start, side):
    """Put 64 inputs of sixteen rows side by side; what is beyond the last is 0."""
    for j in range(0, WORD, LANES):
        if row + LANES <= x.shape[0] and start + j + LANES <= x.shape[1]:
            _square(x, row * x.shape[1] + start + j, x.shape[1], side, j * LANES, LANES)
            continue
        for i in range(start + j, start + j + LANES):
            for r in range(row, row + LANES):
                inside = r < x.shape[0] and i < x.shape[1]
                side[i - start, r - row] = x[r, i] if inside else np.float32(0)


@intrinsic
def _square(typing, x, start, pitch, out, place, width):
    """Transpose 16 x 16 numbers, whose rows are ``pitch`` apart, to rows ``width`` apart."""

    def generate(context, builder, signature, arguments):
        source = pointer(context, builder, signature.args[0], arguments[0])
        target = pointer(context, builder, signature.args[3], arguments[3])
        rows = [
            load(builder, source, _at(builder, arguments[1], arguments[2], r), ROW, 4)
            for r in range(LANES)
        ]
        for r, row in enumerate(_transposed(builder, rows)):
            store(builder, row, target, _at(builder, arguments[4], arguments[5], r), 4)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, out, types.intp, types.intp), generate


def _at(builder: Any, start: Any, pitch: Any, row: int) -> Any:
    """Where a row begins, in bytes."""
    index = builder.add(start, builder.mul(pitch, ir.Constant(I64, row)))
    return scaled(builder, index, 4)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Rows of a square as its columns: halves change places, then quarters, down to one number."""
    size = LANES // 2
    while size:
        for r in range(LANES):
            if not r & size:
                a, b = rows[r], rows[r + size]
                even = [j if not j & size else j - size + LANES for j in range(LANES)]
                odd = [j + size if not j & size else j + LANES for j in range(LANES)]
                rows[r], rows[r + size] = (
                    builder.shuffle_vector(a, b, ir.Constant(vector(I32, LANES), mask))
                    for mask in (even, odd)
                )
        size //= 2
    return rows


@intrinsic
def _tables(typing, side, first, tables, number):
    """Write the 16 sums of four inputs, for sixteen rows."""

    def generate(context, builder, signature, arguments):
        source = pointer(context, builder, signature.args[0], arguments[0])
        target = pointer(context, builder, signature.args[2], arguments[2])
        start = scaled(builder, arguments[1], 4 * LANES)
        place = scaled(builder, arguments[3], 16 * 4 * LANES)
        x = [
            load(builder, source, builder.add(start, ir.Constant(I64, 4 * LANES * j)), ROW, 4)
            for j in range(4)
        ]
        minus = [builder.fneg(number) for number in x]
        pairs = [
            [builder.fadd((minus, x)[w & 1][i], (minus, x)[w >> 1][i + 1]) for w in range(4)]
            for i in (0, 2)
        ]
        for w in range(16):
            total = builder.fadd(pairs[0][w & 3], pairs[1][w >> 2])
            store(builder, total, target, builder.add(place, ir.Constant(I64, 4 * LANES * w)), 4)
        return context.get_dummy_value()

    return types.void(side, types.intp, tables, types.intp), generate


@intrinsic
def _add(typing, weight, tables, sums, output):
    """Add the tables' entries for 64 signs of an output, for sixteen rows."""

    def generate(context, builder, signature, arguments):
        source = pointer(context, builder, signature.args[1], arguments[1])
        target = pointer(context, builder, signature.args[2], arguments[2])
        total = None
        for j in range(8):
            halves = [_entry(builder, arguments[0], source, 2 * j + n) for n in range(2)]
            octet = builder.fadd(*halves)
            total = octet if total is None else builder.fadd(total, octet)
        place = scaled(builder, arguments[3], 4 * LANES)
        before = load(builder, target, place, ROW, 4)
        store(builder, builder.fadd(before, total), target, place, 4)
        return context.get_dummy_value()

    return types.void(types.uint64, tables, sums, types.intp), generate


def _entry(builder: Any, weight: Any, tables: Any, number: int) -> Any:
    """The entry of table ``number`` for the weight's half byte of that number."""
    half = builder.and_(builder.lshr(weight, ir.Constant(I64, 4 * number)), ir.Constant(I64, 15))
    place = builder.add(scaled(builder, half, 4 * LANES), ir.Constant(I64, number * 64 * LANES))
    return load(builder, tables, place, ROW, 4)

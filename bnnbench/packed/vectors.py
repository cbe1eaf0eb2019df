"""Vectors of the processor in compiled passes: 64 comparisons at once, written as one word.

Numba knows no vectors. The functions here are written in LLVM's own language, in which a comparison
of 64 numbers gives 64 bits; LLVM makes of it what the processor has: for AVX2 eight comparisons
and two moves of sign bits, without any vectors a loop. All are for little-endian processors.

    word(x, i)                the signs of x[i], ..., x[i + 63]: bit j is x[i + j] >= 0
    reaching(x, d, least, i)  bit j is d[i + j] x[i + j] >= least[i + j], for 64 of each
    half(x, i, most, j)       bit l is x[i + l] <= most[j + l], for 32 counts
    differences(base, i, x, j, out, k)   out[k + l] = base[i + l] - 2 x[j + l], for 32 counts
    turned(a)                 64 words as a square of bits, transposed in place
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types

intrinsic: Any = extending.intrinsic
njit: Any = functools.partial(numba.njit, error_model="numpy", nogil=True)
#: what only other passes call compiles faster without an entrance from Python
inner: Any = functools.partial(njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)
#: whether functions are compiled at all: NUMBA_DISABLE_JIT leaves only numpy
COMPILED = not numba.config.DISABLE_JIT and sys.byteorder == "little"  # type: ignore[attr-defined]
U64 = np.uint64
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))


def vector(kind: Any, count: int) -> Any:
    """Return the type of so many numbers of one kind."""
    return ir.VectorType(kind, count)


def constant(kind: Any, count: int, value: int) -> Any:
    """Return one value in every place of a vector."""
    return ir.Constant(vector(kind, count), [value] * count)


def pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return where the numbers of an array begin, as bytes."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(data, ir.PointerType(I8))


def load(builder: Any, base: Any, offset: Any, kind: Any, align: int) -> Any:
    """Return the vector that lies ``offset`` bytes after ``base``."""
    return builder.load(_place(builder, base, offset, kind), align=align)


def store(builder: Any, value: Any, base: Any, offset: Any, align: int) -> None:
    """Write a vector ``offset`` bytes after ``base``."""
    builder.store(value, _place(builder, base, offset, value.type), align=align)


def _place(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), ir.PointerType(kind))


def scaled(builder: Any, index: Any, size: int) -> Any:
    """Return an index in bytes."""
    return builder.mul(index, ir.Constant(I64, size))


@intrinsic
def word(typing: Any, x: Any, i: Any) -> Any:
    """Return the signs of 64 float32 from x[i] on as a word."""

    def generate(context, builder, signature, arguments):
        base = pointer(context, builder, signature.args[0], arguments[0])
        numbers = load(
            builder, base, scaled(builder, arguments[1], 4), vector(ir.FloatType(), 64), 4
        )
        zero = ir.Constant(vector(ir.FloatType(), 64), [0.0] * 64)
        return builder.bitcast(builder.fcmp_ordered(">=", numbers, zero), I64)

    return types.uint64(x, types.intp), generate


@intrinsic
def reaching(typing: Any, x: Any, d: Any, least: Any, i: Any) -> Any:
    """Return where 64 float32 from x[i] on, times those of d, reach those of least, as a word."""

    def generate(context, builder, signature, arguments):
        place, kind = scaled(builder, arguments[3], 4), vector(ir.FloatType(), 64)
        numbers, factors, bounds = (
            load(
                builder, pointer(context, builder, signature.args[n], arguments[n]), place, kind, 4
            )
            for n in range(3)
        )
        product = builder.fmul(numbers, factors)
        return builder.bitcast(builder.fcmp_ordered(">=", product, bounds), I64)

    return types.uint64(x, d, least, types.intp), generate


@intrinsic
def half(typing: Any, x: Any, i: Any, most: Any, j: Any) -> Any:
    """Return where 32 counts from x[i] on are at most the int32 from most[j] on."""
    bits = x.dtype.bitwidth

    def generate(context, builder, signature, arguments):
        counts = pointer(context, builder, signature.args[0], arguments[0])
        limits = pointer(context, builder, signature.args[2], arguments[2])
        place = scaled(builder, arguments[1], bits // 8)
        found = load(builder, counts, place, vector(ir.IntType(bits), 32), bits // 8)
        if bits < 32:
            found = builder.zext(found, vector(I32, 32))
        limit = load(builder, limits, scaled(builder, arguments[3], 4), vector(I32, 32), 4)
        return builder.bitcast(builder.icmp_signed("<=", found, limit), I32)

    return types.uint32(x, types.intp, most, types.intp), generate


@intrinsic
def differences(typing: Any, base: Any, i: Any, x: Any, j: Any, out: Any, k: Any) -> Any:
    """Write base - 2 c for 32 counts c, as int32."""
    bits = x.dtype.bitwidth

    def generate(context, builder, signature, arguments):
        sizes = ((0, 4), (2, bits // 8), (4, 4))
        bases, counts, found = (
            builder.gep(
                pointer(context, builder, signature.args[n], arguments[n]),
                [scaled(builder, arguments[n + 1], size)],
            )
            for n, size in sizes
        )
        zero, wide = ir.Constant(I64, 0), vector(I32, 32)
        c = load(builder, counts, zero, vector(ir.IntType(bits), 32), bits // 8)
        c = builder.zext(c, wide) if bits < 32 else c
        total = builder.sub(load(builder, bases, zero, wide, 4), builder.add(c, c))
        store(builder, total, found, zero, 4)
        return context.get_dummy_value()

    return types.void(base, types.intp, x, types.intp, out, types.intp), generate


@njit
def pack_rows(x, packed):
    """Write the signs of float32 (n, length) as words (n, words)."""
    n, length = x.shape
    full = length // 64
    for r in range(n):
        row = x[r]
        for i in range(full):
            packed[r, i] = word(row, 64 * i)
        if full * 64 < length:
            packed[r, full] = _rest(row, 64 * full)


@njit
def _rest(x, start):
    bits = U64(0)
    for j in range(start, x.size):
        bits |= U64(x[j] >= 0) << U64(j - start)
    return bits


@njit
def pack_reaching(x, d, least, packed):
    """Write where float32 (n, length), times d, reach ``least`` (length,) as words (n, words)."""
    n, length = x.shape
    full = length // 64
    for r in range(n):
        row = x[r]
        for i in range(full):
            packed[r, i] = reaching(row, d, least, 64 * i)
        if full * 64 < length:
            bits = U64(0)
            for j in range(64 * full, length):
                bits |= U64(d[j] * row[j] >= least[j]) << U64(j - 64 * full)
            packed[r, full] = bits


@njit
def pack_planes(planes, packed):
    """Write the signs of float32 (n, channels, places) as words (n, places, words)."""
    n, channels, places = planes.shape
    square = np.empty(64, np.uint64)
    for image in range(n):
        for i in range(packed.shape[2]):
            first = 64 * i
            for start in range(0, places, 64):
                for j in range(64):
                    square[j] = 0
                    if first + j < channels:
                        row = planes[image, first + j]
                        whole = start + 64 <= places
                        square[j] = word(row, start) if whole else _rest(row, start)
                turned(square)
                for j in range(min(64, places - start)):
                    packed[image, start + j, i] = square[j]


@njit
def turned(square):
    """Exchange bit j of word i with bit i of word j, for all 64 x 64 bits.

    Quarters of the square change places, then quarters of each quarter, down to single bits.
    """
    size, mask = 32, U64(0x00000000FFFFFFFF)
    while size:
        for i in range(64):
            if not i & size:
                low, high = square[i], square[i + size]
                moved = ((low >> U64(size)) ^ high) & mask
                square[i + size] = high ^ moved
                square[i] = low ^ (moved << U64(size))
        size >>= 1
        mask ^= mask << U64(size)

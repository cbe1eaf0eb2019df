"""Uniform numbers by counting, in Python's unbounded integers."""

from __future__ import annotations

MASK = 2**32 - 1


def uniform(i, first, second):
    """The number of place i under a key of two 32-bit halves: a hash, of which 24 bits are used."""
    x = (i + first) % 2**32
    x ^= x // 2**17
    x = x * 0xED5AD4BB & MASK
    x ^= x // 2**11
    x = (x + second & MASK) * 0xAC4C1B51 & MASK
    x ^= x // 2**15
    x = x * 0x31848BAB & MASK
    x ^= x // 2**14
    return (x // 2**8) / 2**24

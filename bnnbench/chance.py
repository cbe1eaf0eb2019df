"""Uniform numbers by counting: each is a hash of a key and the weight's place, in any order.

    x = i + k_1;   x ^= x >> 17;   x *= 0xed5ad4bb;   x ^= x >> 11;   x += k_2
    x *= 0xac4c1b51;   x ^= x >> 15;   x *= 0x31848bab;   x ^= x >> 14            modulo 2^32
    u = (x >> 8) / 2^24

Counters in place of a generator's state (Salmon et al., 2011) give the same numbers on one thread
or many, in torch or compiled. The mixing is the 32-bit "triple32" of the hash-prospector project,
with a second key after its first round, so that two keys are not one sequence shifted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

Key = tuple[int, int]

FIRST, SECOND, THIRD = 0xED5AD4BB, 0xAC4C1B51, 0x31848BAB


def draw_key() -> Key:
    """Return a fresh key, drawn from torch's generator on CPU."""
    first, second = torch.randint(1 << 32, (2,)).tolist()
    return first, second


def uniform(like: Tensor, key: Key) -> Tensor:
    """Return numbers of [0, 1), of the shape, type and memory order of ``like``.

    A number belongs to a place in memory: ``like`` must be dense, as every tensor of ours is.
    """
    return counted(like, *halves(key))


def halves(key: Key) -> tuple[int, int]:
    """Return both halves of a key as int32 has them, which knows no unsigned number."""
    return _signed(key[0]), _signed(key[1])


def counted(like: Tensor, first: Any, second: Any) -> Tensor:
    """Return what :func:`uniform` does; the halves may be tensors of one int32."""
    x = torch.arange(like.numel(), dtype=torch.int32, device=like.device)
    x = _mixed(x.add_(first), 17).mul_(_signed(FIRST))
    x = _mixed(x, 11).add_(second).mul_(_signed(SECOND))
    x = _mixed(x, 15).mul_(THIRD)
    u = _shifted(_mixed(x, 14), 8).to(like.dtype).mul_(2.0**-24)
    return u.as_strided(like.shape, like.stride())


def _mixed(x: Tensor, bits: int) -> Tensor:
    return x.bitwise_xor_(_shifted(x, bits))


def _shifted(x: Tensor, bits: int) -> Tensor:
    """X >> bits of an unsigned number that is stored in an int32."""
    return (x >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _signed(number: int) -> int:
    """The int32 with the bits of an unsigned number.

    >>> _signed(0xFFFFFFFF), _signed(5)
    (-1, 5)
    """
    return number - (1 << 32) if number >> 31 else number

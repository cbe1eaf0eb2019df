"""Independent streams of random numbers from one seed, one for each purpose."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def derive(seed: int, *purpose: str | int) -> int:
    """Return the seed of one purpose: equal on every machine, unrelated between purposes.

    >>> derive(0, "order", 1) == derive(0, "order", 1) != derive(0, "order", 2)
    True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class RandomState:
    """A state of torch's global generators that belongs to one run and to nobody else.

    Inside :meth:`in_force` the global generators continue where this run left them; outside they
    are the caller's, untouched.
    """

    def __init__(self, seed: int) -> None:
        self.cpu = torch.Generator().manual_seed(seed).get_state()
        self.cuda = _seeded_cuda(seed)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let the global generators be this run's, until the block ends."""
        theirs = torch.get_rng_state(), _cuda_state()
        _set_state(self.cpu, self.cuda)
        try:
            yield
        finally:
            self.cpu, self.cuda = torch.get_rng_state(), _cuda_state()
            _set_state(*theirs)


def _seeded_cuda(seed: int) -> list[Tensor]:
    if not torch.cuda.is_initialized():
        return []  # torch.manual_seed would look for a GPU, at a third of a millisecond
    theirs = _cuda_state()
    torch.cuda.manual_seed_all(seed)
    mine = _cuda_state()
    torch.cuda.set_rng_state_all(theirs)
    return mine


def _cuda_state() -> list[Tensor]:
    started = torch.cuda.is_initialized()
    return torch.cuda.get_rng_state_all() if started else []


def _set_state(cpu: Tensor, cuda: list[Tensor]) -> None:
    torch.set_rng_state(cpu)
    if cuda:  # a state may come from a machine with more GPUs
        torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])

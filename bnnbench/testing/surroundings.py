"""What belongs to the whole process, which no component may change.

torch's generator may be drawn from, where the harness lends it one of the run's own; to seed it is
to take it from everybody else.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnnbench.testing.checks import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNLIKELY = 1_357_924_680  #: a seed that nobody else takes
DRAWN = "torch's generator"  #: what may be drawn from, where a run's own is in force


def surroundings() -> dict[str, Any]:
    """Return all that is looked at, by what it is called."""
    return {
        "the seed of torch's generator": torch.initial_seed(),
        DRAWN: torch.get_rng_state().numpy().tobytes(),
        "numpy's global generator": repr(np.random.get_state()),
        "Python's global generator": random.getstate(),
        "torch's default type": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's recording of gradients": torch.is_grad_enabled(),
        "torch's choice of deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's precision of products": torch.get_float32_matmul_precision(),
    }


def changed(before: Mapping[str, Any], *, may_draw: bool) -> list[str]:
    """Return the names of what has changed since it was looked at."""
    now = surroundings()
    found = [name for name, value in before.items() if now[name] != value]
    return [name for name in found if not (may_draw and name == DRAWN)]


def _shake() -> None:
    """Let no generator stand where a component may have put it; checks are given theirs back."""
    torch.manual_seed(UNLIKELY)
    np.random.seed(UNLIKELY)
    random.seed(UNLIKELY)


@contextmanager
def untouched(*, may_draw: bool) -> Iterator[None]:
    """Hold a block responsible for what it changes.

    Raises:
        Failure: something has changed.
    """
    _shake()
    before = surroundings()
    yield
    if found := changed(before, may_draw=may_draw):
        raise Failure(f"it changes {' and '.join(found)}, which belongs to the whole process")

"""Steps that take turns in an order drawn anew each round, and the ratios of what they took."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[], object]
WARMUP = 3  #: rounds that do not count


def timed(step: Step) -> float:
    """Seconds; of one thread the processor's, so that who else is at work is not in them."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    step()
    return clock() - begun


def rounds(steps: dict[str, Step], count: int) -> dict[str, list[float]]:
    """The seconds of each step in each round."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(count + WARMUP):
        random.shuffle(names)
        for name in names:
            spent = timed(steps[name])
            if number >= WARMUP:
                found[name].append(spent)
    return found


def ratio(one: list[float], other: list[float], goal: float | None) -> dict[str, Any]:
    """The median of the ratios within a round, their quartiles, and whether a goal is met."""
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    median, quarter = statistics.median(ratios), len(ratios) // 4
    return {
        "ratio": round(median, 3),
        "low": round(ratios[quarter], 3),
        "high": round(ratios[-1 - quarter], 3),
        "goal": goal,
        "met": None if goal is None else median <= goal,
    }

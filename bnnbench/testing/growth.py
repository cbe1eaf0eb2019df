"""Whether memory grows from step to step: that of Python, and that of tensors."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnnbench.testing.blame import home
from bnnbench.testing.checks import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 200
WINDOWS = 4  #: of so many steps; what does not grow in each of them is no leak


class Held(NamedTuple):
    """What is alive: tensors, their bytes, and Python's objects, as blocks of memory."""

    tensors: int
    bytes: int
    python: int


#: what may come and go in a window: less than every other step leaves anything
LEAST = Held(tensors=STEPS // 8, bytes=STEPS, python=STEPS // 2)
_WORDS = ("{} tensors", "{:,} bytes of tensors", "{:,} of Python's objects")


def held() -> Held:
    """Return what is alive at this moment and was not there at first, once rubbish is gone."""
    gc.collect()
    blocks = sys.getallocatedblocks()
    found = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    size = sum(t.numel() * t.element_size() for t in found if t.device.type != "meta")
    return Held(len(found), size, blocks)


def check_flat(steps: Callable[[int], None], component: Any) -> None:
    """Let some steps be made, and compare what is alive before and after, again and again.

    Raises:
        Failure: there is more of it each time.
    """
    steps(20)  # caches fill
    gc.freeze()
    try:
        before = held()
        for _ in range(WINDOWS):
            steps(STEPS)
            after = held()
            grown = [now - was for now, was in zip(after, before, strict=True)]
            more = [n for n, much in enumerate(grown) if much > LEAST[n]]
            if not more:
                return
            before = after
    finally:
        gc.unfreeze()
    told = _WORDS[more[0]].format(grown[more[0]])
    raise Failure(f"every {STEPS} steps it keeps {told} more{_line(steps, component)}")


def _line(steps: Callable[[int], None], component: Any) -> str:
    """The line of the component's own that comes to hold most in some more steps."""
    place = home(component)
    files = f"{place}/*" if place is not None and place.is_dir() else str(place)
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        steps(STEPS)
        held_here = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, files)])
    finally:
        if not traced:
            tracemalloc.stop()
    lines = held_here.statistics("lineno")
    if not lines:
        return ""
    frame = lines[0].traceback[0]
    return f" ({Path(frame.filename).name}, line {frame.lineno})"

"""The epochs at which a probe with much to say says it.

They are 0, 1, 2, 5, 10, 20, 50, 100, ... unless others are named, and always the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnnbench.interfaces import Scene


def chosen(scene: Scene, epochs: tuple[int, ...]) -> bool:
    """Whether to look: at the named ``epochs``, at round ones if none is named, and at the last."""
    named = scene.epoch in epochs if epochs else is_round(scene.epoch)
    return named or scene.last


def is_round(epoch: int) -> bool:
    """Whether an epoch is 0, or 1, 2 or 5 times a power of ten.

    >>> [epoch for epoch in range(300) if is_round(epoch)]
    [0, 1, 2, 5, 10, 20, 50, 100, 200]
    """
    return str(epoch).rstrip("0") in ("", "1", "2", "5")

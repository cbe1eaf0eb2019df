"""bnnbench: which way of training a binarized network is better, by how much, at what cost.

A plugin needs ``bnnbench.hookimpl``, the nouns of :mod:`bnnbench.interfaces` and, for a method,
:mod:`bnnbench.methods`, :mod:`bnnbench.schedules` and :mod:`bnnbench.spaces`. A notebook needs
:func:`load_study`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.hookspecs import API_VERSION, hookimpl
from bnnbench.spaces import Choice, Float, Int

if TYPE_CHECKING:
    from pathlib import Path

    from bnnbench.frames import StudyFrames

__version__ = "0.1.0"

__all__ = ["API_VERSION", "Choice", "Float", "Int", "__version__", "hookimpl", "load_study"]


def load_study(name: str, storage: str | Path | None = None) -> StudyFrames:
    """Return a study whose tables are pandas frames; needs the extra "frames".

    Args:
        name: The study.
        storage: The database, a path or a URL; the command line's default if it is left out.

    Raises:
        UsageError: pandas is not installed, or there is no such study.
        StoreError: there is no such database, or it cannot be read.
    """
    from bnnbench.frames import StudyFrames

    return StudyFrames(name, storage)

"""Every error that bnnbench raises on purpose, and the exit code it ends a command with.

::

    BnnbenchError            1  anything below
    ├── UsageError           2  an unknown name, a bad study file, a hyperparameter out of range
    ├── DataError            3  a data file that is missing, damaged or not what it should be
    ├── StoreError           4  a database that cannot be opened, read or written
    ├── PluginError          5  a plugin that cannot be loaded or that broke its contract
    ├── IncompleteError      6  a study that ended with runs that failed
    └── InterruptedStudyError  130  Ctrl-C or SIGTERM; the study can go on

A message is one line: the law, the offence, the way out.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INTERRUPTED = 130  #: exit code after Ctrl-C, as shells have it


class BnnbenchError(Exception):
    """Anything that bnnbench can say in one line. ``exit_code`` ends the command."""

    exit_code = 1


class UsageError(BnnbenchError):
    """What the user asked for cannot be: an unknown name, a bad file, a value out of range."""

    exit_code = 2


class DataError(BnnbenchError):
    """A data file is missing, damaged or not what it should be."""

    exit_code = 3


class StoreError(BnnbenchError):
    """The database cannot be opened, read or written."""

    exit_code = 4


class PluginError(BnnbenchError):
    """A plugin cannot be loaded, or broke the contract of its interface."""

    exit_code = 5


class IncompleteError(BnnbenchError):
    """A study came to its end with runs that failed."""

    exit_code = 6


class InterruptedStudyError(BnnbenchError):
    """Ctrl-C or SIGTERM while a study ran; the study can go on."""

    exit_code = INTERRUPTED


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest of the known names, else the list of them.

    >>> suggestion("bopp", ["bop", "ste"])
    "; did you mean 'bop'?"
    >>> suggestion("zzz", ["bop", "ste"])
    '; known: bop, ste'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""

"""Kinds of failure: what ended a run that should have gone on, and whether to try it again.

    out-of-memory  the machine or its GPU had no more
    transient      what may pass by itself: a full disk, a device or a network that did not answer
    lost           workers were lost with it, one after the other, at one place
    plugin         any other exception, of a plugin or of bnnbench

A loss that is no finite number is none of them: ``diverged`` is a result. What builds on a run
that failed has failed of the same kind.
"""

from __future__ import annotations

import errno
import re
import traceback
from typing import NamedTuple

from bnnbench.errors import causes

OUT_OF_MEMORY, TRANSIENT, LOST, PLUGIN = "out-of-memory", "transient", "lost", "plugin"
KINDS = (OUT_OF_MEMORY, TRANSIENT, LOST, PLUGIN)

_OF_DISKS = ("EBUSY", "EDQUOT", "EIO", "ENOLCK", "ENOSPC", "ESTALE")
_OF_SYSTEMS = ("EAGAIN", "EHOSTUNREACH", "EMFILE", "ENETDOWN", "ENETUNREACH", "ENFILE")
#: what a system call may come back with today and not tomorrow
PASSING = {getattr(errno, name, None) for name in _OF_DISKS + _OF_SYSTEMS} - {None}
_IN_RUST = re.compile(r"\(os error (\d+)\)")  # as safetensors tells of a system call
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "alloc_failed")


class Failure(NamedTuple):
    """Why a run failed: its kind, the reason in one line, and where it came from, if known."""

    kind: str
    reason: str
    traceback: str = ""

    @property
    def text(self) -> str:
        """All that is known of it."""
        return f"{self.reason}\n{self.traceback}" if self.traceback else self.reason


def failure_of(error: BaseException, reason: str) -> Failure:
    """Return the failure that an exception is, with its traceback."""
    return Failure(kind_of(error), reason, "".join(traceback.format_exception(error)))


def kind_of(error: BaseException) -> str:
    """Return the kind of failure that an exception is, or was raised from.

    >>> kind_of(MemoryError()), kind_of(OSError(28, "No space left on device"))
    ('out-of-memory', 'transient')
    >>> kind_of(FileNotFoundError(2, "No such file or directory"))
    'plugin'
    """
    found = list(causes(error))
    if any(map(is_out_of_memory, found)):
        return OUT_OF_MEMORY
    return TRANSIENT if any(map(_may_pass, found)) else PLUGIN


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was too little memory, on the machine or on a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()  # torch on CPU has no class of its own for it
    return isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, OSError):
        number = error.errno
        return isinstance(error, ConnectionError | TimeoutError) or number in PASSING
    in_rust = _IN_RUST.search(str(error))
    return in_rust is not None and int(in_rust[1]) in PASSING

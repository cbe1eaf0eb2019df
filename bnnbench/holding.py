"""One process at a time runs a study; one that was killed holds it no longer."""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.store import Store


@contextmanager
def held(store: Store, name: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold a study until the block ends; ``take_over`` says that whoever held it is gone.

    Raises:
        UsageError: a living process holds it, or one on another machine that cannot be asked.
    """
    me, before = _name(os.getpid()), store.holder(name)
    if before and not take_over and _alive(before):
        host, pid, _ = before.split(":")
        raise UsageError(
            f"study {name!r} is being run by process {pid} on {host}; wait for it or stop it, or"
            " give --take-over if it is gone with its machine"
        )
    if not store.hold(name, me, expected=before):
        raise UsageError(f"study {name!r} has just been taken by another process; wait for it")
    try:
        yield
    finally:
        store.hold(name, "", expected=me)


def _name(pid: int) -> str:
    return f"{platform.node()}:{pid}:{_started(pid)}"


def _alive(holder: str) -> bool:
    """Whether the holder still runs; one on another machine is believed to."""
    host, pid, started = holder.split(":")
    if host != platform.node():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started == _started(int(pid))


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot: a process number may be used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "0"
    fields = stat.rpartition(")")[2].split()
    return "0" if fields[0] == "Z" else fields[19]

"""A study while it is worked at: by any number of workers, or by one that changes it, alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnnbench.errors import UsageError
from bnnbench.leases import Leases, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.store import Store


@contextmanager
def held(store: Store, name: str, *, take_over: bool = False) -> Iterator[None]:
    """Have a study for oneself until the block ends, to change or delete it.

    ``take_over`` says that whoever works at it on another machine is gone.

    Raises:
        UsageError: somebody works at it.
    """
    leases = Leases(store, take_over=take_over)
    with leases.kept_alive():
        claim = leases.take(_alone(name))
        if claim is None:
            raise UsageError(f"study {name!r} is being changed by another process; wait for it")
        _check_nobody(leases.others(_shared(name)), name, "wait for it or stop it")
        yield


@contextmanager
def shared(store: Store, name: str, *, take_over: bool = False) -> Iterator[Leases]:
    """Work at a study beside others until the block ends.

    Raises:
        UsageError: somebody is changing it.
    """
    store.study(name)  # says so where there is none
    leases = Leases(store, take_over=take_over)
    with leases.kept_alive():
        leases.take(f"{_shared(name)}{leases.holder}")
        _check_nobody(leases.others(_alone(name)), name, "wait for it")
        yield leases


def workers(store: Store, name: str) -> list[str]:
    """Return who works at a study now, as far as can be seen at once."""
    return Leases(store).others(_shared(name))


def _alone(name: str) -> str:
    return f"study {name}/"


def _shared(name: str) -> str:
    return f"worker {name}/"


def _check_nobody(others: list[str], name: str, way_out: str) -> None:
    if others:
        raise UsageError(
            f"study {name!r} is being worked at by {told(others[0])}; {way_out}, or give"
            " --take-over if it is gone with its machine"
        )

"""A study while it is worked at: by any number of workers, or by one that changes it, alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnnbench.errors import UsageError
from bnnbench.leases import Leases, told

MOST_ON_SQLITE = 8  #: workers of a study: they write one after the other

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
def shared(
    store: Store, name: str, *, take_over: bool = False, places: int = 1
) -> Iterator[Leases]:
    """Work at a study beside others until the block ends.

    ``places`` are those that are taken: one, those of the workers that a supervisor starts, or none
    by such a worker.

    Raises:
        UsageError: somebody is changing it, or it has too many workers for its database.
    """
    store.study(name)  # says so where there is none
    leases = Leases(store, take_over=take_over)
    is_small = store.url.get_backend_name() == "sqlite"
    with leases.kept_alive():
        leases.enrol(_shared(name), str(places), _check_count if is_small and places else _any)
        _check_nobody(leases.others(_alone(name)), name, "wait for it")
        yield leases


def workers(store: Store, name: str) -> list[str]:
    """Return who works at a study now, as far as can be seen at once."""
    return Leases(store).others(_shared(name))


def _alone(name: str) -> str:
    return f"study {name}/"


def _shared(name: str) -> str:
    return f"worker {name}/"


def _any(_places: list[str]) -> None:
    """Let any number work at a study."""


def _check_count(places: list[str]) -> None:
    """Refuse more workers than SQLite is for; each lease begins with its number of places."""
    begins = [place.partition(" ")[0] for place in places]
    count = sum(int(word) if word.isdigit() else 1 for word in begins)
    if count > MOST_ON_SQLITE:
        raise UsageError(
            f"on SQLite a study has {MOST_ON_SQLITE} workers at most, this would make {count}; take"
            " fewer, or create it with --storage postgresql://USER@HOST/DATABASE (pip install"
            " 'bnnbench[postgres]')"
        )


def _check_nobody(others: list[str], name: str, way_out: str) -> None:
    if others:
        raise UsageError(
            f"study {name!r} is being worked at by {told(others[0])}; {way_out}, or give"
            " --take-over if it is gone with its machine"
        )

"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.store import Store

DEFAULT_STORAGE = "sqlite:///bnnbench.db"


def storage_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--storage``, which BNNBENCH_STORAGE sets too."""
    return click.option(
        "--storage",
        metavar="URL",
        envvar="BNNBENCH_STORAGE",
        default=DEFAULT_STORAGE,
        show_default=True,
        help="The database: a path or a URL. [env: BNNBENCH_STORAGE]",
    )(function)


def open_store(url: str, *, create: bool = False) -> Store:
    """Return the store at a URL."""
    from bnnbench.store import Store

    return Store(url, create=create)

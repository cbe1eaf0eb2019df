"""Options that several commands share."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli.completion import methods
from bnnbench.errors import UsageError, suggestion
from bnnbench.passwords import masked as masked
from bnnbench.passwords import masked_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

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


def checkpoints_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--checkpoints``, which BNNBENCH_CHECKPOINTS sets too."""
    return click.option(
        "--checkpoints",
        metavar="FOLDER",
        envvar="BNNBENCH_CHECKPOINTS",
        help="Where weights are kept. [default: beside the database] [env: BNNBENCH_CHECKPOINTS]",
    )(function)


def device_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--device``; :func:`bnnbench.cli.devices.usable_device` says which one is meant."""
    return click.option(
        "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ..."
    )(function)


def threads_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--threads``."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads of torch. [default: what is measured to be faster, 1 or all]",
    )(function)


def tasks_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--task``, which may be repeated; :func:`check_names` says whether there are such."""
    return click.option(
        "--task", "tasks", metavar="NAME", multiple=True, help="This task only; may be repeated."
    )(function)


def rounds_option(least: int) -> Callable[[Any], Any]:
    """Return the option ``--rounds``: so many at least, ten by default."""
    return click.option(
        "--rounds",
        type=click.IntRange(min=least),
        default=10,
        show_default=True,
        help="Rounds that count: in each, everything has its turn.",
    )


def check_names(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse the name of a task or method that a study does not have.

    Raises:
        UsageError: with the nearest name.
    """
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {kind} {name!r} in this study{suggestion(name, known)}")


def budget_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--trials``, ``--budget-seconds`` and ``--seeds``, what each method of a study gets."""
    options = (
        click.option(
            "--trials", type=click.IntRange(min=0), help="Trials per method; 0: as published."
        ),
        click.option(
            "--budget-seconds",
            "seconds",
            type=click.FloatRange(min=0, min_open=True),
            help="Tune each method until it has trained for so long, or for --trials if not 0.",
        ),
        click.option("--seeds", type=click.IntRange(min=1), help="Confirming runs per method."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def methods_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--method``, which may be repeated."""
    return click.option(
        "--method",
        "methods",
        metavar="NAME",
        multiple=True,
        shell_complete=methods,
        help="A method, or BINARIZER+OPTIMIZER; repeat it.",
    )(function)


def again(storage: str) -> str:
    """Return what a command needs to find the same database: nothing, or " --storage URL"."""
    if storage == os.environ.get("BNNBENCH_STORAGE", DEFAULT_STORAGE):
        return ""
    return f" --storage {shlex.quote(masked_url(storage))}"


def open_store(url: str, *, create: bool = False) -> Store:
    """Return the store at a URL; what is done to bring it up to date is said."""
    from bnnbench.store import Store

    return Store(url, create=create, told=lambda text: click.echo(text, err=True))


def _values(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, Any]:
    """Hyperparameters as JSON has them; what is no JSON is a text."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"must be KEY=VALUE, as in width=64, got {text!r}")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
    return values


def set_option(told: str) -> Callable[[Any], Any]:
    """Return the option ``--set KEY=VALUE``, whose values are handed on as a dictionary."""
    return click.option(
        "--set", "values", callback=_values, metavar="KEY=VALUE", multiple=True, help=told
    )

"""``bnnbench data``: list data sets, fetch their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli.completion import components
from bnnbench.errors import BnnbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.plugins import Plugins

SHOWN = 3  #: wrong files that are named


@click.group(cls=Group)
def group() -> None:
    """List and fetch data sets."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the data sets, and whether their files are here."""
    from bnnbench.cli.tables import console, table
    from bnnbench.downloads import data_root

    plugins = settings.plugins()
    made = table("data set", "files", title="")
    made.add_column("size")
    made.add_column("what")
    for name in plugins.names("datasets"):
        made.add_row(name, *_row(plugins, name))
    console().print(made, markup=False)
    click.echo(f"files are looked for in {data_root()} (BNNBENCH_DATA)")


def _row(plugins: Plugins, name: str) -> tuple[str, str, str]:
    """The state of a data set's files, their size, and what it is; trouble stays in its row."""
    from rich.filesize import decimal

    from bnnbench.downloads import verify

    try:
        target = plugins.component("datasets", name).target
    except BnnbenchError as error:
        return str(error), "", ""
    source = getattr(target, "source", None)
    if source is None:
        return "needs none", "", _what(target.__doc__ or "")
    try:
        state = _state(verify(source))
    except BnnbenchError as error:
        state = str(error)
    return state, decimal(source.size_bytes), source.citation


def _what(text: str) -> str:
    """The first line of a factory's text, without its verb.

    >>> _what("Return a toy: inputs (n, 3).")
    'A toy: inputs (n, 3).'
    """
    line = text.strip().partition("\n")[0].removeprefix("Return ")
    return line[:1].upper() + line[1:]


def _state(files: Mapping[str, str]) -> str:
    """What there is to say of all the files in a few words.

    >>> _state({"a": "present", "b": "present"}), _state({"a": "missing", "b": "missing"})
    ('present', 'not fetched')
    >>> _state({"a": "damaged", "b": "present", "c": "missing"})
    'a damaged, c missing'
    >>> _state({"images": "by hand", "labels": "present"})
    'by hand'
    >>> _state({"images": "by hand", "labels": "incomplete"})
    'labels incomplete'
    """
    wrong = ("missing", "damaged", "incomplete")
    bad = [f"{name} {state}" for name, state in files.items() if state in wrong]
    if not bad:
        return "by hand" if "by hand" in files.values() else "present"
    if {*files.values()} == {"missing"}:
        return "not fetched"
    more = [f"{len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    return ", ".join(bad[:SHOWN] + more)


@group.command()
@click.argument("name", shell_complete=components("datasets"))
@click.pass_obj
def fetch(settings: Settings, name: str) -> None:
    """Fetch the files of a data set, with their checksums."""
    from bnnbench.downloads import by_hand, folder
    from bnnbench.fetching import fetch as fetch_files

    factory: Any = settings.plugins().get("datasets", name)
    source = getattr(factory, "source", None)
    if source is None:
        raise UsageError(f"data set {name!r} has nothing to fetch: it is embedded or made")
    fetch_files(source)
    for place in by_hand(source):
        click.echo(f"{place} was put there by hand and left as it is; remove it to fetch it anew")
    click.echo(f"{name} is in {folder(source)}")

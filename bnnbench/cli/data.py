"""``bnnbench data``: list data sets, fetch their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.group(cls=Group)
def group() -> None:
    """List and fetch data sets."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the data sets, and whether their files are here."""
    from bnnbench.cli.tables import console, table
    from bnnbench.downloads import data_root, verify
    from bnnbench.plugins import load_plugins

    plugins = load_plugins(settings.blocked)
    made = table("data set", "files", title="")
    made.add_column("size")
    made.add_column("what")
    for name in plugins.names("datasets"):
        component = plugins.component("datasets", name)
        source = getattr(component.target, "source", None)
        if source:
            size = f"{source.size_bytes / 1e6:.1f} MB"
            made.add_row(name, _state(verify(source)), size, source.citation)
        else:
            summary = (component.target.__doc__ or "").strip().partition("\n")[0]
            made.add_row(name, "embedded", "", summary)
    console().print(made, markup=False)
    click.echo(f"files are looked for in {data_root()} (BNNBENCH_DATA)")


def _state(files: Mapping[str, str]) -> str:
    bad = {name: state for name, state in files.items() if state != "present"}
    if not bad:
        return "present"
    if len(bad) == len(files) and set(bad.values()) == {"missing"}:
        return "not fetched"
    return ", ".join(f"{name} {state}" for name, state in bad.items())


@group.command()
@click.argument("name")
@click.pass_obj
def fetch(settings: Settings, name: str) -> None:
    """Fetch the files of a data set, with their checksums."""
    from bnnbench import downloads
    from bnnbench.plugins import load_plugins

    factory: Any = load_plugins(settings.blocked).get("datasets", name)
    source = getattr(factory, "source", None)
    if source is None:
        raise UsageError(f"data set {name!r} has nothing to fetch: it is embedded or made")
    downloads.fetch(source)
    click.echo(f"{name} is in {downloads.folder(source)}")

"""``bnnbench study export NAME``: the study's tables as files."""

from __future__ import annotations

from pathlib import Path

import click

from bnnbench.cli.completion import studies
from bnnbench.cli.options import open_store, storage_option
from bnnbench.formats import FORMATS


@click.command()
@click.argument("name", shell_complete=studies)
@click.option("-o", "--output", metavar="FOLDER", help="Where to; NAME-export by default.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="csv",
    show_default=True,
    help="Parquet needs the extra 'frames'.",
)
@click.option("--force", is_flag=True, help="Replace files that are no export, or were changed.")
@storage_option
def export(name: str, output: str | None, form: str, force: bool, storage: str) -> None:
    """Write a study's runs, measurements and results as tables, with a data dictionary."""
    from bnnbench.export import export as write

    folder = Path(f"{name}-export" if output is None else output)
    write(open_store(storage), name, folder, form, force=force)
    click.echo(str(folder.resolve()))

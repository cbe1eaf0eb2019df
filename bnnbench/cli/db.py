"""``bnnbench db``: bring a database up to date, copy it, look whether it is sound."""

from __future__ import annotations

from pathlib import Path

import click

from bnnbench.cli import Group
from bnnbench.cli.options import checkpoints_option, open_store, storage_option
from bnnbench.errors import StoreError


@click.group(cls=Group)
def group() -> None:
    """Upgrade, copy and check a database."""


@group.command()
@storage_option
def upgrade(storage: str) -> None:
    """Bring the tables up to date; an SQLite file is copied before."""
    from bnnbench.schema import HEAD
    from bnnbench.store import Store

    store = Store(storage, create=False, told=click.echo)
    click.echo(f"{store.place} has schema {HEAD}, which is the newest")


@group.command()
@click.option("-o", "--output", metavar="FILE", help="Where to; beside the database by default.")
@storage_option
def backup(output: str | None, storage: str) -> None:
    """Copy an SQLite database, also while studies are run; the checkpoints are not copied."""
    from bnnbench import backup as copies
    from bnnbench.database import check_file, parse_url

    url = parse_url(storage)
    check_file(url, create=False)
    target = Path(output) if output else None
    click.echo(f"copied to {copies.backup(url, target, lambda text: click.echo(text, err=True))}")


@group.command()
@checkpoints_option
@storage_option
def check(checkpoints: str | None, storage: str) -> None:
    """Look whether the database, Optuna's trials and the checkpoints agree; change nothing."""
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.consistency import look
    from bnnbench.database import checkpoint_folder

    store = open_store(storage)
    kept = Checkpoints(checkpoints or checkpoint_folder(store.url))
    found = look(store, kept)
    for fault in found.faults:
        click.echo(fault)
    for left in found.leftovers:
        click.echo(f"left over, may be deleted: {kept.folder / left}")
    looked = (
        f"studies {found.studies}, runs {found.runs}, Optuna's trials {found.trials},"
        f" checkpoints {found.files}"
    )
    if found.faults:
        raise StoreError(f"{store.place} is not consistent: faults {len(found.faults)}; {looked}")
    click.echo(f"consistent: {looked}")

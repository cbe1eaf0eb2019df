"""``bnnbench packed``: what is in the file of a packed network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bnnbench.cli import Group

if TYPE_CHECKING:
    from bnnbench.packed.description import Provenance
    from bnnbench.packed.network import PackedNetwork


@click.group(cls=Group)
def group() -> None:
    """Look at packed networks, as 'bnnbench export' writes them."""


@group.command()
@click.argument("file", type=click.Path())
def show(file: str) -> None:
    """Show a packed network: its nodes, their weights and bytes, and where it comes from."""
    from bnnbench.packed import load

    packed = load(file)
    _table(packed)
    size = packed.size()
    own = size["binary"] + size["thresholds"] + size["real"]
    click.echo(
        f"inputs {packed.shape}, classes {packed.classes}; weights {own:,} bytes: one bit a weight"
        f" {size['binary']:,}, thresholds {size['thresholds']:,}, real {size['real']:,}; in float32"
        f" {size['float32']:,}: {size['float32'] / own:.1f} times as many"
    )
    made = packed.description.preprocessing
    how = "raw images become inputs by a table" if made.kind == "bytes" else "inputs as prepared by"
    click.echo(f"{how}: {made.said}")
    if packed.description.provenance is not None:
        _origin(packed.description.provenance)


def _table(packed: PackedNetwork) -> None:
    from rich.markup import escape

    from bnnbench.cli.tables import console, table

    made = table("node", "operation", "gives", "shape", "binary weights", "other numbers", "bytes")
    for row in packed.rows():
        shape = " x ".join(map(str, row.shape))
        counts = [f"{n:,}" if n else "" for n in (row.binary, row.real, row.bytes)]
        made.add_row(escape(row.name), row.operation, row.kind, shape, *counts)
    console().print(made)


def _origin(p: Provenance) -> None:
    def percent(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2f} %"

    click.echo(f"from {p.study}/{p.task}/{p.method}/{p.seed}, run {p.key}")
    judged = "" if p.judged == p.mode else f"; judged {p.judged}: {percent(p.judged_accuracy)}"
    is_other = p.stored_accuracy not in (None, p.accuracy)
    stored = f" (in training {percent(p.stored_accuracy)})" if is_other else ""
    click.echo(f"test accuracy {p.mode}: {percent(p.accuracy)}{stored}{judged}")
    click.echo(", ".join(f"{name} {version}" for name, version in p.versions.items()))

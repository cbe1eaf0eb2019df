"""The shell's completion: of commands and options by click, of names here; torch stays outside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from bnnbench.errors import BnnbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    Complete = Callable[[click.Context, click.Parameter, str], list[str]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what lets a shell complete commands and names.

    In ~/.bashrc or ~/.zshrc: eval "$(bnnbench completion bash)"; for fish, in
    ~/.config/fish/completions/bnnbench.fish: bnnbench completion fish | source
    """
    from click.shell_completion import get_completion_class

    from bnnbench.cli import cli

    made: Any = get_completion_class(shell)
    click.echo(made(cli, {}, "bnnbench", "_BNNBENCH_COMPLETE").source())


def components(*kinds: str) -> Complete:
    """Return a completion with the names of all components of some kinds."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        from bnnbench.names import known_names

        names = (name for kind in kinds for name in known_names(kind))
        return [name for name in names if name.startswith(incomplete)]

    return complete


def methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a method, or the one half of a binarizer crossed with an optimizer."""
    binarizer, crossed, rest = incomplete.partition("+")
    if crossed:
        return [f"{binarizer}+{name}" for name in components("optimizers")(ctx, param, rest)]
    halves = [f"{name}+" for name in components("binarizers")(ctx, param, incomplete)]
    return components("methods")(ctx, param, incomplete) + halves


def studies(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a study of the database."""
    return [name for name in _created(ctx) if name.startswith(incomplete)]


def all_studies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a study of the database, or of a bundled one."""
    bundled = components("studies")(ctx, param, incomplete)
    return sorted({*studies(ctx, param, incomplete), *bundled})


def _created(ctx: click.Context) -> list[str]:
    from bnnbench.cli.options import DEFAULT_STORAGE, open_store

    url: Any = ctx.params.get("storage")
    try:
        store = open_store(url or os.environ.get("BNNBENCH_STORAGE") or DEFAULT_STORAGE)
        return [study.name for study in store.studies()]
    except BnnbenchError:
        return []

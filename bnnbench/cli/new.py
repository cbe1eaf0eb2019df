"""``bnnbench plugins new``: begin a plugin, as a package that works."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import click

from bnnbench.cli import Settings
from bnnbench.errors import UsageError
from bnnbench.plugins import singular
from bnnbench.scaffold import ANYBODY, KINDS, Package


@click.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="optimizer",
    show_default=True,
    help="Of what.",
)
@click.option(
    "--path",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Its folder: a new or an empty one. [default: NAME]",
)
@click.pass_obj
def new(settings: Settings, name: str, kind: str, path: Path | None) -> None:
    """Begin a plugin: a package with one component that works, its tests and its study."""
    package = Package(name, kind, _author())
    _check_free(settings, package)
    folder = path or Path(name)
    package.write(folder)
    here = folder.resolve() == Path.cwd()
    click.echo(f"made {package.kind} {name!r} in {folder}, {len(package.files)} files; next:")
    entering = "" if here else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"  {entering}pip install -e '.[dev]' && python -m pytest")
    click.echo(f"  bnnbench plugins check {name}")
    click.echo(f"  bnnbench study create {name} --from study.toml")


def _check_free(settings: Settings, package: Package) -> None:
    """Refuse a name under which the plugin would be left out.

    Raises:
        UsageError: another plugin, or what it offers, is called so.
    """
    plugins, kind = settings.plugins(), KINDS[package.kind]
    if any(plugin.name == package.name for plugin in plugins.plugins):
        raise UsageError(
            f"a new plugin needs a name of its own, there is a plugin {package.name!r} already;"
            f" take another, such as 'my-{package.name}'"
        )
    if package.name in plugins.names(kind):
        owner = plugins.component(kind, package.name).plugin.name
        raise UsageError(
            f"a new {singular(kind)} needs a name of its own, plugin {owner!r} offers"
            f" {package.name!r} already; take another, such as 'my-{package.name}'"
        )


def _author() -> str:
    """The name that git knows the user by, else nobody's."""
    command = ("git", "config", "user.name")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ANYBODY
    return done.stdout.strip() or ANYBODY

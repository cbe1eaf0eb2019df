"""``bnnbench plugins``: list them, show what one offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli import components as facts
from bnnbench.cli.check import check, summary
from bnnbench.cli.completion import components
from bnnbench.cli.new import new
from bnnbench.cli.pages import docs
from bnnbench.conformance import known_levels
from bnnbench.errors import BnnbenchError
from bnnbench.plugins import KINDS

if TYPE_CHECKING:
    from bnnbench.methods import Method
    from bnnbench.plugins import Component, Plugins

WIDE = 120  #: columns from which on a table has room for sentences


@click.group(cls=Group)
def group() -> None:
    """List plugins, explain what they offer, begin new ones."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List every plugin that was found, yours first: what it offers, or why it is not in use."""
    from bnnbench.cli.tables import console, table
    from bnnbench.plugins import BUNDLED, load_commands

    made = table("plugin", "status", title="")
    made.columns[1].no_wrap = True
    made.add_column("from", no_wrap=True)
    made.add_column("checks", overflow="fold")
    made.add_column("offers, or why not", overflow="fold")
    plugins = settings.plugins()
    found = [*plugins.plugins, *load_commands(settings.blocked)[1]]
    for plugin in sorted(found, key=lambda plugin: plugin.distribution == BUNDLED):
        offers = "; ".join(f"{k}: {', '.join(names)}" for k, names in plugin.components.items())
        made.add_row(
            plugin.name,
            plugin.status,
            f"{plugin.distribution} {plugin.version}".strip() or plugin.module,
            summary(plugins, plugin),
            plugin.reason or offers,
        )
    console().print(made, markup=False)


@group.command()
@click.argument("name", shell_complete=components(*KINDS))
@click.pass_obj
def show(settings: Settings, name: str) -> None:
    """Explain a component: its equations, hyperparameters, defaults, search space and source."""
    plugins = settings.plugins()
    told: set[str] = set()  # the modules whose texts have been printed
    for number, component in enumerate(facts.named(plugins, name)):
        if number:
            click.echo()
        _explain(plugins, component, told)


def _explain(plugins: Plugins, component: Component, told: set[str]) -> None:
    click.echo(f"{facts.title(component)} of {facts.origin(component)}")
    click.echo()
    if component.kind == "studies":
        click.echo(component.target.read_text(encoding="utf-8"))
        return
    click.echo(_text(component, told))
    print_hyperparameters(component)
    if component.kind == "methods":
        _print_method(plugins, component.name)
    click.echo(f"code: {facts.code(component)}")
    click.echo(f"checks: {known_levels([component])[f'{component.kind}/{component.name}']}")


def _text(component: Component, told: set[str]) -> str:
    """The text of the component's module, which holds its equations, then its own.

    A module's is printed once; what the table of hyperparameters explains is left to it.
    """
    from bnnbench.cli.tables import console

    name = component.target.__module__
    module = facts.module_text(component) if name not in told else ""
    told.add(name)
    own = facts.own_text(component, args=console().width < WIDE)
    return "\n\n".join(text for text in (module, own) if text) or "(no description)"


def print_hyperparameters(component: Component) -> None:
    """Print a table of a component's hyperparameters, if it has any."""
    from bnnbench.cli.tables import console, table

    found = facts.hyperparameter_rows(component)
    if not found:
        return
    out, made = console(), table("hyperparameter", "type", title="")
    made.add_column("default")
    made.add_column("search space")
    explained = out.width >= WIDE and any(h.meaning for h in found)
    if explained:
        made.add_column("meaning", overflow="fold")
    for h in found:
        made.add_row(*(h if explained else h[:-1]))
    out.print(made, markup=False)


def _print_method(plugins: Plugins, name: str) -> None:
    """The phases of a method with its default hyperparameters, and how it is judged."""
    try:
        method = facts.default_method(plugins, name)
        _print_phases(method)
        _print_modes(method)
    except BnnbenchError as error:
        click.echo(f"without values of your own it has no phases: {error}")


def _print_phases(method: Method) -> None:
    from bnnbench.cli.tables import console, table

    first, second, *rest = facts.PHASES
    made = table(first, second, title="phases, with default hyperparameters")
    for column in rest:
        made.add_column(column, overflow="fold")
    for row in facts.phase_rows(method):
        made.add_row(*row)
    console().print(made, markup=False)


def _print_modes(method: Method) -> None:
    from bnnbench.cli.tables import console, table

    made = table("inference mode", "")
    for row in facts.mode_rows(method):
        made.add_row(*row)
    console().print(made, markup=False)


group.add_command(new)
group.add_command(docs)
group.add_command(check)

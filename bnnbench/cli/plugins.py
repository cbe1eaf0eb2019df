"""``bnnbench plugins``: list them, show what one offers."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.errors import UsageError, suggestion

if TYPE_CHECKING:
    from bnnbench.plugins import Component, Plugins


@click.group(cls=Group)
def group() -> None:
    """List plugins and explain what they offer."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List every plugin that was found, what it offers, or why it is not in use."""
    from bnnbench.cli.tables import console, table
    from bnnbench.plugins import load_commands, load_plugins

    made = table("plugin", "status", title="")
    made.columns[1].no_wrap = True
    made.add_column("from", no_wrap=True)
    made.add_column("offers, or why not", overflow="fold")
    found = load_plugins(settings.blocked).plugins
    for plugin in [*found, *load_commands(settings.blocked)[1]]:
        offers = "; ".join(f"{k}: {', '.join(names)}" for k, names in plugin.components.items())
        made.add_row(
            plugin.name,
            plugin.status,
            f"{plugin.distribution} {plugin.version}".strip() or plugin.module,
            plugin.reason or offers,
        )
    console().print(made, markup=False)


@group.command()
@click.argument("name")
@click.pass_obj
def show(settings: Settings, name: str) -> None:
    """Explain a component: its equations, hyperparameters, defaults, search space and source."""
    from bnnbench.plugins import load_plugins

    plugins = load_plugins(settings.blocked)
    found = _named(plugins, name)
    if not found:
        known = {n for kind in _kinds() for n in plugins.names(kind)}
        known |= {plugin.name for plugin in plugins.plugins}
        raise UsageError(f"no plugin or component is called {name!r}{suggestion(name, known)}")
    for number, component in enumerate(found):
        if number:
            click.echo()
        _explain(component)


def _kinds() -> tuple[str, ...]:
    from bnnbench.plugins import KINDS

    return KINDS


def _named(plugins: Plugins, name: str) -> list[Component]:
    kind, _, rest = name.partition("/")
    if rest and kind in _kinds():
        return [plugins.component(kind, rest)]
    found = [plugins.component(k, name) for k in _kinds() if name in plugins.names(k)]
    whole = next((p for p in plugins.plugins if p.name == name), None)
    if whole and not found:
        if whole.reason:
            raise UsageError(f"plugin {name!r} is not in use: {whole.reason}")
        found = [plugins.component(k, n) for k, names in whole.components.items() for n in names]
    return found


def _explain(component: Component) -> None:
    from bnnbench.plugins import singular

    plugin = component.plugin
    title = f"{component.name}: {singular(component.kind)}"
    click.echo(f"{title} of plugin {plugin.name!r} ({plugin.distribution} {plugin.version})")
    click.echo()
    target = component.target
    if component.kind == "studies":
        click.echo(target.read_text(encoding="utf-8"))
        return
    click.echo(_text(target))
    _print_hyperparameters(component)
    source = f"{target.__module__}.{getattr(target, '__qualname__', component.name)}"
    click.echo(f"code: {source}")


def _text(target: Any) -> str:
    """The text of the component's module, which holds its equations, then its own."""
    module = inspect.getdoc(inspect.getmodule(target))
    own = inspect.getdoc(target)
    return "\n\n".join(text for text in (module, own) if text) or "(no description)"


def _print_hyperparameters(component: Component) -> None:
    from bnnbench.cli.tables import console, table
    from bnnbench.experiments import GIVEN
    from bnnbench.spaces import hyperparameters

    found = hyperparameters(component.target, GIVEN.get(component.kind, ()))
    if not found:
        return
    made = table("hyperparameter", "type", title="")
    made.add_column("default")
    made.add_column("search space")
    for h in found.values():
        default = "(needed)" if h.required else repr(h.default)
        made.add_row(h.name, h.type_name, default, str(h.space or "-"))
    console().print(made, markup=False)

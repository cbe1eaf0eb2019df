"""``bnnbench plugins``: list them, show what one offers."""

from __future__ import annotations

import functools
import inspect
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli.completion import components
from bnnbench.errors import BnnbenchError, UsageError, suggestion
from bnnbench.plugins import KINDS

if TYPE_CHECKING:
    from bnnbench.methods import Method, Phase
    from bnnbench.plugins import Component, Plugins
    from bnnbench.schedules import Scheduled

WIDE = 120  #: columns from which on a table has room for sentences


@click.group(cls=Group)
def group() -> None:
    """List plugins and explain what they offer."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List every plugin that was found, what it offers, or why it is not in use."""
    from bnnbench.cli.tables import console, table
    from bnnbench.plugins import load_commands

    made = table("plugin", "status", title="")
    made.columns[1].no_wrap = True
    made.add_column("from", no_wrap=True)
    made.add_column("offers, or why not", overflow="fold")
    found = settings.plugins().plugins
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
@click.argument("name", shell_complete=components(*KINDS))
@click.pass_obj
def show(settings: Settings, name: str) -> None:
    """Explain a component: its equations, hyperparameters, defaults, search space and source."""
    plugins = settings.plugins()
    found = _named(plugins, name)
    if not found:
        known = {n for kind in KINDS for n in plugins.names(kind)}
        known |= {plugin.name for plugin in plugins.plugins}
        raise UsageError(f"no plugin or component is called {name!r}{_hint(name, known)}")
    told: set[str] = set()  # the modules whose texts have been printed
    for number, component in enumerate(found):
        if number:
            click.echo()
        _explain(plugins, component, told)


def _hint(name: str, known: set[str]) -> str:
    """The nearest name, or where all of them are: they are too many for a line."""
    near = get_close_matches(name, sorted(known), n=1)
    return suggestion(name, near) or "; 'bnnbench plugins list' names them all"


def _named(plugins: Plugins, name: str) -> list[Component]:
    kind, _, rest = name.partition("/")
    if rest and kind in KINDS:
        return [plugins.component(kind, rest)]
    found = [plugins.component(k, name) for k in KINDS if name in plugins.names(k)]
    whole = next((p for p in plugins.plugins if p.name == name), None)
    if whole and not found:
        if whole.reason:
            raise UsageError(f"plugin {name!r} is not in use: {whole.reason}")
        found = [plugins.component(k, n) for k, names in whole.components.items() for n in names]
    return found


def _explain(plugins: Plugins, component: Component, told: set[str]) -> None:
    from bnnbench.plugins import singular

    plugin = component.plugin
    title = f"{component.name}: {singular(component.kind)}"
    click.echo(f"{title} of plugin {plugin.name!r} ({plugin.distribution} {plugin.version})")
    click.echo()
    target = component.target
    if component.kind == "studies":
        click.echo(target.read_text(encoding="utf-8"))
        return
    click.echo(_text(target, told))
    print_hyperparameters(component)
    if component.kind == "methods":
        _print_method(plugins, component.name)
    source = f"{target.__module__}.{getattr(target, '__qualname__', component.name)}"
    click.echo(f"code: {source}")


def _text(target: Any, told: set[str]) -> str:
    """The text of the component's module, which holds its equations, then its own.

    A module's is printed once; what the table of hyperparameters explains is left to it.
    """
    from bnnbench.cli.tables import console

    module = inspect.getdoc(inspect.getmodule(target)) if target.__module__ not in told else ""
    told.add(target.__module__)
    own = inspect.getdoc(target)
    if own and console().width >= WIDE:
        own = re.sub(r"\n*Args:\n(?:[ ].*\n?|\n)*", "\n\n", own).strip()
    return "\n\n".join(text for text in (module, own) if text) or "(no description)"


def print_hyperparameters(component: Component) -> None:
    """Print a table of a component's hyperparameters, if it has any."""
    from bnnbench.cli.tables import console, table
    from bnnbench.experiments import GIVEN
    from bnnbench.spaces import hyperparameters

    found = hyperparameters(component.target, GIVEN.get(component.kind, ()))
    if not found:
        return
    out, made = console(), table("hyperparameter", "type", title="")
    made.add_column("default")
    made.add_column("search space")
    explained = explanations(component.target) if out.width >= WIDE else {}
    if explained:
        made.add_column("meaning", overflow="fold")
    for h in found.values():
        default = "(needed)" if h.required else _shown(h.default)
        row = (h.name, h.type_name, default, str(h.space or "-"))
        made.add_row(*row, *([explained.get(h.name, "")] if explained else ()))
    out.print(made, markup=False)


def _shown(value: Any) -> str:
    """A default as people write it: a sixth is not 0.16666666666666666."""
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def explanations(component: Any) -> dict[str, str]:
    """Return what the docstring says of each parameter, read from its section "Args".

    >>> def factory(lr, beta):
    ...     '''Make one.
    ...
    ...     Args:
    ...         lr: how far
    ...             a step goes.
    ...         beta: how steep.
    ...
    ...     Raises:
    ...         ValueError: never.
    ...     '''
    >>> explanations(factory)
    {'lr': 'how far a step goes.', 'beta': 'how steep.'}
    """
    _, _, section = (inspect.getdoc(component) or "").partition("Args:\n")
    section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
    items = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in items}


def _print_method(plugins: Plugins, name: str) -> None:
    """The phases of a method with its default hyperparameters, and how it is judged."""
    from bnnbench.experiments import Workbench
    from bnnbench.runs import Part

    try:
        method: Method = Workbench(plugins).build("methods", Part(name))
        _print_phases(method)
        _print_modes(method)
    except BnnbenchError as error:
        click.echo(f"without values of your own it has no phases: {error}")


def _print_phases(method: Method) -> None:
    from bnnbench.cli.tables import console, table

    made = table("phase", "share of epochs", title="phases, with default hyperparameters")
    for column in ("computes with", "binary weights moved by", "real parameters moved by"):
        made.add_column(column, overflow="fold")
    made.add_column("remarks", overflow="fold")
    for number, phase in enumerate(method.phases, start=1):
        made.add_row(
            f"{number} {phase.name}".strip(),
            f"{100 * phase.share:.3g} %",
            *(_built(scheduled) for scheduled in (phase.binarizer, phase.binary, phase.real)),
            _remarks(phase),
        )
    console().print(made, markup=False)


def _print_modes(method: Method) -> None:
    from bnnbench.cli.tables import console, table

    made = table("inference mode", "")
    for name, mode in method.inference_modes().items():
        told = ["judged with"] if name == method.judged else []
        told += [f"the mean output of {mode.draws} drawn networks"] if mode.draws > 1 else []
        made.add_row(name, "; ".join(told))
    console().print(made, markup=False)


def _built(scheduled: Scheduled[Any]) -> str:
    """What is built, as one would write it, with its schedules.

    >>> from bnnbench.schedules import Linear, Scheduled
    >>> _built(Scheduled(dict, lr=Linear(1.0, 0.0), momentum=0.9))
    'dict(lr=Linear(start=1.0, end=0.0), momentum=0.9)'
    """
    hyper = ", ".join(f"{name}={_value(value)}" for name, value in scheduled.hyper.items())
    return f"{_name(scheduled.kind)}({hyper})"


def _value(value: Any) -> str:
    from bnnbench.schedules import PerLayer

    if isinstance(value, PerLayer):
        return f"{_value(value.value)} x {_name(value.factor)}(layer)"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return _name(value)
    return repr(value)


def _name(function: Any) -> str:
    """The name of a function or class, with what it is given beforehand."""
    if isinstance(function, functools.partial):
        given = [*map(repr, function.args)]
        given += [f"{name}={value!r}" for name, value in function.keywords.items()]
        return f"{_name(function.func)}[{', '.join(given)}]"
    return str(getattr(function, "__name__", repr(function)))


def _remarks(phase: Phase) -> str:
    told = ["continues the one before"] if phase.continues else []
    told += [] if phase.selectable else ["not selectable"]
    return ", ".join(told)

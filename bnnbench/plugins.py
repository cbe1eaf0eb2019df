"""Loading plugins, one by one, so that a bad one costs only itself.

pluggy isolates nothing: one ImportError stops all, a name given twice vanishes, a misspelt hook is
ignored. Here each plugin is imported, checked and asked for its components on its own; one that
fails is left out whole, and :class:`Plugin` says why.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bnnbench import hookspecs
from bnnbench.errors import BnnbenchError, PluginError, UsageError, suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path
    from types import ModuleType

    import click

    from bnnbench.onefile import PluginFile

GROUP = "bnnbench"
COMMANDS_GROUP = "bnnbench.commands"
BUNDLED = "bnnbench"  # the distribution whose plugins come first
BLOCKED = "blocked by BNNBENCH_BLOCK_PLUGINS or -p no:NAME"
KINDS = (
    "methods",
    "binarizers",
    "optimizers",
    "architectures",
    "datasets",
    "losses",
    "probes",
    "studies",
    "figures",
)
_SINGULAR = {"losses": "loss", "studies": "study", "datasets": "data set"}


def singular(kind: str) -> str:
    """Return the name of one thing of a kind: "losses" is "loss"."""
    return _SINGULAR.get(kind, kind.removesuffix("s"))


@dataclass
class Plugin:
    """A plugin that was found: its name, where it comes from, what it offers or why it does not."""

    name: str
    module: str
    distribution: str
    version: str
    reason: str = ""
    components: dict[str, list[str]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``ok``, ``failed`` or ``blocked``."""
        if not self.reason:
            return "ok"
        return "blocked" if self.reason == BLOCKED else "failed"


class Component:
    """Something registered; a reference "package.module:attribute" is imported when first used.

    ``reference`` is that, or the component itself.
    """

    def __init__(self, kind: str, name: str, plugin: Plugin, target: Any) -> None:
        self.kind, self.name, self.plugin, self.reference = kind, name, plugin, target

    @cached_property
    def target(self) -> Any:
        """The component itself.

        Raises:
            PluginError: the reference cannot be imported.
        """
        given = self.reference
        if not (isinstance(given, str) and ":" in given and self.kind != "studies"):
            return given
        module, _, attribute = given.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # whatever a plugin's module may raise
            raise PluginError(
                f"{singular(self.kind)} {self.name!r} of plugin {self.plugin.name!r} cannot be"
                f" imported from {given!r}: {describe(error)}"
            ) from error


class Plugins:
    """All plugins of this environment and the components that they offer."""

    def __init__(
        self,
        entry_points: Iterable[EntryPoint],
        blocked: Iterable[str] = (),
        files: Iterable[PluginFile] = (),
    ) -> None:
        self.plugins: list[Plugin] = []
        self._components: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}
        for entry_point in sorted(entry_points, key=_order):
            self._add(entry_point, frozenset(blocked))
        for file in files:
            self._add(file, frozenset(blocked))

    def names(self, kind: str) -> list[str]:
        """Return the names of all components of a kind, sorted."""
        return sorted(self._components[kind])

    def component(self, kind: str, name: str) -> Component:
        """Return the component of this name.

        Raises:
            UsageError: no plugin that works offers it; the nearest name and the plugins that
                failed are named.
        """
        if name in self._components[kind]:
            return self._components[kind][name]
        hint = suggestion(name, self._components[kind])
        failed = [plugin for plugin in self.plugins if plugin.reason]
        if failed:
            reasons = "; ".join(f"{p.name}: {p.reason}" for p in failed)
            hint += f" (plugins that are not in use: {reasons})"
        thing = singular(kind)
        article = "an" if thing[0] in "aeiou" else "a"
        raise UsageError(f"no plugin offers {article} {thing} called {name!r}{hint}")

    def get(self, kind: str, name: str) -> Any:
        """Return what was registered under this name, imported if need be."""
        return self.component(kind, name).target

    def _add(self, source: EntryPoint | PluginFile, blocked: frozenset[str]) -> None:
        plugin = _plugin(source)
        taken = next((p for p in self.plugins if p.name == plugin.name), None)
        self.plugins.append(plugin)
        if plugin.name in blocked:
            plugin.reason = BLOCKED
        elif taken:
            plugin.reason = (
                f"the name {plugin.name!r} is taken by {taken.distribution or taken.module}"
            )
        else:
            try:
                self._register(plugin, _load(source, hookspecs_wanted=_COMPONENT_HOOKS))
            except PluginError as error:
                plugin.reason = str(error)

    def _register(self, plugin: Plugin, module: ModuleType) -> None:
        """Take all components of a plugin, or none."""
        offered: list[Component] = []
        for kind in KINDS:
            hook = getattr(module, f"register_{kind}", None)
            if hook is None:
                continue

            def register(name: str, target: Any, kind: str = kind) -> None:
                offered.append(self._checked(Component(kind, name, plugin, target), offered))

            call_hook(hook, register)
        for component in offered:
            self._components[component.kind][component.name] = component
            plugin.components.setdefault(component.kind, []).append(component.name)

    def _checked(self, component: Component, offered: list[Component]) -> Component:
        kind, name = component.kind, component.name
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            raise PluginError(
                f"a name must be letters, digits and -_. only, got {name!r}; write register(name,"
                f" {singular(kind)})"
            )
        given = component.reference
        if not (isinstance(given, str) or kind == "studies" or callable(given)):
            raise PluginError(f"a {singular(kind)} must be callable, got {given!r}")
        rivals = [c for c in offered if (c.kind, c.name) == (kind, name)]
        rivals += [c for c in [self._components[kind].get(name)] if c]
        if rivals:
            raise PluginError(
                f"the {singular(kind)} name {name!r} is taken by plugin"
                f" {rivals[0].plugin.name!r}; take another, such as 'my-{name}'"
            )
        return component


def load_plugins(blocked: Iterable[str] = (), files: Iterable[str | Path] = ()) -> Plugins:
    """Return the plugins of this environment, but for the blocked ones, and those of some files.

    ``BNNBENCH_BLOCK_PLUGINS`` holds more names to block, separated by commas.

    Raises:
        UsageError: a path is no Python file that can be read.
        PluginError: a file's plugin does not work; it was asked for, so that it is not left out.
    """
    from importlib.metadata import entry_points

    from bnnbench.onefile import plugin_files

    asked = plugin_files(files)
    plugins = Plugins(entry_points(group=GROUP), blocked_names(blocked), asked)
    for plugin in plugins.plugins:
        if plugin.status == "failed" and plugin.module in {file.value for file in asked}:
            raise PluginError(f"the plugin of {plugin.module} cannot be used: {plugin.reason}")
    return plugins


def load_commands(
    blocked: Iterable[str] = (), taken: Iterable[str] = ()
) -> tuple[dict[str, click.Command], list[Plugin]]:
    """Return the click commands of all plugins by name, and the plugins of the commands' group.

    A plugin whose command has a name that is ``taken``, or no command's type, is left out whole.
    """
    from importlib.metadata import entry_points

    commands: dict[str, click.Command] = {}
    plugins = []
    for entry_point in sorted(entry_points(group=COMMANDS_GROUP), key=_order):
        plugin = _plugin(entry_point)
        plugins.append(plugin)
        if plugin.name in blocked_names(blocked):
            plugin.reason = BLOCKED
            continue
        try:
            offered = _commands(entry_point, {*commands, *taken})
        except PluginError as error:
            plugin.reason = str(error)
        else:
            commands |= offered
            plugin.components["commands"] = list(offered)
    return commands, plugins


def _commands(entry_point: EntryPoint, taken: set[str]) -> dict[str, click.Command]:
    import click

    found: list[Any] = []
    module = _load(entry_point, hookspecs_wanted={"register_commands"})
    call_hook(module.register_commands, found.append)
    for command in found:
        if not isinstance(command, click.Command):
            raise PluginError(f"a command must be a click.Command, got {command!r}")
        if command.name in taken:
            raise PluginError(f"the command name {command.name!r} is taken")
    return {str(command.name): command for command in found}


def blocked_names(names: Iterable[str]) -> frozenset[str]:
    """Return the names to block: those given and those of BNNBENCH_BLOCK_PLUGINS."""
    listed = os.environ.get("BNNBENCH_BLOCK_PLUGINS", "").split(",")
    return frozenset(name.strip() for name in [*names, *listed] if name.strip())


def describe(error: BaseException) -> str:
    """Return an exception in one line: its type and its first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def call_hook(hook: Callable[..., Any], register: Callable[..., None]) -> None:
    """Call a plugin's hook; whatever it raises becomes a PluginError of one line."""
    try:
        hook(register=register)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plugin's hook may raise
        raise PluginError(f"{hook.__name__} failed: {describe(error)}") from error


def _plugin(source: EntryPoint | PluginFile) -> Plugin:
    distribution = source.dist
    return Plugin(
        name=source.name,
        module=source.value,
        distribution=distribution.name if distribution else "",
        version=_version(source),
    )


def _version(source: EntryPoint | PluginFile) -> str:
    """The version of a plugin; of others' packages with the digits of their code."""
    from bnnbench.onefile import PluginFile
    from bnnbench.sources import digits

    distribution = source.dist
    if distribution is None:
        return ""
    if isinstance(source, PluginFile) or distribution.name == BUNDLED:
        return str(distribution.version)
    code = digits(source.value)
    return f"{distribution.version}+{code}" if code else str(distribution.version)


def _order(entry_point: EntryPoint) -> tuple[bool, str, str]:
    distribution = entry_point.dist.name if entry_point.dist else ""
    return distribution != BUNDLED, entry_point.name, distribution


_ALL_HOOKS = {name for name in vars(hookspecs) if name.startswith("register_")}
_COMPONENT_HOOKS = _ALL_HOOKS - {"register_commands"}


def _load(source: EntryPoint | PluginFile, hookspecs_wanted: set[str]) -> ModuleType:
    """Import a plugin's module and check it against the API."""
    try:
        module: ModuleType = source.load()
    except BnnbenchError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plugin's import may raise
        raise PluginError(f"import of {source.value} failed: {describe(error)}") from error
    _check_api(getattr(module, "requires_api", hookspecs.API_VERSION))
    _check_hooks(module, hookspecs_wanted)
    return module


def _check_api(wanted: Any) -> None:
    ours = tuple(int(part) for part in hookspecs.API_VERSION.split("."))
    match = re.fullmatch(r"(\d+)\.(\d+)", str(wanted))
    if not match:
        raise PluginError(f"requires_api must be 'MAJOR.MINOR', got {wanted!r}")
    theirs = int(match[1]), int(match[2])
    if theirs[0] != ours[0] or theirs > ours:
        raise PluginError(
            f"requires plugin API {wanted}, this bnnbench has {hookspecs.API_VERSION};"
            " install versions that fit together"
        )


def _check_hooks(module: ModuleType, wanted: set[str]) -> None:
    """Let pluggy check the signatures, and refuse hooks that do not exist."""
    import pluggy

    hooks = {n for n, f in vars(module).items() if getattr(f, "bnnbench_impl", None)}
    hooks |= {n for n in vars(module) if n.startswith("register_")}
    for name in sorted(hooks - wanted):
        if name in _ALL_HOOKS:
            group = COMMANDS_GROUP if name == "register_commands" else GROUP
            raise PluginError(f"{name} must be in a module of the entry-point group {group!r}")
        raise PluginError(f"there is no hook {name!r}{suggestion(name, wanted)}")
    if not hooks:
        raise PluginError(f"it has no hook; known: {', '.join(sorted(wanted))}")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    unmarked = hooks - {n for n in hooks if getattr(getattr(module, n), "bnnbench_impl", None)}
    if unmarked:
        raise PluginError(f"{sorted(unmarked)[0]} must be marked with @bnnbench.hookimpl")

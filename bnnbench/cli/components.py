"""What there is to say of a component: ``plugins show`` prints it, ``plugins docs`` writes it."""

from __future__ import annotations

import functools
import inspect
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.errors import UsageError, suggestion
from bnnbench.plugins import KINDS, singular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.methods import Method, Phase
    from bnnbench.plugins import Component, Plugins
    from bnnbench.schedules import Scheduled
    from bnnbench.spaces import Hyperparameter

PLAIN = ("figures", "studies")  #: kinds without hyperparameters
PHASES = (
    "phase",
    "share of epochs",
    "computes with",
    "binary weights moved by",
    "real parameters moved by",
    "remarks",
)


class Told(NamedTuple):
    """A hyperparameter as people write it; what has no search space is "-"."""

    name: str
    type_name: str
    default: str
    space: str
    meaning: str


def named(plugins: Plugins, name: str) -> list[Component]:
    """Return the components of a name: one, one of each kind, KIND/NAME, or all of a plugin.

    Raises:
        UsageError: there is none, or its plugin is not in use.
    """
    kind, _, rest = name.partition("/")
    if rest and kind in KINDS:
        return [plugins.component(kind, rest)]
    found = [plugins.component(k, name) for k in KINDS if name in plugins.names(k)]
    found = found or _of_plugin(plugins, name)
    if not found:
        known = {n for kind in KINDS for n in plugins.names(kind)}
        known |= {plugin.name for plugin in plugins.plugins}
        raise UsageError(f"no plugin or component is called {name!r}{_hint(name, known)}")
    return found


def _of_plugin(plugins: Plugins, name: str) -> list[Component]:
    whole = next((p for p in plugins.plugins if p.name == name), None)
    if whole is None:
        return []
    if whole.reason:
        raise UsageError(f"plugin {name!r} is not in use: {whole.reason}")
    return [plugins.component(k, n) for k, names in whole.components.items() for n in names]


def _hint(name: str, known: set[str]) -> str:
    """The nearest name, or where all of them are: they are too many for a line."""
    near = get_close_matches(name, sorted(known), n=1)
    return suggestion(name, near) or "; 'bnnbench plugins list' names them all"


def title(component: Component) -> str:
    """Return its name and kind: "digits: data set"."""
    return f"{component.name}: {singular(component.kind)}"


def origin(component: Component) -> str:
    """Return the plugin that it comes from, and the version."""
    plugin = component.plugin
    return f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version})"


def code(component: Component) -> str:
    """Return where its code is."""
    target = component.target
    return f"{target.__module__}.{getattr(target, '__qualname__', component.name)}"


def module_text(component: Component) -> str:
    """Return the text of the component's module, which holds its equations."""
    return inspect.getdoc(inspect.getmodule(component.target)) or ""


def own_text(component: Component, *, args: bool = True) -> str:
    """Return the component's own text, with or without what it says of its parameters."""
    own = inspect.getdoc(component.target) or ""
    return own if args else re.sub(r"\n*Args:\n(?:[ ].*\n?|\n)*", "\n\n", own).strip()


def hyperparameters_of(component: Component) -> list[Hyperparameter]:
    """Return a component's hyperparameters in the order of its signature."""
    from bnnbench.experiments import GIVEN
    from bnnbench.spaces import hyperparameters

    if component.kind in PLAIN:
        return []
    return list(hyperparameters(component.target, GIVEN.get(component.kind, ())).values())


def hyperparameter_rows(component: Component) -> list[Told]:
    """Return what there is to say of each hyperparameter."""
    meanings = explanations(component.target)
    return [
        Told(
            h.name,
            h.type_name,
            "(needed)" if h.required else _shown(h.default),
            str(h.space or "-"),
            meanings.get(h.name, ""),
        )
        for h in hyperparameters_of(component)
    ]


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


def default_method(plugins: Plugins, name: str) -> Method:
    """Return a method with its default hyperparameters.

    Raises:
        BnnbenchError: it has a hyperparameter without a default, or its code fails.
    """
    from bnnbench.experiments import Workbench
    from bnnbench.runs import Part

    method: Method = Workbench(plugins).build("methods", Part(name))
    return method


def phase_rows(method: Method) -> Iterator[tuple[str, ...]]:
    """Yield a row of :data:`PHASES` for each phase of a method."""
    for number, phase in enumerate(method.phases, start=1):
        yield (
            f"{number} {phase.name}".strip(),
            f"{100 * phase.share:.3g} %",
            *(_built(scheduled) for scheduled in (phase.binarizer, phase.binary, phase.real)),
            _remarks(phase),
        )


def mode_rows(method: Method) -> Iterator[tuple[str, str]]:
    """Yield each inference mode of a method, and what there is to say of it."""
    for name, mode in method.inference_modes().items():
        told = ["judged with"] if name == method.judged else []
        told += [f"the mean output of {mode.draws} drawn networks"] if mode.draws > 1 else []
        yield name, "; ".join(told)


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

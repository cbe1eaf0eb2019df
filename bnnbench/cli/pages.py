"""``bnnbench plugins docs``: a component's page in Markdown, from the same facts as ``show``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from bnnbench.cli import Settings
from bnnbench.cli import components as facts
from bnnbench.cli.completion import components
from bnnbench.errors import BnnbenchError
from bnnbench.plugins import KINDS, singular

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.plugins import Component, Plugins
    from bnnbench.spaces import Hyperparameter

LABELS = {"source": "Source", "departs from": "Departures", "tune": "What to tune"}
_LABEL = re.compile(r"(source|tune|departs from)\b(?: ([^:]*))?: ?(.*)")
_METHOD = {
    "methods": {"method": "{}"},
    "binarizers": {"binarizer": "{}", "optimizer": "clipped-adam"},
    "optimizers": {"binarizer": "sign", "optimizer": "{}"},
}
_TASK = {
    "dataset": '"digits"',
    "architecture": '"mlp"',
    "loss": '"squared-hinge"',
    "epochs": "10",
}


@click.command()
@click.argument("name", shell_complete=components(*KINDS))
@click.pass_obj
def docs(settings: Settings, name: str) -> None:
    """Write a component's page as Markdown: what `show` says, and how to use it in a study."""
    plugins = settings.plugins()
    found = facts.named(plugins, name)
    click.echo("\n".join(page(plugins, component) for component in found), nl=False)


def page(plugins: Plugins, component: Component) -> str:
    """Return a component's page, a Markdown document that ends with a line break."""
    head = [f"# {facts.title(component)}", f"Of {facts.origin(component)}."]
    if component.kind == "studies":
        text = component.target.read_text(encoding="utf-8")
        return _joined([*head, _usage(component), "## The study file", _fenced("toml", text)])
    text, labelled = sections(facts.module_text(component))
    own = facts.own_text(component, args=not _explained(component))
    parts = [*head, text, "## " + singular(component.kind).capitalize(), markdown(own)]
    parts += [_hyperparameters(component)]
    if component.kind == "methods":
        parts += _method(plugins, component.name)
    parts += [f"## {LABELS[label]}\n\n{markdown(said)}" for label, said in labelled.items()]
    return _joined([*parts, _usage(component), f"Code: `{facts.code(component)}`"])


def sections(text: str) -> tuple[str, dict[str, str]]:
    r"""Return a module's text in Markdown without its labelled parts, and these by label.

    A part begins with "source:", "departs from ...:" or "tune:" and ends with the next one, with a
    line that is empty, indented, or another's label ("stored: ...").

    >>> text = "Bop.\n\n    m <- g\n\nsource: the code\nat night\ndeparts from it: never"
    >>> sections(text)
    ('Bop.\n\n    m <- g', {'source': 'the code\nat night', 'departs from': 'From it: never'})
    """
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    current = rest
    for line in text.splitlines():
        match = _LABEL.match(line)
        if match:
            label, what, said = match.groups()
            current = found.setdefault(label, [])
            current += [""] if current else []
            current.append(f"From {what}: {said}" if what else said)
        elif current is not rest and re.match(r"$|\s|[a-z]+: ", line):
            current = rest
            current.append(line)
        else:
            current.append(line)
    told = {label: "\n".join(found[label]) for label in LABELS if label in found}
    return markdown("\n".join(rest).strip("\n")), told


def markdown(text: str) -> str:
    r"""Return a docstring's text as Markdown: its roles, code and examples as Markdown has them.

    >>> markdown("See :class:`a.b.Split` and ``w = 0``.\n\n>>> 1 + 1\n2")
    'See `a.b.Split` and `w = 0`.\n\n    >>> 1 + 1\n    2'
    """
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    text = re.sub(r"^(Raises|Returns|Yields|Args):\n(?=[ ])", r"\1:\n\n", text, flags=re.MULTILINE)
    return re.sub(r"^ *>>>(?:.*\n?)+?(?=\n|\Z)", _indented, text, flags=re.MULTILINE)


def _indented(match: re.Match[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in match[0].splitlines())


def _explained(component: Component) -> bool:
    """Whether the table says what the docstring says of the parameters."""
    return all(told.meaning for told in facts.hyperparameter_rows(component))


def _hyperparameters(component: Component) -> str:
    found = facts.hyperparameter_rows(component)
    if not found:
        return ""
    head = ("hyperparameter", "type", "default", "search space", "meaning")
    rows = [(f"`{h.name}`", h.type_name, f"`{h.default}`", h.space, h.meaning) for h in found]
    return f"## Hyperparameters\n\n{_table(head, rows)}"


def _method(plugins: Plugins, name: str) -> list[str]:
    """The phases of a method with its defaults, and how it is judged."""
    try:
        method = facts.default_method(plugins, name)
    except BnnbenchError as error:
        return [f"Without values of your own it has no phases: {error}"]
    phases = _table(facts.PHASES, facts.phase_rows(method))
    modes = _table(("inference mode", ""), facts.mode_rows(method))
    return [f"## Phases\n\nWith default hyperparameters.\n\n{phases}", modes]


def _usage(component: Component) -> str:
    setting = next(filter(None, map(_setting, facts.hyperparameters_of(component))), "")
    return f"## How to use it\n\n{usage(component.kind, component.name, setting)}"


def _setting(hyper: Hyperparameter) -> str:
    """How a study file sets a hyperparameter to its default; empty where TOML has no such value."""
    if not isinstance(hyper.default, bool | int | float | str):
        return ""
    return f"{hyper.name} = {json.dumps(hyper.default)}"


def usage(kind: str, name: str, setting: str = "") -> str:
    """Return how a study names a component of a kind, as a block of TOML where it does.

    >>> print(usage("figures", "pi"))
    It is drawn in every report whose study has data for it: `bnnbench report STUDY`.
    """
    if kind == "figures":
        return "It is drawn in every report whose study has data for it: `bnnbench report STUDY`."
    if kind == "studies":
        return f"`bnnbench study create {name}`, then `bnnbench study run {name}`."
    said = {"losses": "A loss that learns from a teacher needs `teacher` too, a run of `[runs]`."}
    block = _fenced("toml", _study(kind, name, setting))
    return "\n\n".join(filter(None, ("In a study file:", block, said.get(kind))))


def _study(kind: str, name: str, setting: str) -> str:
    """A study file that uses a component; in it, as everywhere, a setting may be left out."""
    part = f'{{ name = "{name}", {setting} }}' if setting else f'"{name}"'
    task = dict(_TASK)
    if (key := singular(kind).replace(" ", "")) in task:
        task[key] = part
    lines = [f"probes = [{part}]", ""] if kind == "probes" else []
    lines += ["[task]", *(f"{key} = {value}" for key, value in task.items())]
    return "\n".join([*lines, "", "[[methods]]", *_method_keys(kind, name, setting)])


def _method_keys(kind: str, name: str, setting: str) -> list[str]:
    keys = _METHOD.get(kind, {"method": "ste"})
    lines = [f'{key} = "{value.format(name)}"' for key, value in keys.items()]
    return [*lines, f"hyperparameters = {{ {setting} }}"] if setting and kind in _METHOD else lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its cell, or its line."""
    return markdown(" ".join(text.split())).replace("|", "\\|")


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"

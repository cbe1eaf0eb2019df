"""docs/plugin-api.md lists the plugin API: all of it, and nothing that does not exist."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re

import pytest

import bnnbench.testing
from bnnbench import elementwise, hookspecs, interfaces
from bnnbench.experiments import GIVEN
from bnnbench.plugins import KINDS
from bnnbench.results import Results

from .conftest import ROOT

TEXT = (ROOT / "docs" / "plugin-api.md").read_text()
MORE = ("bnnbench.methods.Phase", "bnnbench.methods.Method", "bnnbench.schedules.Scheduled",
        "bnnbench.schedules.Progress", "bnnbench.schedules.PerLayer",
        "bnnbench.measurements.Measurement")  # fmt: skip


def section(title: str) -> str:
    """What stands between a heading of the second order and the next."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.M)[0]


def entries(title: str) -> dict[str, str]:
    """The text below each heading of the third order in a section."""
    _, *parts = re.split(r"^### `(.+?)`\n", section(title), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def argument(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    return parameter.name if default is parameter.empty else f"{parameter.name}={told(default)}"


def told(default: object) -> str:
    return default.__name__ if inspect.isroutine(default) else repr(default)


def signature(name: str, function: object) -> str:
    """A method as the document writes it: its arguments with their defaults, without types."""
    found = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    words = [argument(p) for p in found]
    kinds = [p.kind is inspect.Parameter.KEYWORD_ONLY for p in found]
    if any(kinds):
        words.insert(kinds.index(True), "*")
    return f"{name}({', '.join(words)})"


def fields(kind: type) -> list[str]:
    """The fields of a dataclass or a named tuple, with their defaults."""
    if hasattr(kind, "_fields"):
        defaults = kind._field_defaults
        return [f"{n}={told(defaults[n])}" if n in defaults else n for n in kind._fields]
    if not dataclasses.is_dataclass(kind):
        return []
    known = [(f.name, f.default) for f in dataclasses.fields(kind)]
    return [n if d is dataclasses.MISSING else f"{n}={told(d)}" for n, d in known]


def members(kind: type) -> list[str]:
    """What the document must list of a class: fields, properties and, of a protocol, methods."""
    own = [(n, m) for n, m in vars(kind).items() if not n.startswith("_") or n in CALLED]
    properties = [n for n, m in own if isinstance(m, property)]
    if not getattr(kind, "_is_protocol", False):
        return sorted(fields(kind) + properties)
    values = [n for n in inspect.get_annotations(kind) if not n.startswith("_")]
    return sorted(values + properties + [signature(n, m) for n, m in own if inspect.isfunction(m)])


CALLED = ("__call__", "__len__")


def classes() -> dict[str, type]:
    """Every class of the interfaces, by the name that the document has for it."""
    found = {n: c for n, c in vars(interfaces).items() if home(c) == interfaces.__name__}
    rules = {n: c for n, c in vars(elementwise).items() if home(c) == elementwise.__name__}
    found |= {f"bnnbench.elementwise.{name}": kind for name, kind in rules.items()}
    for path in MORE:
        found[path] = pkgutil.resolve_name(path)
    return found


def home(thing: object) -> str:
    return thing.__module__ if inspect.isclass(thing) else ""


def test_every_hook_is_listed_with_its_arguments():
    """The headings are the hooks' names and arguments, in the order of hookspecs.py."""
    hooks = [(n, f) for n, f in vars(hookspecs).items() if n.startswith("register_")]

    assert [signature(name, hook) for name, hook in hooks] == list(entries("Hooks"))


def test_a_hook_is_there_for_every_kind():
    """The kinds that the loader knows are those that have a hook, and commands."""
    listed = {re.sub(r"register_(\w+)\(.*", r"\1", heading) for heading in entries("Hooks")}

    assert {*KINDS, "commands"} == listed


def test_every_interface_is_listed():
    """The headings are the classes of interfaces.py, of the rules, and what a method is made of."""
    assert set(classes()) == set(entries("Interfaces"))


@pytest.mark.parametrize("name", classes())
def test_members_of_an_interface(name):
    """Each field, property and method is listed with its arguments and defaults, and no other."""
    listed = re.findall(r"^- `(.+?)`:", entries("Interfaces")[name], flags=re.M)

    assert members(classes()[name]) == sorted(listed)


def test_what_a_figure_is_given():
    """Each public attribute and method of the results is listed, and no other."""
    listed = {re.match(r"\w+", name)[0] for name in listed_in(section("Results"))}
    own = {"study", "name", "command", "version"}  # of an instance

    assert {n for n in vars(Results) if not n.startswith("_")} | own == listed
    for heading in listed_in(section("Results")):
        name = re.match(r"\w+", heading)[0]
        if inspect.isfunction(found := vars(Results).get(name)):
            assert heading == signature(name, found)


def listed_in(text: str) -> list[str]:
    return re.findall(r"^- `(.+?)`:", text, flags=re.M)


def test_version():
    """The document is about the version that the code has, and asks for it in its example."""
    assert TEXT.split("\n\n")[1].startswith(f"Version {hookspecs.API_VERSION}.")
    assert f'`requires_api = "{hookspecs.API_VERSION}"`' in section("Versions")


def test_what_the_harness_supplies():
    """The table has what is given to each kind, as the harness has it."""
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", section("Hyperparameters"), flags=re.M)
    listed = {kind: set(re.findall(r"`(\w+)`", said)) for kind, said in rows if kind != "kind"}

    assert {kind: set(names) - {"self"} for kind, names in GIVEN.items()} == listed


def leads_somewhere(path: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    try:
        pkgutil.resolve_name(path)
    except (ImportError, AttributeError):
        return False
    return True


def test_modules_and_names_in_the_text_exist():
    """Every dotted name of bnnbench in the document leads to something."""
    named = set(re.findall(r"`(bnnbench(?:\.\w+)+)`", TEXT)) - {"bnnbench.commands"}  # entry points

    assert named
    assert [] == [path for path in sorted(named) if not leads_somewhere(path)]


def test_a_suite_for_every_kind():
    """bnnbench.testing has a class for each kind that has hyperparameters, and for figures."""
    suites = {name for name in bnnbench.testing.__all__ if name.endswith("Suite")}
    kinds = {kind for kind in KINDS if kind != "studies"}

    assert kinds == {getattr(bnnbench.testing, name).kind for name in suites}

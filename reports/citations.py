"""What to cite: the components that the runs were made of, with the sources that their code names.

A module opens with what it is, and says where that is from in its paragraph "source:". Both are
read from its text: importing it may need torch, which a report does without.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from functools import cache
from importlib.abc import InspectLoader
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.entries import BASE, CONFIRM
from bnnbench.errors import UsageError
from bnnbench.plugins import singular
from bnnbench_reports.tables import NONE, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bnnbench.plugins import Component, Plugins
    from bnnbench.results import Results
    from bnnbench.runs import Run

#: a paragraph "source:" ends where another one like it begins, and at an empty line
SOURCE = re.compile(
    r"^sources?: (.+(?:\n(?!departs from|tune:|stored:|judged with:|note:)[ ]*\S.*)*)",
    re.MULTILINE,
)


class Citation(NamedTuple):
    """Components that share a text: what they are, and where that is from."""

    used: tuple[str, ...]
    title: str
    source: str


def citations(results: Results, plugins: Plugins) -> list[Citation]:
    """Return what the runs were made of, methods first; what has no text is left out.

    The texts are those of the plugins that are installed where the report is made.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for component in used(results, plugins):
        title, source = described(component)
        if title or source:
            name = f"{singular(component.kind)} {component.name}"
            found.setdefault((title, source), []).append(name)
    return [Citation(tuple(names), *text) for text, names in found.items()]


def citations_table(results: Results, plugins: Plugins | None) -> Table:
    """Return the citations as a table, the study's own source first."""
    study, found = results.study, citations(results, plugins) if plugins else []
    own = [("study", study.title or results.name, study.source)] if study.source else []
    lines = [(", ".join(each.used), each.title, each.source) for each in found]
    rows = [[cell or NONE for cell in line] for line in [*own, *lines]]
    return Table(("component", "what it is", "source"), rows)


def used(results: Results, plugins: Plugins) -> Iterator[Component]:
    """Yield the components of the confirming runs and of those that they build on, each once.

    One whose plugin is not installed here is passed over.
    """
    runs = [entry.run for entry in results.entries if entry.role in (CONFIRM, BASE)]
    named = dict.fromkeys(pair for run in runs for pair in parts(run))
    order = ("methods", "binarizers", "optimizers", "architectures", "losses", "datasets", "probes")
    for kind, name in sorted(named, key=lambda pair: order.index(pair[0])):
        try:
            yield plugins.component(kind, name)
        except UsageError:
            continue


def parts(run: Run) -> Iterable[tuple[str, str]]:
    """Return the kinds and names of a run's components, both halves of a method that is crossed."""
    method = run.method.name
    movers = [("methods", method)]
    if "+" in method:
        movers = list(zip(("binarizers", "optimizers"), method.split("+", 1), strict=True))
    probes = [probe if isinstance(probe, str) else probe.name for probe in run.probes]
    return [
        *movers,
        ("architectures", run.architecture.name),
        ("losses", run.loss.name),
        ("datasets", run.dataset.name),
        *(("probes", probe) for probe in probes),
    ]


def described(component: Component) -> tuple[str, str]:
    """Return what a component is, in a sentence, and its source; each may be empty.

    Its own text counts where that names a source, else that of its module.
    """
    module, own = texts(component.reference)
    text = own if SOURCE.search(own) else module or own
    return first_sentence(text), source_of(text)


def texts(reference: Any) -> tuple[str, str]:
    """Return the texts of a component's module and of itself, as far as there are any."""
    if not isinstance(reference, str):
        return inspect.getdoc(inspect.getmodule(reference)) or "", inspect.getdoc(reference) or ""
    module, _, attribute = reference.partition(":")
    known = docstrings(module)
    return known.get("", ""), known.get(attribute, "")


@cache
def docstrings(module: str) -> dict[str, str]:
    """Return the texts of a module and its functions and classes by name, "" for its own.

    The module itself is not imported; the packages that it is in are.
    """
    try:
        loader = getattr(importlib.util.find_spec(module), "loader", None)
        code = loader.get_source(module) if isinstance(loader, InspectLoader) else ""
        tree = ast.parse(code or "")
    except Exception:  # whatever a plugin's package or loader may raise
        return {}
    named = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    found = {node.name: ast.get_docstring(node) or "" for node in named}
    return {"": ast.get_docstring(tree) or "", **found}


def first_sentence(text: str) -> str:
    r"""Return the first paragraph of a text in one line.

    >>> first_sentence("Bop, the binary optimizer\n(2019).\n\n    w <- -w")
    'Bop, the binary optimizer (2019).'
    """
    return _line(text.strip().partition("\n\n")[0])


def source_of(text: str) -> str:
    r"""Return the paragraph "source:" of a text in one line, "" where there is none.

    >>> source_of("X.\n\nsource: an article,\nsection 2\ndeparts from it: in much")
    'an article, section 2'
    """
    found = SOURCE.search(text)
    return _line(found[1]) if found else ""


def _line(text: str) -> str:
    return " ".join(text.replace("``", "").split())

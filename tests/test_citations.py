"""What to cite is what the plugins' code says of itself, read without importing it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from bnnbench.interfaces import Figure
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.runs import Part, Run
from bnnbench.store import CONFIRM, TUNE
from bnnbench_reports import page
from bnnbench_reports.citations import citations, described, docstrings, parts, source_of

from .small_study import study

BOP = Run(Part("mnist"), Part("mlp"), Part("squared-hinge"), Part("bop"), 1, 1, 100)
CROSS = Run(
    Part("digits"), Part("mlp"), Part("cross-entropy"), Part("sign+bop"), 1, 1, 100, probes=()
)


def results(*runs, role=CONFIRM, source=""):
    entries = [SimpleNamespace(run=run, role=role) for run in runs]
    told = SimpleNamespace(source=source, title="")
    return SimpleNamespace(entries=entries, name="s", study=told)


def test_the_components_of_a_run():
    """Both halves of a cross, and every part by its kind."""
    assert [
        ("methods", "bop"), ("architectures", "mlp"), ("losses", "squared-hinge"),
        ("datasets", "mnist"), ("probes", "flips"),
    ] == list(parts(BOP))  # fmt: skip
    assert [("binarizers", "sign"), ("optimizers", "bop")] == list(parts(CROSS))[:2]


def test_bundled_methods_name_their_articles():
    """Bop's module opens with its authors and says where its values are from."""
    method, *others = citations(results(BOP, BOP), load_plugins())

    assert ("method bop",) == method.used
    assert "Bop, the binary optimizer (Helwegen et al., 2019), algorithm 1." == method.title
    assert method.source.startswith("the official code's CIFAR-10 script: tau 1e-8, gamma 1e-4")
    assert "departs" not in method.source
    named = [name for each in others for name in each.used]
    assert ["architecture mlp", "loss squared-hinge", "data set mnist", "probe flips"] == named


def test_every_bundled_method_has_something_to_cite():
    """A method, binarizer, optimizer, network or data set without a text would be missing."""
    plugins = load_plugins()
    kinds = ("methods", "binarizers", "optimizers", "architectures", "datasets", "losses")
    components = [plugins.component(kind, name) for kind in kinds for name in plugins.names(kind)]

    without = [each.name for each in components if not described(each)[0]]
    assert [] == without
    methods = [each for each in components if each.kind == "methods"]
    assert [] == [each.name for each in methods if not described(each)[1]]


def test_trials_are_not_cited_and_strangers_are_passed_over():
    """Only what was confirmed counts; a component that is not installed here has no text here."""
    stranger = Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, 1, 1, probes=())

    assert [] == citations(results(BOP, role=TUNE), load_plugins())
    assert [] == citations(results(stranger), load_plugins())


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("X.\n\nsource: a book,\npage 2\n\nMore.", "a book, page 2"),
        ("X.\n\nsource: a ``b``\ndeparts from the code: c", "a b"),
        ("X.\n\nsource: a\n      and b\ntune: lr", "a and b"),
        ("X.\n\nsources: a; b", "a; b"),
        ("The source: of it all", ""),
        ("", ""),
    ],
)
def test_where_a_source_ends(text, source):
    """At an empty line, at the end, or where another paragraph of its kind begins."""
    assert source == source_of(text)


def test_a_module_is_read_and_not_run(tmp_path, monkeypatch):
    """Its text, and that of its functions and classes; one that cannot be parsed has none."""
    (tmp_path / "cited_here.py").write_text(
        textwrap.dedent('''
            """A module.

            source: an article
            """
            raise SystemExit("it was run")

            def method():
                """A method of its own.

                source: another
                """

            class Bare: ...
        ''')
    )
    (tmp_path / "cited_badly.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)

    assert "A module." == docstrings("cited_here")[""].splitlines()[0]
    assert "" == docstrings("cited_here")["Bare"]
    own = described(SimpleNamespace(reference="cited_here:method"))
    assert ("A method of its own.", "another") == own
    assert ("A module.", "an article") == described(SimpleNamespace(reference="cited_here:Bare"))
    assert {} == docstrings("cited_badly") == docstrings("no_such_package_here.at_all")


def test_a_component_that_is_there_itself():
    """A plugin may register the thing itself; its text is read from it."""
    title, source = described(SimpleNamespace(reference=Figure))

    assert ("What a plugin implements, all of it on one screen or two.", "") == (title, source)


def test_the_page_has_them(store):
    """The study's source comes first; without plugins nothing else is cited."""
    store.create_study("s", study(source="An article"), "", "0")
    for seed in (1, 2):
        store.enter("s", "t", "bop", CONFIRM, seed, BOP)

    told = page.facts(Results(store, "s"), load_plugins())["cited"]

    assert ["study", "Small", "An article"] == told.rows[0]
    assert "method bop" == told.rows[1][0]
    alone = page.facts(Results(store, "s"))["cited"]
    assert [["study", "Small", "An article"]] == alone.rows


def test_no_torch_is_needed():
    """All bundled components are described where torch cannot be imported."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['sklearn'] = None\n"
        "from bnnbench.plugins import load_plugins\n"
        "from bnnbench_reports.citations import described\n"
        "plugins = load_plugins()\n"
        "print(described(plugins.component('methods', 'bnew'))[0])\n"
        "print(len([described(plugins.component('methods', n)) for n in plugins.names('methods')]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    title, count = ran.stdout.splitlines()
    assert "BNEW, Binarized Networks the Easy Way (Paren and Poudel, BMVC 2022)." == title
    assert int(count) >= 13

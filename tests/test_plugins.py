"""The loader: a bad plugin costs only itself, and says why."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from bnnbench.cli import main
from bnnbench.cli.components import explanations
from bnnbench.errors import PluginError, UsageError
from bnnbench.plugins import Plugins, load_commands, load_plugins
from bnnbench.spaces import hyperparameters

GOOD = """
import bnnbench
@bnnbench.hookimpl
def register_losses(register):
    register("zero", lambda: None)
"""
HEAD = "import bnnbench\n@bnnbench.hookimpl\n"

BROKEN = {
    "import-error": (
        "import no_such_module",
        "import of plug_import_error failed: ModuleNotFoundError",
    ),
    "syntax-error": ("def (", "import of plug_syntax_error failed: SyntaxError"),
    "raises": ("raise RuntimeError('no licence\\nsecond line')", "RuntimeError: no licence"),
    "exits": ("raise SystemExit(3)", "import of plug_exits failed: SystemExit"),
    "bad-hook": (
        HEAD + "def register_losses(register):\n    1 / 0",
        "register_losses failed: ZeroDivision",
    ),
    "wrong-arguments": (HEAD + "def register_losses(registre):\n    pass", "registre"),
    "misspelt": (
        HEAD + "def register_lossses(register):\n    pass",
        "did you mean 'register_losses'?",
    ),
    "unmarked": (
        "def register_losses(register):\n    pass",
        "must be marked with @bnnbench.hookimpl",
    ),
    "no-hook": ("x = 1", "it has no hook"),
    "wrong-api": (GOOD + "requires_api = '2.0'", "requires plugin API 2.0, this bnnbench has 1.0"),
    "newer-api": (GOOD + "requires_api = '1.7'", "requires plugin API 1.7"),
    "odd-api": (GOOD + "requires_api = 'soon'", "requires_api must be 'MAJOR.MINOR', got 'soon'"),
    "bad-name": (HEAD + "def register_losses(register):\n    register('a/b', print)", "got 'a/b'"),
    "not-callable": (
        HEAD + "def register_losses(register):\n    register('x', 3)",
        "must be callable, got 3",
    ),
    "command-here": (
        HEAD + "def register_commands(register):\n    pass",
        "group 'bnnbench.commands'",
    ),
}


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """Make a module of some text, and the entry point that names it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str, module: str = "") -> EntryPoint:
        module = module or "plug_" + name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(text)
        sys.modules.pop(module, None)
        return EntryPoint(name, module, "bnnbench")

    return make


@pytest.mark.parametrize("name", BROKEN)
def test_broken_plugin_costs_only_itself(entry_point, name):
    """The others work; the broken one offers nothing, and its reason is one line."""
    text, reason = BROKEN[name]

    plugins = Plugins([entry_point(name, text), entry_point("zz-good", GOOD)])

    broken, good = plugins.plugins
    assert ("failed", "ok") == (broken.status, good.status)
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert ["zero"] == plugins.names("losses")


def test_half_registered_plugin_is_rolled_back(entry_point):
    """A hook that fails in its middle leaves nothing behind."""
    text = (
        HEAD + "def register_losses(register):\n    register('half', print)\n    raise OSError('x')"
    )

    plugins = Plugins([entry_point("half", text)])

    assert [] == plugins.names("losses")


def test_name_of_a_component_belongs_to_the_first(entry_point):
    """The second plugin that offers a name is left out, and the first is named as the reason."""
    other = GOOD + HEAD + "def register_probes(register):\n    register('mine', print)"

    plugins = Plugins([entry_point("aa", GOOD), entry_point("bb", other)])

    assert (
        "the loss name 'zero' is taken by plugin 'aa'; take another, such as 'my-zero'"
        == plugins.plugins[1].reason
    )
    assert [] == plugins.names("probes")


def test_two_distributions_with_one_entry_point_name(entry_point):
    """The second is not silently dropped, as pluggy would: it is listed with the reason."""
    one, two = entry_point("same", GOOD, "plug_one"), entry_point("same", GOOD, "plug_two")

    plugins = Plugins([one, two])

    assert ["ok", "failed"] == [plugin.status for plugin in plugins.plugins]
    assert "the name 'same' is taken" in plugins.plugins[1].reason


def test_blocked_plugin_is_not_imported(entry_point, monkeypatch):
    """BNNBENCH_BLOCK_PLUGINS and -p no:NAME keep a plugin's code from running at all."""
    bomb = entry_point("bomb", "raise SystemExit('ran')")
    monkeypatch.setenv("BNNBENCH_BLOCK_PLUGINS", " bomb ,other")
    from bnnbench.plugins import blocked_names

    plugins = Plugins([bomb], blocked_names(["third"]))

    assert {"bomb", "other", "third"} == blocked_names(["third"])
    assert "blocked" == plugins.plugins[0].status
    assert "plug_bomb" not in sys.modules


def test_missing_component_names_the_nearest_and_the_failed(entry_point):
    """Whoever asks for a name that a failed plugin may have offered is told of the failure."""
    plugins = Plugins([entry_point("broken", "import nothing_here"), entry_point("good", GOOD)])

    with pytest.raises(UsageError) as error:
        plugins.get("losses", "zeros")

    assert "no plugin offers a loss called 'zeros'; did you mean 'zero'?" in str(error.value)
    assert "broken: import of plug_broken failed: ModuleNotFoundError" in str(error.value)


def test_reference_is_imported_when_used(entry_point):
    """A component given as text costs nothing until it is asked for; then a bad one is one line."""
    text = HEAD + (
        "def register_losses(register):\n"
        "    register('good', 'math:sqrt')\n    register('bad', 'math:no_such_thing')"
    )
    plugins = Plugins([entry_point("lazy", text)])

    assert 3.0 == plugins.get("losses", "good")(9)
    with pytest.raises(PluginError, match="loss 'bad' of plugin 'lazy' cannot be imported"):
        plugins.get("losses", "bad")


def test_installed_plugins_load():
    """Everything bundled loads, and every reference in it can be imported."""
    plugins = load_plugins()

    assert {"bundled": "ok", "studies": "ok", "figures": "ok"} == {
        p.name: p.status for p in plugins.plugins if p.distribution == "bnnbench"
    }
    for plugin in plugins.plugins:
        for kind, names in plugin.components.items():
            assert all(plugins.get(kind, name) is not None for name in names)


COMMAND = """
import bnnbench, click
@bnnbench.hookimpl
def register_commands(register):
    register(click.Command("report"))
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('broken')", "ValueError: broken"),
        (
            COMMAND.replace("click.Command('report')", "3").replace('click.Command("report")', "3"),
            "got 3",
        ),
        (COMMAND, "the command name 'report' is taken"),
    ],
)
def test_bad_command_costs_only_itself(entry_point, monkeypatch, text, reason):
    """A plugin's broken command, or one whose name is taken, leaves the other commands."""
    import importlib.metadata

    good = entry_point("aa", COMMAND, "plug_good_command")
    found = {"bnnbench.commands": [good, entry_point("bad", text)]}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found[group])

    commands, plugins = load_commands()

    assert ["report"] == list(commands)
    assert ["ok", "failed"] == [plugin.status for plugin in plugins]
    assert reason in plugins[1].reason


METHOD = (
    HEAD
    + """
def register_methods(register):
    register("two", two)
    register("needy", needy)
    register("bad", bad)

def two(*, lr: float = 0.5, end: float = 0.25):
    '''Train twice.

    Args:
        lr: how far a step
            goes (nobody).
        end: where it ends.
    '''
    from functools import partial
    from torch.optim import SGD, Adam
    from bnnbench.methods import Method, Phase
    from bnnbench.schedules import Linear, PerLayer, Scheduled
    from bnnbench_plugins.binarizers import Stochastic, height
    first = Phase(
        Scheduled(Stochastic, draws=7),
        Scheduled(SGD, lr=PerLayer(Linear(lr, end), partial(height, 2.0))),
        Scheduled(Adam, lr=0.125),
        share=0.75,
        name="early",
        selectable=False,
    )
    second = Phase(first.binarizer, first.binary, first.real, share=0.25, continues=True)
    return Method("two", (first, second), judged="ensemble")

def needy(*, lr: float):
    '''Needs a value.'''

def bad():
    '''Fails.'''
    raise KeyError("no such thing")
"""
)


@pytest.fixture
def show(entry_point, monkeypatch, capsys):
    """What "bnnbench plugins show" says of a component of the plugin above."""
    plugins = Plugins([entry_point("methods", METHOD)])
    monkeypatch.setattr("bnnbench.plugins.load_plugins", lambda *_given: plugins)

    def call(name: str) -> str:
        assert 0 == main(["plugins", "show", name])
        return capsys.readouterr().out

    return call


def test_show_a_method(show):
    """Its phases: what is computed with, what moves the weights, and how it is judged."""
    words = [" ".join(line.split()) for line in show("two").splitlines()]
    text = " ".join(words)

    assert "lr float 0.5 - how far a step goes (nobody)." in words
    assert "end float 0.25 - where it ends." in words
    for told in (
        "1 early 75 %",
        "Stochastic(draws=7)",
        "SGD(lr=Linear(start=0.5, end=0.25) x",
        "height[2.0](layer))",
        "Adam(lr=0.125)",
        "not selectable",
        "2 25 %",
        "continues the one before",
    ):
        assert 1 <= text.count(told) <= 2, told
    assert 1 == text.count("not selectable") == text.count("continues the one before")
    assert "binary" in words
    assert "ensemble judged with; the mean output of 7 drawn networks" in words


@pytest.mark.parametrize(
    ("name", "reason"),
    [("needy", "needy needs a value for 'lr'"), ("bad", "bad cannot be built: KeyError")],
)
def test_show_a_method_that_cannot_be_built(show, name, reason):
    """All else is shown, and one line says why there are no phases."""
    out = show(name)

    assert f"without values of your own it has no phases: {reason}" in out
    assert "code: plug_methods" in out


def test_every_parameter_of_a_bundled_method_is_explained():
    """Each method's docstring has a line for each hyperparameter in order, and for no other."""
    plugins = load_plugins()
    for name in plugins.names("methods"):
        component = plugins.component("methods", name)
        if component.plugin.distribution == "bnnbench":
            known, told = hyperparameters(component.target), explanations(component.target)

            assert list(known) == list(told), name

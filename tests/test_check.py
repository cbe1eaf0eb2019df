"""`bnnbench plugins check`: each fault is named, and no plugin takes the command down with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from bnnbench.cli import main
from bnnbench.conformance import (
    FAILED,
    LEVELS,
    OK,
    SKIPPED,
    Checked,
    Outcome,
    keep,
    known_levels,
    reached,
)
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.runs import Part, Run
from bnnbench.store import Store
from bnnbench_reports import page, tables

from .conftest import ROOT
from .small_study import fill, record

BROKEN = ROOT / "tests" / "broken"

#: what fails, by the component's name, and words of the fault
CHECKED = {
    "wrong_signature": ("needy", "signature", "'lr', 'tau' has no default"),
    "step_raises": ("tired", "steps", "ArithmeticError: tired (step_raises.py, line 16, in step)"),
    "state_raises": (
        "secretive",
        "state-goes-on",
        "NotImplementedError: it is a secret (state_raises.py, line 13, in state_dict)",
    ),
    "global_seed": ("seeding", "nothing-global", "it changes the seed of torch's generator"),
    "leaks": ("hoarder", "memory-is-flat", "it keeps 400 tensors more (leaks.py, line 18)"),
    "zeros": ("torch-sign", "one-bit", "binary weights of a layer with zeros"),
    "wrong_type": ("plain", "is-built", "it makes a Plain, which is no torch.optim.Optimizer"),
    "never_ends": (
        "endless",
        "steps",
        "it does not end within 9 seconds (never_ends.py, line 1",
    ),
}
#: what the loader says of a plugin file that it refuses
REFUSED = {
    "hook_raises": "register_optimizers failed: LookupError: no licence for this machine",
    "name_exists": "the optimizer name 'bop' is taken by plugin 'bundled'",
    "wrong_api": "requires plugin API 2.0, this bnnbench has 1.0",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Levels are remembered where nobody else looks."""
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))


def check(name: str, file: str, *options: str) -> int:
    arguments = ["--plugin", str(BROKEN / f"{file}.py"), "plugins", "check", name, *options]
    return main(arguments)


def lines(out: str) -> dict[str, tuple[str, str]]:
    """State and reason by check."""
    found = re.findall(r"^  (ok|failed|skipped) +([\w-]+) *(.*)$", out, re.MULTILINE)
    return {check: (state, why) for state, check, why in found}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the command says of all faulty components at once, by name; its code and its error."""
    files = [f"--plugin={BROKEN / file}.py" for file in CHECKED]
    names = [name for name, _, _ in CHECKED.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNNBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        arguments = [*files, "plugins", "check", *names, "--limit", "9"]
        done = subprocess.run(
            [sys.executable, "-m", "bnnbench", *arguments], capture_output=True, text=True
        )
    parts = re.split(r"^\w+/([\w-]+) of plugin", done.stdout, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert names == list(found), done.stderr
    return found, done.returncode, done.stderr


@pytest.mark.parametrize("file", CHECKED)
def test_a_fault_is_named(told, file):
    """The check that fails has the fault's words and the author's line."""
    name, failing, words = CHECKED[file]
    found = lines(told[0][name])

    assert FAILED == found[failing][0]
    assert words in found[failing][1]


@pytest.mark.parametrize("file", CHECKED)
def test_no_fault_is_found_but_that(told, file):
    """Whatever comes before it is in order: of the optimizers, all up to the level of the fault."""
    name, failing, _ = CHECKED[file]
    found = lines(told[0][name])
    before = list(found)[: list(found).index(failing)]

    assert FAILED not in {found[check][0] for check in before}


def test_any_fault_is_exit_code_5(told):
    """The error is one line, with the number of the checks that failed."""
    _, code, error = told

    assert 5 == code
    assert re.fullmatch(r"error: \d+ of \d+ checks failed; .*\n", error)


@pytest.mark.parametrize("file", REFUSED)
def test_a_plugin_that_does_not_load_is_told_with_the_loaders_reason(capsys, file):
    """Nothing is checked, and the exit code is 5 too."""
    assert 5 == check(file.replace("_", "-"), file)

    out, err = capsys.readouterr()
    assert "" == out
    assert REFUSED[file] in err


def test_what_ends_the_process_ends_its_own_alone(capsys):
    """Of two components the one exits, the other is checked to its end."""
    assert 5 == check("exits", "exits")

    out = capsys.readouterr().out
    first, second = out.split("optimizers/good of plugin")
    assert (FAILED, "it ends the process (exit code 3)") == lines(first)["steps"]
    assert {OK, SKIPPED} == {state for state, _ in lines(second).values()}
    assert "optimizers/good: conforms" in out


def test_a_level_is_remembered_by_the_content(tmp_path, capsys):
    """`plugins list` and `show` tell it; of a changed file nothing is known."""
    file = tmp_path / "exits.py"
    shutil.copy(BROKEN / "exits.py", file)
    options = ["--plugin", str(file), "plugins"]

    assert 0 == main([*options, "show", "good"])
    assert "checks: not checked" in capsys.readouterr().out
    assert 0 == main([*options, "check", "optimizers/good"])
    capsys.readouterr()
    assert 0 == main([*options, "show", "good"])
    assert "checks: conforms" in capsys.readouterr().out
    assert 0 == main([*options, "list"])
    assert "1 conforms, 1 not checked" in capsys.readouterr().out
    file.write_text(file.read_text() + "\n# another idea\n")
    assert 0 == main([*options, "show", "good"])
    assert "checks: not checked" in capsys.readouterr().out


def test_an_unknown_name_is_a_wrong_question(capsys):
    """Exit code 2, and the nearest name."""
    assert 2 == main(["plugins", "check", "optimizers/bopp"])

    assert "did you mean 'bop'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("states", "level"),
    [
        ("ok", "loads"),
        ("failed", "fails"),
        ("ok ok", "works"),
        ("ok failed ok", "loads"),
        ("ok skipped ok", "loads"),
        ("ok ok ok", "conforms"),
        ("ok ok ok ok", "strict"),
    ],
)
def test_a_level_needs_those_below_it(states, level):
    """A level with a fault, or without a check that has passed, is not reached."""
    outcomes = [Outcome("c", each, s) for each, s in zip(LEVELS, states.split(), strict=False)]

    assert level == reached(outcomes)
    assert reached([*outcomes, Outcome("d", "loads", FAILED)]) == "fails"
    assert reached([*outcomes, Outcome("d", "loads", SKIPPED)]) == level


def test_a_damaged_memory_is_none(tmp_path):
    """Whatever lies in the file, what is not known is "not checked"."""
    component = load_plugins().component("optimizers", "bop")
    path = tmp_path / "cache" / "conformance.json"
    path.parent.mkdir()
    for text in ("", "[]", "{", '{"optimizers/bop": "strict"}'):
        path.write_text(text)
        assert {"optimizers/bop": "not checked"} == known_levels([component])
    keep({Checked.of(component): "works"})

    assert {"optimizers/bop": "works"} == known_levels([component])
    assert 2 == len(json.loads(path.read_text()))


def test_levels_travel_with_a_run(store):
    """What is known when a run is prepared is among its facts, and not in its key."""
    plugins = load_plugins()
    sign, bop = (
        plugins.component(*each) for each in (("binarizers", "sign"), ("optimizers", "bop"))
    )
    network = Part("mlp", {"depth": 1, "width": 4})
    parts = (Part("digits"), network, Part("cross-entropy"), Part("sign+bop"))
    run = Run(*parts, seed=1, epochs=1, batch_size=100)
    key = run.key
    keep({Checked.of(sign): "conforms", Checked.of(bop): "works"})

    levels = Workbench(plugins, threads=1).prepare(run).facts["levels"]

    assert ("conforms", "works") == (levels["binarizers/sign"], levels["optimizers/bop"])
    assert {"datasets/digits", "architectures/mlp", "losses/cross-entropy", "probes/flips"} == {
        name for name, level in levels.items() if level == "not checked"
    }
    assert key == run.key


def test_the_report_shows_the_level_beside_the_method(tmp_path):
    """As the runs have it; what nobody checked, or ran before there were checks, says so."""
    store = Store(str(tmp_path / "s.db"))
    fill(store, protocol={"seeds": 3})
    halves = {"binarizers/sign": "conforms", "optimizers/x": "works", "losses/l": "fails"}
    record(
        store, "real", 3, {"real": 1.0}, judged="real", facts={"levels": {"methods/real": "strict"}}
    )
    record(store, "ste", 3, {"binary": 1.0}, facts={"levels": halves})
    results = Results(store, "s")
    shown = page.facts(results)["hyperparameters"]
    column = list(shown.columns).index("checks")

    assert {
        "real": "not checked / strict",
        "ste": "not checked / binarizer conforms, optimizer works",
        "bop": "not checked",
    } == {row[1]: row[column] for row in shown.rows}
    assert tables.hyperparameters_table(results.rows()).columns == shown.columns[:-1]
    store.engine.dispose()

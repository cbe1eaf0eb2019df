"""The shell completes commands, options and names, and never waits for torch."""

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from bnnbench.cli import cli, main
from bnnbench.folders import cache_folder
from bnnbench.names import known_names
from bnnbench.plugins import KINDS, load_plugins


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """A cache and a folder of this test's own."""
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def completed(*words: str) -> list[str]:
    """What the shell is offered for the last word."""
    complete = ShellComplete(cli, {}, "bnnbench", "_BNNBENCH_COMPLETE")
    return [item.value for item in complete.get_completions([*words[:-1]], words[-1])]


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_those_of_the_plugins(kind):
    """With and without what an earlier command left, a kind's names are all that plugins offer."""
    bundled = [p for p in load_plugins().plugins if p.distribution == "bnnbench"]
    wanted = sorted(name for plugin in bundled for name in plugin.components.get(kind, ()))

    fresh = known_names(kind)
    assert 0 == main(["plugins", "list"])

    assert wanted == fresh == known_names(kind)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["stu"], ["study"]),
        (["study", "cr"], ["create"]),
        (["study", "create", "quick"], ["quickstart"]),
        (["study", "create", "x", "--method", "bop"], ["bop", "bop2"]),
        (["study", "create", "x", "--method", "sign-"], ["sign-hardtanh+"]),
        (["study", "create", "x", "--method", "sign+bo"], ["sign+bop", "sign+bop2"]),
        (["study", "create", "x", "--dataset", "mni"], ["mnist"]),
        (["study", "create", "x", "--architecture", "ml"], ["mlp"]),
        (["study", "create", "x", "--loss", "squ"], ["squared-hinge"]),
        (["data", "fetch", "cifar100"], ["cifar100"]),
        (["plugins", "show", "frozen-r"], ["frozen-random"]),
        (["time", "timing-bc-p"], ["timing-bc-pytorch"]),
        (["study", "run", "s", "--take"], ["--take-over"]),
    ],
)
def test_what_is_offered(words, wanted):
    """Commands, options, and the names that an argument can be."""
    found = completed(*words)

    assert wanted == found


def test_studies_of_the_database(tmp_path):
    """Studies are those of the database that the command names."""
    flags = ["--dataset", "digits", "--architecture", "mlp", "--method", "bop"]
    for storage, name in (("a.db", "first"), ("a.db", "second"), ("b.db", "third")):
        assert 0 == main(["study", "create", name, *flags, "--storage", storage])

    found = completed("study", "run", "--storage", "a.db", "")

    assert {"first", "second"} == set(found)
    assert ["third"] == completed("report", "--storage", "b.db", "")
    assert [] == completed("study", "show", "--storage", "nowhere.db", "")
    assert not (tmp_path / "nowhere.db").exists()


def test_torch_is_never_imported():
    """Completing a name imports no torch, nor numpy, though some plugin's module does."""
    code = """
import sys
from bnnbench.cli import main
try:
    main([])
finally:
    heavy = [name for name in ("torch", "numpy", "optuna", "plotly") if name in sys.modules]
    print(heavy, file=sys.stderr)
"""
    given = {"_BNNBENCH_COMPLETE": "bash_complete", "COMP_CWORD": "5"}
    words = "bnnbench study create x --method bo"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **given, "COMP_WORDS": words},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ["plain,bop", "plain,bop2"] == done.stdout.split()
    assert "[]" == done.stderr.strip()


@pytest.mark.parametrize("damaged", ["", "[1]", "{", "\xff"])
def test_a_damaged_cache_costs_nothing(damaged):
    """Names are found, whatever a file in the cache holds."""
    cache_folder().mkdir()
    (cache_folder() / "names.json").write_text(damaged, encoding="latin-1")

    assert "bop" in known_names("methods")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    """A command works where its cache cannot be made."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "file" / "cache"))

    assert 0 == main(["plugins", "list"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell):
    """The command prints a script that asks bnnbench for completions."""
    result = CliRunner().invoke(cli, ["completion", shell])

    assert 0 == result.exit_code
    assert f"_BNNBENCH_COMPLETE={shell}_complete" in result.output

"""The command line: one line for every error, and a documented exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bnnbench.cli import main

from .conftest import TINY


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in an empty folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *arguments])
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_main_job(run, tmp_path):
    """Create, plan, run, show, report, list, delete: what the README does."""
    assert 0 == run("study", "create", "s", "--from", "tiny.toml")[0]
    code, out, _ = run("study", "run", "s", "--plan")
    assert (0, True) == (code, "8 runs are missing" in out)

    code, out, err = run("study", "run", "s")

    assert (0, "") == (code, err)
    assert 8 == out.count(", done in ")
    assert "test accuracy %" in out
    assert "report: bnnbench report s" in out
    assert "nothing is missing" in run("study", "run", "s", "--plan")[1]
    assert "real" in run("study", "show", "s")[1]
    assert "no run failed" in run("study", "show", "s", "--failed")[1]
    assert "8 of 8" in run("study", "list")[1]
    assert 0 == run("report", "s")[0]
    assert (tmp_path / "s.html").stat().st_size > 1_000_000
    assert "give --yes" in run("study", "delete", "s")[2]
    assert 0 == run("study", "delete", "s", "--yes")[0]
    assert "no studies" in run("study", "list")[1]


def test_study_from_flags(run):
    """Flags make the same study that a file would."""
    create = ("study", "create")
    made = run(*create, "s", "--from", "tiny.toml", "--loss", "cross-entropy", "--seeds", "7")
    flags = ("--dataset", "digits", "--architecture", "mlp", "--method", "sign+bop")
    crossed = run(*create, "c", *flags)

    store = Store("bnnbench.db", create=False)
    study = store.study("s")
    assert [0, 0] == [made[0], crossed[0]]
    assert ("cross-entropy", 7) == (study.tasks[0].loss.name, study.protocol.seeds)
    assert ["sign-bop"] == [method.name for method in store.study("c").methods]
    store.engine.dispose()


def test_study_held_elsewhere_can_be_taken_over(run):
    """A study whose holder died with its machine is not lost."""
    from bnnbench.store import Store

    run("study", "create", "s", "--from", "tiny.toml", "--trials", "0", "--seeds", "1")
    store = Store("bnnbench.db", create=False)
    assert store.hold("s", "another-machine:1:5", expected="")

    refused = run("study", "run", "s")
    taken = run("study", "run", "s", "--take-over")

    assert (2, True) == (refused[0], "process 1 on another-machine" in refused[2])
    assert "--take-over" in refused[2]
    assert 0 == taken[0]
    store.engine.dispose()


def test_no_arguments_is_help(run):
    """The bare command explains itself."""
    for call in ((), ("study",)):
        code, out, _ = run(*call)
        assert 2 == code
        assert out.startswith("Usage: ")


def test_method_with_no_result_ends_the_command_with_6(run, tmp_path):
    """A method all of whose trials diverge is named, and nothing is said to be missing."""
    (tmp_path / "d.toml").write_text(
        TINY.replace('method = "real"', 'method = "real"\nhyperparameters = { lr_end = 1e30 }\n'
                     "search = { lr = { low = 1e30, high = 1e31 } }")
    )  # fmt: skip
    run("study", "create", "d", "--from", "d.toml")

    code, _, err = run("study", "run", "d")

    assert (6, True) == (code, "no run of real was completed" in err)
    assert "nothing is missing" in run("study", "run", "d", "--plan")[1]
    assert "diverged: t real tune trial 0" in run("study", "show", "d", "--failed")[1]
    assert "diverged: t real tune trial 0" in run("study", "show", "d", "--events")[1]


def test_plugins_show_explains(run):
    """Equations, hyperparameters, defaults, search space and source of a component."""
    code, out, _ = run("plugins", "show", "methods/bop")

    assert 0 == code
    for text in (
        "m <- (1 - gamma) m + gamma g",
        "gamma",
        "0.0001",
        "1e-05 to 0.01, log",
        "source:",
    ):
        assert text in out


def test_blocked_plugin_is_listed(run):
    """A plugin that is left out is shown with the reason."""
    out = run("-p", "no:studies", "plugins", "list")[1]

    assert "blocked" in out


def imported(*arguments):
    """The modules that a command imports, in a fresh process."""
    script = (
        "import sys, json\nfrom bnnbench.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        "print(json.dumps([code, sorted(m for m in sys.modules if '.' not in m)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (("--help",), {"torch", "optuna", "sqlalchemy", "plotly", "sklearn", "scipy", "pydantic"}),
        (("study", "run", "--help"), {"torch", "optuna", "sqlalchemy", "plotly", "sklearn"}),
        (("plugins", "list"), {"torch", "optuna", "sqlalchemy", "plotly", "sklearn"}),
        (("data", "list"), {"torch", "optuna", "sqlalchemy", "plotly", "sklearn"}),
    ],
)
def test_commands_import_only_what_they_use(arguments, heavy):
    """Help and lists answer at once, because torch and the like are not imported for them."""
    code, modules = imported(*arguments)

    assert 0 == code
    assert set() == heavy & set(modules)


def test_report_needs_no_torch(run, tmp_path):
    """A laptop that only holds the database reads it without torch."""
    run("study", "create", "s", "--from", "tiny.toml")
    run("study", "run", "s")

    for arguments in (("study", "show", "s"), ("study", "list"), ("report", "s")):
        code, modules = imported(*arguments)
        assert (0, set()) == (code, {"torch", "optuna", "sklearn"} & set(modules))

"""The command line: one line for every error, and a documented exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from bnnbench.cli import main

from .conftest import TINY
from .test_graph import GRAPH


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
    assert "not run yet" in run("study", "list")[1]

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


def test_graph_of_runs(run, tmp_path):
    """The plan names what is built on, a second study reuses it, the last to go forgets it."""
    (tmp_path / "graph.toml").write_text(GRAPH)
    (tmp_path / "more.toml").write_text(GRAPH.replace('"ste"', '"ternary"'))

    created = run("study", "create", "g", "--from", "graph.toml")
    planned = run("study", "run", "g", "--plan")
    code, out, err = run("study", "run", "g")
    run("study", "create", "more", "--from", "more.toml")
    reused = run("study", "run", "more", "--plan")

    assert "runs in all 6, beside runs that others build on: before" in created[1]
    assert "8 runs are missing" in planned[1]
    assert "start_from = before" in planned[1]
    assert (0, "") == (code, err)
    assert 2 == out.count("plain before base seed ")
    (line,) = [line for line in reused[1].splitlines() if " before " in line and "from" not in line]
    assert ["plain", "before", "0", "0", "0", "2", "3"] == line.split()
    shown = run("study", "show", "g")[1]
    assert "run plain before base seed 1: done, validation " in shown
    assert "start_from of ste" in shown
    assert 0 == run("report", "g")[0]
    assert "Runs that others start from or learn from" in (tmp_path / "g.html").read_text()
    folder = tmp_path / "bnnbench.db.checkpoints"
    assert 2 == len(list(folder.glob("*.safetensors")))
    assert 0 == run("study", "run", "more")[0]
    assert (
        "deleted study 'g', 2 runs; 6 others belong to other studies"
        in run("study", "delete", "g", "--yes")[1]
    )
    assert 2 == len(list(folder.glob("*.safetensors")))
    run("study", "delete", "more", "--yes")
    assert {"pace"} == {path.name.partition("-")[0] for path in folder.iterdir()}


WRONG_GRAPHS = {
    "width = 16": (
        "width = 8",
        "'dense1.weight' of shape (16, 64) does not fit the place of shape (8",
    ),
    "epochs = 2": ("epochs = 2\nbatch_size = 100000", "batch_size must be at most"),
    'method = "bop"': ('method = "bnew"', "bnew has 3 phases and needs as many epochs, got 2"),
    "[protocol]": ("[runs.spare]\nmethod = 'nobody'\n[protocol]", "run 'spare': "),
}


@pytest.mark.parametrize("old", WRONG_GRAPHS)
def test_create_refuses_what_cannot_be_trained(run, tmp_path, old):
    """Shapes, batches, phases: told before the study is there, with the method's name."""
    new, message = WRONG_GRAPHS[old]
    graph = GRAPH.replace(old, new, 1)
    if "width" in old:
        own = 'architecture = { name = "mlp", depth = 1, width = 16 }\nepochs = 3'
        graph = graph.replace("epochs = 3", own)
    (tmp_path / "wrong.toml").write_text(graph)

    code, _, err = run("study", "create", "w", "--from", "wrong.toml")

    assert (2, 1) == (code, len(err.splitlines()))
    assert message in err
    assert "there is no database" in run("study", "list")[2]


def test_runs_that_nobody_names_are_told(run, tmp_path):
    """A run that nothing builds on is not trained, and one is told so."""
    (tmp_path / "spare.toml").write_text(
        GRAPH.replace("[protocol]", "[runs.spare]\nmethod='ste'\n[protocol]")
    )

    code, out, err = run("study", "create", "s", "--from", "spare.toml")

    assert 0 == code
    assert "warning: the run 'spare' is named by nobody and will not be trained\n" == err
    assert "others build on: before\n" in out


def test_a_folder_that_cannot_hold_checkpoints_is_refused(run, tmp_path):
    """Before anything is trained."""
    (tmp_path / "file").write_text("")
    run("study", "create", "s", "--from", "tiny.toml")

    code, _, err = run("study", "run", "s", "--checkpoints", "file")

    assert (2, 1) == (code, len(err.splitlines()))
    assert "file cannot (File exists); name another with --checkpoints" in err


def test_warnings_are_one_line(run, tmp_path, recwarn):
    """What a method warns of is said as an error is, and the study goes on."""
    warned = TINY.replace('method = "bop"', 'method = "bnew"\nhyperparameters = { budget = 2 }')
    (tmp_path / "warned.toml").write_text(warned.replace("epochs = 2", "epochs = 3"))
    warnings.simplefilter("default")

    code, _, err = run("study", "create", "w", "--from", "warned.toml")

    assert 0 == code
    (line,) = err.splitlines()
    assert line.startswith("warning: a budget of 2 lets a weight grow by e^2 = 7.39 times at most;")


def test_study_from_flags(run):
    """Flags make the same study that a file would."""
    task = ("--dataset", "digits", "--architecture", "mlp", "--epochs", "3", "--seeds", "2")

    made = run("study", "create", "f", *task, "--method", "ste", "--method", "bop")

    assert 0 == made[0]
    assert "tasks 1, methods 2, tuning trials 0, seeds 2, runs in all 4" in made[1]
    assert "0 trials: nothing is tuned" in made[1]


def test_flags_change_a_study_file(run):
    """What a flag says goes before what the file says."""
    from bnnbench.store import Store

    create = ("study", "create")
    made = run(*create, "s", "--from", "tiny.toml", "--loss", "cross-entropy", "--seeds", "7")
    flags = ("--dataset", "digits", "--architecture", "mlp", "--method", "sign+bop")
    crossed = run(*create, "c", *flags, "--set", "width=48", "--set", "activation=sign")

    store = Store("bnnbench.db", create=False)
    study = store.study("s")
    assert [0, 0] == [made[0], crossed[0]]
    assert ("cross-entropy", 7) == (study.tasks[0].loss.name, study.protocol.seeds)
    assert ["sign-bop"] == [method.name for method in store.study("c").methods]
    network = store.study("c").tasks[0].architecture
    assert ("mlp", {"width": 48, "activation": "sign"}) == (network.name, network.hyperparameters)
    store.engine.dispose()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--set", "width=48"], "--set is for the network that --architecture names; give both"),
        (["--architecture", "mlp", "--set", "widht=48"], "did you mean 'width'?"),
        (["--architecture", "mlp", "--set", "width"], "must be KEY=VALUE, as in width=64"),
    ],
)
def test_wrong_hyperparameters_of_a_network(run, flags, said):
    """One line each."""
    code, _, err = run("study", "create", "x", "--dataset", "digits", "--method", "real", *flags)

    assert 2 == code
    assert said in err
    assert 1 == len(err.splitlines())


def edited(tmp_path, old, new):
    assert old in TINY
    (tmp_path / "bad.toml").write_text(TINY.replace(old, new))
    return ("study", "create", "s", "--from", "bad.toml")


WRONG_FILES = [
    ('"bop"', '"bopp"', 2, "no plugin offers a method called 'bopp'; did you mean 'bop'?"),
    (
        '"digits"',
        '"digit"',
        2,
        "no plugin offers a data set called 'digit'; did you mean 'digits'?",
    ),
    ("epochs", "epocs", 2, "bad.toml: task.epocs: unknown key; did you mean 'epochs'?"),
    ("width = 16", "widht = 16", 2, "mlp has no hyperparameter 'widht'; did you mean 'width'?"),
    ("width = 16", "shortcut = 1", 2, "error: task.architecture: mlp has no hyperparameter"),
    ("width = 16", "width = 0", 2, "mlp: width = 0: input should be greater than"),
    (
        'method = "bop"',
        'method = "bop"\nhyperparameters = { gamma = 2 }',
        2,
        "bop: gamma = 2: input",
    ),
    ('method = "bop"', 'method = "bop"\nsearch = { gama = [1e-3] }', 2, "did you mean 'gamma'?"),
    ('method = "bop"', 'method = "bop"\nsearch = { gamma = [3.0] }', 2, "bop: gamma = 3.0: input"),
    ("width = 16", "dropout = inf", 2, "mlp: dropout = inf: input should be"),
    ("[task]", "[task", 2, "bad.toml: not TOML"),
]


@pytest.mark.parametrize(("old", "new", "code", "message"), WRONG_FILES)
def test_wrong_study_file(run, tmp_path, old, new, code, message):
    """A study file's fault is found when the study is created, and nothing is created."""
    got, out, err = run(*edited(tmp_path, old, new))

    assert (code, "") == (got, out)
    assert message in err
    assert 1 == len(err.strip().splitlines())
    assert not (tmp_path / "bnnbench.db").exists()


SECOND = """
[[tasks]]
name = "second"
dataset = "digits"
architecture = { name = "mlp", depth = 1, dropout = 0.5, OPTION = 2 }
epochs = 2
[protocol]
"""


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("widht", "mlp has no hyperparameter 'widht'; did you mean 'width'?\n"),
        ("pad_value", "('pad_value' belongs to 'bc-vgg', "),
    ],
)
def test_the_task_that_is_wrong_is_named(run, tmp_path, option, told):
    """Of several tasks the one is named, and who has the hyperparameter that its network lacks."""
    text = TINY.replace("[task]", "[[tasks]]").replace("[protocol]\n", SECOND)
    (tmp_path / "two.toml").write_text(text.replace("OPTION", option))

    code, _, err = run("study", "create", "s", "--from", "two.toml")

    assert (2, 1) == (code, len(err.strip().splitlines()))
    assert err.startswith("error: task 'second': architecture: mlp has no hyperparameter")
    assert told in err


WRONG_CALLS = [
    (("study", "creat", "x"), 2, "there is no command 'creat'; did you mean 'create'?"),
    (("stdy",), 2, "there is no command 'stdy'; did you mean 'study'?"),
    (("study", "create", "quickstat"), 2, "did you mean 'quickstart'?"),
    (("study", "create", "a/b", "--from", "tiny.toml"), 2, "a study's name must be letters"),
    (("study", "create", "s", "--from", "none.toml"), 2, "none.toml: cannot be read"),
    (
        ("study", "create", "s", "--from", "tiny.toml", "--seeds", "0"),
        2,
        "0 is not in the range x>=1",
    ),
    (
        ("study", "create", "s", "--from", "tiny.toml", "--trials", "-1"),
        2,
        "-1 is not in the range x>=0",
    ),
    (
        ("study", "create", "s", "--from", "tiny.toml", "--sampler", "x"),
        2,
        "protocol.sampler: input should",
    ),
    (("study", "create", "s", "--from", "tiny.toml", "--method", "bop"), 2, "not both"),
    (("study", "create", "s", "--method", "bop"), 2, "the flags: task.dataset: this key is needed"),
    (("study", "list", "--storage", ""), 4, "a storage must outlive the command"),
    (("study", "run", "s"), 4, "there is no database at bnnbench.db"),
    (("study", "run", "s", "--storage", "tiny.toml"), 4, "tiny.toml is not an SQLite database"),
    (("report", "s", "--storage", "mysql://x"), 4, "others are not supported"),
    (("data", "fetch", "digits"), 2, "has nothing to fetch"),
    (("data", "fetch", "mnits"), 2, "did you mean 'mnist'?"),
    (("plugins", "show", "bopp"), 2, "did you mean 'bop'?"),
    (("plugins", "show", "qqq"), 2, "is called 'qqq'; 'bnnbench plugins list' names them all"),
    (("-p", "bundled", "plugins", "list"), 2, "must be no:NAME, got 'bundled'"),
]


@pytest.mark.parametrize(("call", "code", "message"), WRONG_CALLS)
def test_wrong_call(run, call, code, message):
    """One line says what is wrong and what to do; the exit code is the documented one."""
    got, _, err = run(*call)

    assert code == got
    assert message in err
    assert 1 == len(err.strip().splitlines())
    assert err.startswith("error: ")


def test_wrong_calls_on_a_study_that_exists(run, tmp_path):
    """A name that is taken, a report of nothing, a device that is none, a report to nowhere."""
    run("study", "create", "s", "--from", "tiny.toml")

    again = run("study", "create", "s", "--from", "tiny.toml")
    empty = run("report", "s")
    device = run("study", "run", "s", "--device", "qpu")
    run("study", "run", "s")
    nowhere = run("report", "s", "-o", str(tmp_path / "no" / "s.html"))
    folder = run("report", "s", "-o", str(tmp_path))

    assert (2, True) == (again[0], "a study named 's' exists" in again[2])
    assert (2, True) == (empty[0], "bnnbench study run s" in empty[2])
    assert (2, True) == (device[0], "the device 'qpu' cannot be used" in device[2])
    assert [2, 2] == [nowhere[0], folder[0]]
    for call in (again, empty, device, nowhere, folder):
        assert 1 == len(call[2].strip().splitlines()), call


def test_missing_data_is_found_before_anything_is_trained(run, tmp_path, monkeypatch):
    """A data set that is not there ends the command with one line that says how to get it."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path))
    run(*edited(tmp_path, '"digits"', '"mnist"'))

    code, out, err = run("study", "run", "s")

    assert (3, "") == (code, out)
    assert "bnnbench data fetch mnist" in err
    assert 1 == len(err.strip().splitlines())


def test_failed_runs_end_the_command_with_6(run, monkeypatch):
    """The table is printed all the same, and the line says where the tracebacks are."""
    from bnnbench_plugins.bop import Bop

    monkeypatch.setattr(Bop, "step", lambda self, closure=None: 1 / 0)
    run("study", "create", "s", "--from", "tiny.toml")

    code, out, err = run("study", "run", "s")

    assert 6 == code
    assert "test accuracy %" in out
    assert "'bnnbench study show s --failed' has them all, 'bnnbench plugins check bop' may" in err
    assert "ZeroDivisionError" in run("study", "show", "s", "--failed")[1]


def test_own_plugins_are_listed_before_the_bundled_ones(run, tmp_path):
    """What a user looks for stands at the top."""
    (tmp_path / "zebra.py").write_text(
        "import torch\nfrom bnnbench import hookimpl\n\n\n@hookimpl\n"
        "def register_losses(register):\n    register('zebra', torch.nn.CrossEntropyLoss)\n"
    )

    code, out, _ = run("--plugin", "zebra.py", "plugins", "list")

    assert code == 0
    assert out.index("zebra") < out.index("bundled")


@pytest.mark.parametrize("option", ["--plugin", "-p"])
def test_an_option_of_the_top_after_the_command(run, option):
    """The line says where it stands."""
    code, _, err = run("plugins", "list", option, "x.py")

    assert 2 == code
    assert f"It stands before the command: bnnbench {option} ..." in err


def test_study_held_elsewhere_can_be_taken_over(run):
    """A study that somebody changes is left alone, unless who did died with the machine."""
    from bnnbench.leases import Leases
    from bnnbench.store import Store

    run("study", "create", "s", "--from", "tiny.toml", "--trials", "0", "--seeds", "1")
    store = Store("bnnbench.db", create=False)
    other = Leases(store)
    other.holder = "another-machine:1:7:5:abcdef01"
    assert other.take("study s/")

    refused = run("study", "run", "s")
    taken = run("study", "run", "s", "--take-over")

    assert (2, True) == (refused[0], "process 7 on another-machine" in refused[2])
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
    diverging = """method = "real"
hyperparameters = { lr_end = 1e30 }
search = { lr = { low = 1e30, high = 1e31 } }"""
    (tmp_path / "d.toml").write_text(TINY.replace('method = "real"', diverging))
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

"""Study files: every key is checked, and a wrong one is answered in one line."""

from __future__ import annotations

import tomllib

import pytest

from bnnbench.errors import UsageError
from bnnbench.studies import Study, check_name
from bnnbench.studyfile import parse_study, read_study

GOOD = """
title = "t"
[task]
dataset = "digits"
architecture = { name = "mlp", width = 8 }
epochs = 3
[protocol]
trials = 1
[[methods]]
method = "real"
[[methods]]
binarizer = "sign"
optimizer = "bop"
search = { gamma = { low = 1e-5, high = 1e-3, log = true }, tau = [1e-8, 1e-7] }
"""


def changed(old: str, new: str) -> Study:
    assert old in GOOD
    return parse_study(tomllib.loads(GOOD.replace(old, new)), "s.toml")


def test_good_file_is_read_in_full():
    """Names come from components, options become hyperparameters, the rest has its default."""
    study = parse_study(tomllib.loads(GOOD), "s.toml")

    assert ["digits-mlp"] == [task.name for task in study.tasks]
    assert {"width": 8} == study.tasks[0].architecture.hyperparameters
    assert ["real", "sign-bop"] == [method.name for method in study.methods]
    assert "sign+bop" == study.methods[1].component
    assert "real" == study.reference
    assert study == Study.model_validate_json(study.model_dump_json())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epoch = 3", "unknown key; did you mean 'epochs'?"),
        ("trials = 1", "trails = 1", "protocol.trails: unknown key; did you mean 'trials'?"),
        ("title", "titel", "s.toml: titel: unknown key; did you mean 'title'?"),
        ("[task]", "[tsk]", "unknown key; did you mean 'task'?"),
        ("optimizer =", "optimiser =", "did you mean 'optimizer'?"),
        (
            "low = 1e-5",
            "lwo = 1e-5",
            "methods[1].search.gamma.lwo: unknown key; did you mean 'low'?",
        ),
        (
            "epochs = 3",
            "epochs = 0",
            "task.epochs: input should be greater than or equal to 1, got 0",
        ),
        (
            "trials = 1",
            "trials = -1",
            "protocol.trials: input should be greater than or equal to 0, got -1",
        ),
        (
            "trials = 1",
            "seeds = 0",
            "protocol.seeds: input should be greater than or equal to 1, got 0",
        ),
        ("trials = 1", 'sampler = "tpee"', "protocol.sampler: input should be 'tpe', 'random'"),
        ('optimizer = "bop"', "", "name either a method, or a binarizer and an optimizer"),
        (
            'binarizer = "sign"',
            'method = "real"',
            "name either a method, or a binarizer and an optimizer",
        ),
        (
            "trials = 1",
            'reference = "reel"',
            "there is no method 'reel' here; did you mean 'real'?",
        ),
        ("tau = [1e-8, 1e-7]", "tau = []", "methods[1].search.tau"),
        ("low = 1e-5", "low = 0.0", "a logarithmic search must begin above 0, got low = 0"),
        ("low = 1e-5", "low = 1.0", "low <= high must hold, got 1 > 0.001"),
        (
            'optimizer = "bop"',
            'optimizer = "bop"\nhyperparameters = { tau = 1e-8 }',
            "either fixed or searched, 'tau' is both",
        ),
        ('method = "real"', 'name = "sign-bop"\nmethod = "real"', "got 'sign-bop' twice"),
        ('method = "real"', 'name = "../x"\nmethod = "real"', "should match pattern"),
    ],
)
def test_wrong_key_or_value_is_one_line(old, new, message):
    """The line names the key, what is wrong and the way out."""
    with pytest.raises(UsageError) as error:
        changed(old, new)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = ", "not TOML"), (b"\xff\xfe", "UTF-8"), (None, "cannot be read")],
)
def test_file_that_is_no_study(tmp_path, content, message):
    """A file that is missing, no text or no TOML is one line."""
    path = tmp_path / "s.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=message):
        read_study(str(path))


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-x", "x\n"])
def test_name_that_cannot_be_a_study(name):
    """Names cannot hold a path, a space or a line's end."""
    with pytest.raises(UsageError):
        check_name(name)

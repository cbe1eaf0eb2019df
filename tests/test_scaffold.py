"""`bnnbench plugins new`: what it makes works unchanged, for every kind and every good name."""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bnnbench.cells import cells
from bnnbench.cli import main
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.plugins import KINDS as REGISTRY
from bnnbench.plugins import load_plugins
from bnnbench.scaffold import KINDS, Package
from bnnbench.studyfile import read_study

from .first_plugin import call, environment, first_plugin

ROOM = 120  #: seconds, on a machine of continuous integration
ODD = 'Ada "A." O\'Neil \\ Ω <x@y> {{ name }} 😀'


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package of each kind, side by side."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        Package(f"some-{kind}", kind).write(folder / kind)
    return folder


def run(*command: object, cwd: Path) -> str:
    """Call a module of Python; its output, which the test shows where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(tool) is None, reason=f"{tool} is not here")


@pytest.mark.slow
def test_every_kind_passes_its_own_tests(packages, tmp_path):
    """All are installed into one environment; each plugin is in use, and its tests pass there."""
    commands = environment(tmp_path / "env")

    call("pip install " + " ".join(f"-e ./{kind}" for kind in KINDS), commands, packages)
    listed = " ".join(call("bnnbench plugins list", commands, packages).split())
    tested = call("python -m pytest -q -W error --import-mode=importlib .", commands, packages)

    for kind, registered in KINDS.items():
        name = f"some-{kind}"
        row = rf"{name} ok {name} 0\.1\.0\+[0-9a-f]+ .*?{registered}: {name}\b"
        assert re.search(row, listed), kind
    assert " passed" in tested
    assert " failed" not in tested


@needs("ruff")
def test_every_kind_is_in_good_style(packages):
    """ruff has nothing to say, by its default rules, and nothing to format."""
    assert "All checks passed!\n" == run("ruff", "check", "--no-cache", ".", cwd=packages)
    said = run("ruff", "format", "--no-cache", "--check", ".", cwd=packages)
    assert said.endswith("already formatted\n")


@pytest.mark.slow
@needs("mypy")
def test_every_kind_is_typed(packages, tmp_path):
    """mypy --strict has nothing to say of the modules and of their tests."""
    settings = packages / "figure" / "pyproject.toml"  # all others', and that plotly has no types
    modules = [*packages.glob("*/*.py"), *packages.glob("*/tests/*.py")]

    said = run(
        "mypy", "--strict", "--config-file", settings, "--cache-dir", tmp_path, *modules,
        cwd=packages,
    )  # fmt: skip

    assert f"no issues found in {2 * len(KINDS)} source files" in said


@pytest.mark.parametrize("kind", KINDS)
def test_module_is_a_plugin_in_one_file_too(packages, kind):
    """It registers one component, of its kind and by its name, and its study can be planned."""
    plugins = load_plugins(files=[packages / kind / f"some_{kind}.py"])
    (plugin,) = [p for p in plugins.plugins if p.name == f"some-{kind}"]
    study = read_study(str(packages / kind / "study.toml"))

    assert {KINDS[kind]: [f"some-{kind}"]} == plugin.components
    assert cells("s", study, Workbench(plugins))
    assert (f"some-{kind}" in repr(study.model_dump(exclude={"title"}))) is (kind != "figure")


def test_kinds_are_those_that_can_be_registered():
    """Every kind of the registry can be begun, but for studies, which are no code."""
    assert set(REGISTRY) - {"studies"} == set(KINDS.values())


@pytest.mark.slow
def test_first_result_within_the_time(tmp_path):
    """New, install, check, create, run, report: each works, and all take less than two minutes."""
    folder = tmp_path / "plugin"
    folder.mkdir()

    steps = first_plugin(folder, environment(tmp_path / "env"))

    assert sum(seconds for seconds, _ in steps.values()) < ROOM
    assert "bnnbench plugins check quick-signs" in steps["new"][1]
    assert "quick-signs" in steps["check"][1]
    rows = steps["run"][1]
    assert re.search(r"^ *bop +binary \*", rows, flags=re.MULTILINE)
    assert re.search(r"^ *quick-signs +binary \*", rows, flags=re.MULTILINE)
    assert "quick-signs" in (folder / "first.html").read_text()


@pytest.mark.parametrize("author", ["The authors", ODD])
@pytest.mark.parametrize("kind", KINDS)
def test_files_can_be_read_whatever_the_names(kind, author):
    """Python parses, TOML parses, and the author stands in each as written."""
    chance = random.Random(kind + author)
    for _ in range(5):
        words = ["".join(chance.choices("abcxyz0129", k=chance.randrange(1, 9))) for _ in range(3)]
        name = "q" + "-".join(words)
        files = Package(name, kind, author).files

        for path, text in files.items():
            if path.endswith(".py"):
                ast.parse(text)
            assert "\n\n\n\n" not in text
            assert text.endswith("\n")
            assert not text.endswith("\n\n")
        project = tomllib.loads(files["pyproject.toml"])["project"]
        tomllib.loads(files["study.toml"])
        (quoted,) = re.findall(r"- name: (.*)", files["CITATION.cff"])
        assert [{"name": author}] == project["authors"]
        assert author == json.loads(quoted)
        assert author in files["LICENSE"]
        assert {name: name.replace("-", "_")} == project["entry-points"]["bnnbench"]


@needs("ruff")
@pytest.mark.parametrize("name", ["q1", "x2-y", "a-long-name-" + 28 * "q"])
def test_style_does_not_depend_on_the_name(tmp_path, name):
    """ruff has nothing to say of a short name, nor of a long one."""
    for kind in KINDS:
        Package(name, kind).write(tmp_path / kind)

    assert "All checks passed!\n" == run("ruff", "check", "--no-cache", ".", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("My_Opt", "optimizer", "got 'My_Opt'; did you mean 'my-opt'?"),
        ("SignDescent", "optimizer", "did you mean 'sign-descent'?"),
        ("2nd-try", "optimizer", "did you mean 'nd-try'?"),
        ("a--b", "optimizer", "did you mean 'a-b'?"),
        ("-", "optimizer", "got '-'; an example is 'sign-descent'"),
        ("a/b", "optimizer", "did you mean 'a-b'?"),
        ("q" * 41, "loss", f"at most 40 characters, got {'q' * 41!r}; did you mean {'q' * 40!r}?"),
        ("lambda", "loss", "'lambda' is a word of Python; take another, such as 'my-lambda'"),
        ("lambda", "probe", "'lambda' is a word of Python"),
        ("none", "probe", "'none' is a word of Python"),
        ("json", "loss", "there is a module 'json' already"),
        ("torch", "optimizer", "there is a module 'torch' already"),
        ("exception", "probe", "'Exception' means something else in it"),
        ("tensor", "binarizer", "'Tensor' means something else in it"),
        ("momentum", "optimizer", "'Momentum' means something else in it"),
        ("sum", "figure", "'sum' means something else in it"),
        ("mine", "optimiser", "no kind of plugin called 'optimiser'; did you mean 'optimizer'?"),
    ],
)
def test_names_that_cannot_be(name, kind, said):
    """A name is refused in one line, which says what would do."""
    with pytest.raises(UsageError) as error:
        Package(name, kind)

    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def new(tmp_path, monkeypatch, capsys):
    """Call `bnnbench plugins new` in an empty folder; returns the code and both outputs."""
    monkeypatch.chdir(tmp_path)

    def made(*arguments):
        code = main(["plugins", "new", *arguments])
        return code, *capsys.readouterr()

    return made


def test_it_says_what_comes_next(new, tmp_path):
    """The three commands after it are printed; the files are in a folder of the plugin's name."""
    code, out, err = new("sign-descent")

    assert (0, "") == (code, err)
    assert [
        "cd sign-descent && pip install -e '.[dev]' && python -m pytest",
        "bnnbench plugins check sign-descent",
        "bnnbench study create sign-descent --from study.toml",
    ] == [line.strip() for line in out.splitlines()[1:]]
    assert (tmp_path / "sign-descent" / "sign_descent.py").exists()


def test_path_is_the_folder(new, tmp_path):
    """--path names the package's own folder, which may be there if it is empty."""
    (tmp_path / "an empty one").mkdir()

    code, out, _ = new("mine", "--kind", "loss", "--path", "an empty one")

    assert 0 == code
    assert "cd 'an empty one' && pip install -e '.[dev]'" in out
    assert (tmp_path / "an empty one" / "tests" / "test_mine.py").exists()


def test_what_is_there_is_left_alone(new, tmp_path):
    """A folder with something in it, and a file in the way, are refused and stay as they are."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("")

    for path in ("mine", "file", "file/below"):
        code, _, err = new("mine", "--path", path)
        assert (2, 1) == (code, len(err.splitlines()))
        assert "take another with --path" in err
    assert ["thesis.txt"] == [path.name for path in (tmp_path / "mine").iterdir()]
    assert "" == (tmp_path / "file").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("bop", "optimizer", "plugin 'bundled' offers 'bop' already"),
        ("bundled", "loss", "there is a plugin 'bundled' already"),
        ("mlp", "architecture", "a new architecture needs a name of its own"),
        ("digits", "dataset", "a new data set needs a name of its own"),
    ],
)
def test_names_of_others(new, tmp_path, name, kind, said):
    """A name under which the plugin would be left out is refused before anything is written."""
    code, _, err = new(name, "--kind", kind)

    assert 2 == code
    assert said in err
    assert f"such as 'my-{name}'" in err
    assert [] == list(tmp_path.iterdir())


def test_name_of_another_kind_is_free(new):
    """Names are of a kind: a loss may be called as an optimizer is."""
    assert 0 == new("bop", "--kind", "loss")[0]


def test_author_is_who_git_says(new, tmp_path, monkeypatch):
    """The name is git's, or nobody's where git has none or is not there."""
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[user]\nname = Ada Lovelace\n")
    new("aa")
    (tmp_path / "config").write_text("")
    new("bb")
    monkeypatch.setenv("PATH", str(tmp_path))
    new("cc")

    found = [(tmp_path / n / "LICENSE").read_text().splitlines()[2] for n in ("aa", "bb", "cc")]
    assert ["Ada Lovelace", "The authors", "The authors"] == [x.split(maxsplit=3)[3] for x in found]


@pytest.mark.parametrize("kind", KINDS)
def test_module_opens_with_what_it_is(kind):
    """It has indented equations or layers, and a line for the source, as docs and show want."""
    text = ast.get_docstring(ast.parse(Package("some-name", kind).files["some_name.py"]))

    assert re.search(r"^    \S.*(<-|=|->|max)", text, flags=re.MULTILINE)
    assert re.search(r"^source: ", text, flags=re.MULTILINE)

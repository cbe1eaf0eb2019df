"""A plugin in one file: used without installing it, and known by its content."""

import hashlib
import sys
from pathlib import Path

import pytest

from bnnbench.cli import main
from bnnbench.errors import PluginError, UsageError
from bnnbench.onefile import plugin_files
from bnnbench.plugins import load_plugins
from bnnbench.store import Store
from bnnbench.studyfile import read_study

IDEA = """
import torch
from bnnbench import hookimpl


class Halved(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr={rate} * lr)


@hookimpl
def register_optimizers(register):
    register("halved", Halved)
"""
STUDY = """
[task]
dataset = "digits"
architecture = {{ name = "mlp", depth = 1, width = 8 }}
epochs = 1
[protocol]
seeds = 1
[[methods]]
binarizer = "sign"
optimizer = "halved"
[plugins]
files = [{files}]
"""


@pytest.fixture
def idea(tmp_path, monkeypatch):
    """A plugin file in a folder of its own; whatever it brings into Python goes again."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ideas" / "my_idea.py"
    path.parent.mkdir()
    path.write_text(IDEA.format(rate=0.5))
    known = set(sys.modules)
    yield path
    for name in set(sys.modules) - known:
        if "my_idea" in name:
            del sys.modules[name]


def digits(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def codes(study: str) -> list[dict[str, str]]:
    return [dict(entry.run.code) for entry in Store("bnnbench.db").entries(study)]


def test_the_content_is_the_version(idea):
    """The plugin's name is the file's with hyphens, its version the digits of its SHA-256."""
    (plugin,) = [p for p in load_plugins(files=[idea]).plugins if p.name == "my-idea"]

    assert ("my_idea.py", digits(idea)) == (plugin.distribution, plugin.version)
    assert {"optimizers": ["halved"]} == plugin.components


def test_what_is_loaded_twice_is_executed_once(idea):
    """Two looks at one file give the same class, a changed file gives another."""
    first, again = (load_plugins(files=[idea]).get("optimizers", "halved") for _ in range(2))
    idea.write_text(IDEA.format(rate=0.25))
    changed = load_plugins(files=[idea]).get("optimizers", "halved")

    assert first is again
    assert changed is not first


def test_a_module_of_the_same_name_is_left_alone(tmp_path):
    """A plugin file called like a module of Python does not stand in its way."""
    path = tmp_path / "json.py"
    path.write_text(IDEA.format(rate=1))
    before = sys.modules["json"]

    found = load_plugins(files=[path]).get("optimizers", "halved")

    assert sys.modules["json"] is before
    assert found.__module__ == "bnnbench_plugin_file_json"
    del sys.modules["bnnbench_plugin_file_json"]


def test_a_study_created_with_a_file_finds_it_again(idea, monkeypatch, tmp_path):
    """`--plugin` is given once, from whatever folder the study is run."""
    flags = ["--dataset", "digits", "--architecture", "mlp", "--method", "sign+halved"]
    assert 0 == main(["--plugin", "ideas/my_idea.py", "study", "create", "s", *flags])
    storage = ["--storage", str(tmp_path / "bnnbench.db")]
    monkeypatch.chdir("/")

    assert 0 == main(["study", "run", "s", "--plan", *storage])


def test_the_content_goes_into_the_key_of_a_run(idea, capsys):
    """A changed idea is another run; what was trained with the former one stays, and is told."""
    Path("s.toml").write_text(STUDY.format(files='"ideas/my_idea.py"'))
    assert 0 == main(["study", "create", "s", "--from", "s.toml"])
    assert 0 == main(["study", "run", "s", "--threads", "1"])
    former = digits(idea)
    idea.write_text(IDEA.format(rate=0.25))
    capsys.readouterr()

    assert 0 == main(["study", "run", "s", "--threads", "1"])
    warned = capsys.readouterr().err
    assert 0 == main(["study", "create", "t", "--from", "s.toml"])
    assert 0 == main(["study", "run", "t", "--threads", "1"])

    assert [former] == [code["my_idea.py"] for code in codes("s")]
    assert [digits(idea)] == [code["my_idea.py"] for code in codes("t")]
    assert f"1 run was trained with my_idea.py {former}, which is now {digits(idea)}" in warned
    assert 2 == len({e.run.key for s in "st" for e in Store("bnnbench.db").entries(s)})


def test_files_of_a_study_lie_beside_it(idea):
    """A relative path is read from the study file's folder, `~` is the user's."""
    text = STUDY.format(files='"my_idea.py", "~/other.py"')
    study = idea.parent / "s.toml"
    study.write_text(text)

    found = read_study("ideas/s.toml").plugins.files

    assert (str(idea), str(Path("~/other.py").expanduser())) == found


def test_a_file_of_the_same_name_takes_the_place_of_the_studys(idea, capsys):
    """A file that has moved is found with `--plugin`."""
    Path("s.toml").write_text(STUDY.format(files='"ideas/my_idea.py"'))
    assert 0 == main(["study", "create", "s", "--from", "s.toml"])
    moved = Path("elsewhere")
    moved.mkdir()
    idea.rename(moved / "my_idea.py")

    assert 2 == main(["study", "run", "s", "--plan"])
    assert "say where it is with --plugin .../my_idea.py" in capsys.readouterr().err
    assert 0 == main(["--plugin", "elsewhere/my_idea.py", "study", "run", "s", "--plan"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "it has no hook"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (IDEA.format(rate=1).replace('"halved"', '"bop"'), "'bop' is taken by plugin"),
    ],
)
def test_a_file_that_was_asked_for_is_never_left_out(tmp_path, content, reason):
    """Where an installed plugin would be left out, a file's fault ends the command."""
    path = tmp_path / "broken_idea.py"
    path.write_text(content)

    with pytest.raises(PluginError, match="cannot be used") as raised:
        load_plugins(files=[path])

    sys.modules.pop("broken_idea", None)  # of those that could be imported
    assert f"the plugin of {path} cannot be used" in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", ["idea.txt", "my-idea.py", "2nd.py", "idea"])
def test_a_file_is_named_like_a_module(tmp_path, name):
    """The name must be one that Python could import."""
    with pytest.raises(UsageError, match="must be named like a Python module"):
        plugin_files([tmp_path / name])


def test_two_files_of_one_name(tmp_path):
    """Two files of one name are refused, one file named twice is one."""
    a, b = (tmp_path / folder / "idea.py" for folder in "ab")

    assert [a.resolve()] == [
        f.path for f in plugin_files([a, str(a), a.parent / ".." / "a/idea.py"])
    ]
    with pytest.raises(UsageError, match="must have different names"):
        plugin_files([a, b])

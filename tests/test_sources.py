"""A plugin's code is part of its version: what was changed is another plugin."""

from __future__ import annotations

import importlib
import sys

import pytest

from bnnbench.cli import main
from bnnbench.sources import digits

PLUGIN = """
import torch
from bnnbench import hookimpl


class Still(torch.optim.SGD):
    def __init__(self, params, lr: float = {rate}):
        super().__init__(params, lr=lr)


@hookimpl
def register_optimizers(register):
    register("still", Still)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def again(module):
    importlib.invalidate_caches()
    return digits(module)


def test_a_package_has_the_digits_of_all_its_files(here):
    """Each file counts, its name too; what is no Python file does not; nothing is imported."""
    package = here / "some_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "inner" / "rule.py").write_text("x = 1")
    first = again("some_package.inner.rule")
    assert len(first) == 12

    (package / "README.md").write_text("words")
    assert first == again("some_package")
    (package / "inner" / "rule.py").write_text("x = 2")
    changed = again("some_package")
    (package / "inner" / "rule.py").rename(package / "inner" / "law.py")

    assert len({first, changed, again("some_package")}) == 3
    assert "some_package" not in sys.modules


def test_the_same_files_elsewhere_have_the_same_digits(here):
    """The folder does not count."""
    found = set()
    for name in ("one", "two"):
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("x = 1")
        found.add(again(name))

    assert len(found) == 1


def test_a_module_is_one_file(here):
    """Its neighbours are others' affair."""
    (here / "some_module.py").write_text("x = 1")
    first = again("some_module:hooks")
    (here / "neighbour.py").write_text("x = 2")

    assert first == again("some_module")
    assert digits("no_such_module_anywhere") == ""


def test_a_changed_package_is_another_plugin(here, monkeypatch, capsys):
    """Its version changes with its code, so that a run of the new code is a run of its own."""
    info = here / "bnnbench_still-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bnnbench-still\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[bnnbench]\nstill = still_plugin\n")
    monkeypatch.chdir(here)
    listed = []
    for rate in (0.1, 0.2):
        (here / "still_plugin.py").write_text(PLUGIN.format(rate=rate))
        monkeypatch.delitem(sys.modules, "still_plugin", raising=False)
        assert main(["plugins", "show", "still"]) == 0
        listed.append(capsys.readouterr().out)

    versions = [next(w for w in out.split() if w.startswith("0.3+")) for out in listed]
    assert versions[0] != versions[1]

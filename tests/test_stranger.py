"""A stranger's optimizer: the README's plugin, built and installed in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv

import pytest

from .conftest import ROOT
from .test_docs import blocks


def call(*command, cwd, code=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def wheel(source, out):
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.install
def test_stranger_optimizer_is_installed_named_and_compared(tmp_path):
    """Wheels of bnnbench and of the plugin go into a new environment; a study file names it."""
    project, dist, theirs = (tmp_path / name for name in ("plugin", "dist", "theirs"))
    for folder in (project, dist, theirs):
        folder.mkdir()
    _, pyproject, plugin_study = blocks("toml")
    (project / "my_optimizer.py").write_text(blocks("python")[0])
    (project / "pyproject.toml").write_text(pyproject)
    (tmp_path / "compare.toml").write_text(plugin_study)
    ours, plugin = wheel(ROOT, dist), wheel(project, theirs)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    bnnbench = tmp_path / "env" / "bin" / "bnnbench"

    constraints = ROOT / "constraints.txt"
    call(python, "-m", "pip", "install", "--quiet", "-c", constraints, ours, plugin, cwd=tmp_path)
    listed = call(bnnbench, "plugins", "list", cwd=tmp_path)
    shown = call(bnnbench, "plugins", "show", "sign-descent", cwd=tmp_path)
    call(bnnbench, "study", "create", "compare", "--from", "compare.toml", cwd=tmp_path)
    results = call(bnnbench, "study", "run", "compare", cwd=tmp_path)
    report = call(bnnbench, "report", "compare", cwd=tmp_path)

    assert "optimizers: sign-descent" in " ".join(listed.split())
    assert "m <- beta m + (1 - beta) g" in shown
    assert "0.0001 to 0.1, log" in shown
    assert "sign-sign-descent" in results
    assert "compare.html" in report
    blocked = call(
        bnnbench, "-p", "no:my-optimizer", "study", "create", "again", "--from", "compare.toml",
        cwd=tmp_path, code=2,
    )  # fmt: skip
    assert "no plugin offers an optimizer called 'sign-descent'" in blocked
    assert "my-optimizer: blocked by" in blocked

"""docs/scale.md: what it shows for several machines works, with processes as the machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bnnbench.cli import cli
from bnnbench.entries import DONE
from bnnbench.store import Store

from .conftest import ROOT, TINY

TEXT = (ROOT / "docs" / "scale.md").read_text()
OVER_SSH, SLURM = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
(KUBERNETES,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder where ``ssh`` runs what it is given here, and the documents' study is a tiny one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in {
        "ssh": 'shift; exec "$@"',
        "bnnbench": f'exec "{sys.executable}" -m bnnbench "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BNNBENCH_STORAGE", "sqlite:///bnnbench.db")
    Path("tiny.toml").write_text(TINY)
    made = CliRunner().invoke(cli, ["study", "create", "mnist-methods", "--from", "tiny.toml"])
    assert 0 == made.exit_code, made.output
    return tmp_path


def run(script):
    """Run it in bash, each machine being one worker, on this database."""
    script = script.replace(" --workers 4", "")
    script = re.sub(r"^export .*\n", "", script, flags=re.MULTILINE)
    found = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=300)
    assert 0 == found.returncode, found.stderr


def finished():
    entries = Store("bnnbench.db", create=False).entries("mnist-methods")
    return [entry.run.key for entry in entries if entry.state == DONE]


@pytest.mark.slow
def test_machines_reached_by_ssh_share_a_study(machine):
    """Each wrote its own log, and every run is there once."""
    run(OVER_SSH)

    assert {"node1.log", "node2.log"} == {path.name for path in machine.glob("*.log")}
    assert 8 == len(finished()) == len(set(finished()))


@pytest.mark.slow
def test_slurm_script_is_the_command_itself(machine):
    """It ends as the command does, which takes the shell's place: the signal is for the shell."""
    run(SLURM)

    assert 8 == len(finished())
    assert SLURM.splitlines()[-1].startswith("exec bnnbench ")
    assert "--signal=B:TERM@" in SLURM


def test_kubernetes_job_is_one():
    """It is YAML; its command has the options that it is given, and its volume is mounted."""
    pod = yaml.safe_load(KUBERNETES)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, *words = container["command"]
    help_text = CliRunner().invoke(cli, [*words[:2], "--help"]).output

    assert "bnnbench" == program
    assert all(word in help_text for word in words if word.startswith("--"))
    assert {v["name"] for v in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    places = {e["name"]: e.get("value", "") for e in container["env"]}
    assert places["BNNBENCH_CHECKPOINTS"].startswith(container["volumeMounts"][0]["mountPath"])

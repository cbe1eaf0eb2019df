"""The example plugins: packages that are installed, pass their own tests, and are compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from bnnbench.store import Store

from .conftest import ROOT

EXAMPLES = ROOT / "examples" / "plugins"
NAMES = ("adabin", "bayesbinn", "ir-net", "lab")
METHODS = ("bop", *NAMES)
STUDY = """
[task]
dataset = "digits"
architecture = { name = "adabin-mlp", depth = 3, width = 64 }
loss = "cross-entropy"
epochs = 3
batch_size = 50
[protocol]
seeds = 1
"""
CREATED_AND_RUN = """
from bnnbench.cli import main
assert 0 == main(["study", "create", "beside", "--from", "beside.toml"])
assert 0 == main(["study", "run", "beside", "--threads", "1"])
"""
LEARNED = 50.0  #: percent of digits; chance is 10


def call(*command, cwd, site=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    theirs = os.pathsep.join(map(str, (site, *sys.path))) if site else ""
    environment |= {"PYTHONPATH": theirs, "OMP_NUM_THREADS": "1"} if site else {}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The four packages in a folder of their own; their sources are copied, and stay clean."""
    folder = tmp_path_factory.mktemp("examples")
    copy = shutil.copytree(EXAMPLES, folder / "plugins")
    site = folder / "site"
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call(*pip, "--target", str(site), *(str(copy / name) for name in NAMES), cwd=folder)
    return copy, site


def test_their_own_tests_pass(installed):
    """Each package's tests, with bnnbench's suites, against what is installed.

    The checks that watch memory for hundreds of steps are left to the packages' own runs.
    """
    copy, site = installed

    options = ("-q", "-p", "no:cacheprovider", "-W", "error")
    told = call(
        "-m", "pytest", *options, "--rootdir", str(copy), "-k", "not memory_is_flat",
        *(str(copy / name / "tests") for name in NAMES), cwd=site, site=site,
    )  # fmt: skip

    assert " passed" in told
    assert "failed" not in told


def test_they_learn_in_a_study_beside_bop(installed, tmp_path):
    """With published values digits are learned far above chance, by weights of one bit."""
    _, site = installed
    methods = "".join(f'[[methods]]\nmethod = "{name}"\n' for name in METHODS)
    (tmp_path / "beside.toml").write_text(STUDY + methods)

    call("-c", CREATED_AND_RUN, cwd=tmp_path, site=site)

    store = Store(str(tmp_path / "bnnbench.db"))
    runs = {entry.run.method.name: entry for entry in store.entries("beside")}
    assert set(METHODS) == runs.keys()
    for name, entry in runs.items():
        tested = store.value(entry.run_id, "accuracy", split="test", mode="binary")
        assert tested > LEARNED, name
        assert 1 == store.value(entry.run_id, "weight_bits", mode="binary"), name
        assert 1 == store.value(entry.run_id, "activation_bits"), name
        origin = "bnnbench" if name == "bop" else f"bnnbench-{name}"
        assert origin in entry.run.code, name
    store.engine.dispose()

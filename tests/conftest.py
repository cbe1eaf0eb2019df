"""Fixtures that several tests share."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
import torch

from bnnbench.store import Store
from bnnbench.studies import Study
from bnnbench.studyfile import parse_study

ROOT = Path(__file__).parents[1]
TINY = """
title = "tiny"
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 16 }
epochs = 2
batch_size = 100
[protocol]
trials = 2
seeds = 2
[[methods]]
method = "real"
[[methods]]
method = "bop"
"""


torch.set_num_threads(1)  # small networks are fastest so, and sums keep their order


@pytest.fixture(params=["separate", "compiled"])
def both_ways(request, monkeypatch):
    """Trainings move the binary weights by torch operations, then by the compiled pass."""
    monkeypatch.setattr("bnnbench.updates.WORTH", 0 if request.param == "compiled" else math.inf)


@pytest.fixture
def tiny() -> Study:
    """A study that runs in a second or two."""
    return parse_study(tomllib.loads(TINY), "tiny.toml")


@pytest.fixture
def store(tmp_path):
    """An empty database."""
    made = Store(str(tmp_path / "bnnbench.db"))
    yield made
    made.engine.dispose()

"""A segmentation and an augmented classification, from the study file to the table."""

from __future__ import annotations

import tomllib

import pytest

from bnnbench.checkpoints import Checkpoints
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.metrics import LABELS
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.store import DONE
from bnnbench.studyfile import parse_study

from .test_graph import run

PETS = """
[task]
name = "pets"
dataset = { name = "synthetic-pets", size = 16, train = 40, validation = 10, test = 12 }
architecture = { name = "unet", width = 2, depth = 2, activation = "sign" }
loss = "cross-entropy"
epochs = 2
batch_size = 8
[protocol]
trials = 0
seeds = 1
[[methods]]
method = "real"
[[methods]]
method = "ste"
"""
LETTERS = """
[task]
name = "many"
loss = "cross-entropy"
epochs = 1
batch_size = 50
[task.dataset]
name = "synthetic-cifar100"
augmentation = "crop-flip"
train = 200
validation = 100
test = 100
[task.architecture]
name = "bnew-small"
width = 2
blocks = 1
[protocol]
trials = 0
seeds = 1
[[methods]]
method = "bop"
"""


@pytest.fixture
def workbench(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    return Workbench(load_plugins(), checkpoints=Checkpoints(tmp_path / "checkpoints"))


def trained(text, store, workbench):
    run(store, parse_study(tomllib.loads(text), "x"), workbench)
    return Results(store, "g")


def test_segmentation(store, workbench):
    """Pixel accuracy and IoU of every mode come from the run to the table, with their notes."""
    results = trained(PETS, store, workbench)

    rows = results.rows()

    assert {"segmentation"} == {row.kind for row in rows}
    assert {"synthetic data"} == {row.note for row in rows}
    assert {("real", "real"), ("real", "binary"), ("ste", "binary"), ("ste", "real")} == {
        (row.method, row.mode) for row in rows
    }
    for row in rows:
        assert ["mean_iou"] == list(row.others)
        assert 0 < row.others["mean_iou"].mean <= row.test.mean <= 100
    assert {DONE} == {entry.state for entry in results.entries}


def test_many_classes_have_a_top5(store, workbench):
    """Augmented images of a hundred classes: the best five are right at least as often."""
    (row,) = trained(LETTERS, store, workbench).rows()

    assert ["accuracy_top5"] == list(row.others)
    assert row.others["accuracy_top5"].mean >= row.test.mean


def test_splits_are_stored_with_the_run(store, workbench):
    """Each split's size and digest are facts of the run, and tell the splits apart."""
    (entry,) = trained(LETTERS, store, workbench).entries

    assert {"train": 200, "validation": 100, "test": 100} == entry.facts["examples"]
    assert 3 == len(set(entry.facts["splits"].values()))
    assert entry.facts["task"] in LABELS


def test_a_network_of_another_task_is_refused_early(store, workbench):
    """A class for each image is no class for each pixel: one line, before the study is run."""
    values = tomllib.loads(PETS)
    values["task"]["architecture"] = "mlp"

    with pytest.raises(UsageError, match=r"outputs of shape \(2, 3, 16, 16\), but 'mlp' gives"):
        run(store, parse_study(values, "x"), workbench)

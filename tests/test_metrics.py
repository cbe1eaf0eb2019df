"""The metrics of the tasks, against scikit-learn and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import nn

from bnnbench.evaluation import evaluate
from bnnbench.interfaces import InferenceMode, Split
from bnnbench.latents import Latents
from bnnbench.metrics import LABELS, TALLIES, UNLABELLED, Classification, Segmentation


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(3)


def tallied(tally, outputs, targets, sizes):
    for o, t in zip(outputs.split(sizes), targets.split(sizes), strict=True):
        tally.add(o, t)
    return {name: float(value) for name, value in tally.metrics().items()}


@pytest.mark.parametrize("classes", [11, 30])
def test_classification(draw, classes):
    """Top-1 and top-5 are those of scikit-learn, however the split is cut into batches."""
    outputs = torch.randn(200, classes, generator=draw)
    targets = torch.randint(classes, (200,), generator=draw)

    found = tallied(Classification(), outputs, targets, [150, 49, 1])

    labels = np.arange(classes)
    for name, k in (("accuracy", 1), ("accuracy_top5", 5)):
        expected = oracle.top_k_accuracy_score(targets, outputs, k=k, labels=labels)
        assert 100 * expected == pytest.approx(found[name])


def test_ten_classes_have_no_top5(draw):
    """The best five of ten say nothing."""
    outputs = torch.randn(8, 10, generator=draw)

    assert ["accuracy"] == list(tallied(Classification(), outputs, torch.zeros(8).long(), [8]))


def test_segmentation(draw):
    """Pixels are counted over the whole split, as scikit-learn does, and not batch by batch."""
    outputs = torch.randn(6, 4, 5, 7, generator=draw)
    targets = torch.randint(4, (6, 5, 7), generator=draw)
    targets[:2] = 0  # the first batch has one class

    found = tallied(Segmentation(), outputs, targets, [2, 3, 1])

    flat = targets.flatten(), outputs.argmax(1).flatten()
    assert 100 * oracle.accuracy_score(*flat) == pytest.approx(found["accuracy"])
    assert 100 * oracle.jaccard_score(*flat, average="macro") == pytest.approx(found["mean_iou"])


def test_unlabelled_pixels_do_not_count(draw):
    """A pixel without a label is neither right nor wrong."""
    outputs = torch.randn(3, 3, 4, 4, generator=draw)
    targets = torch.randint(3, (3, 4, 4), generator=draw)
    kept = torch.rand(3, 4, 4, generator=draw) < 0.6

    found = tallied(Segmentation(), outputs, targets.where(kept, UNLABELLED), [3])

    flat = targets[kept], outputs.argmax(1)[kept]
    assert 100 * oracle.accuracy_score(*flat) == pytest.approx(found["accuracy"])
    assert 100 * oracle.jaccard_score(*flat, average="macro") == pytest.approx(found["mean_iou"])


def test_absent_class_has_no_iou():
    """A class that is neither there nor predicted is left out; a predicted one has IoU 0."""
    targets = torch.tensor([[[0, 0, 0, 1]]])
    predicted = torch.tensor([[[0, 0, 2, 1]]])
    outputs = nn.functional.one_hot(predicted, 4).permute(0, 3, 1, 2).float()

    assert 100 * (2 / 3 + 1 + 0) / 3 == pytest.approx(
        tallied(Segmentation(), outputs, targets, [1])["mean_iou"]
    )


def test_nothing_labelled():
    """Without a single label the metrics are 0, not a division by it."""
    found = tallied(Segmentation(), torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), -100), [1])

    assert {"accuracy": 0, "mean_iou": 0} == found


@pytest.mark.parametrize("task", TALLIES)
def test_labels_of_what_is_tallied(task, draw):
    """Each metric has a name for people, the one to choose by comes first."""
    shape = (2, 3, 3) if task == "segmentation" else (2,)
    outputs = torch.randn(2, 12, *shape[1:], generator=draw)
    found = tallied(TALLIES[task](), outputs, torch.zeros(shape, dtype=torch.int64), [2])

    assert list(LABELS[task]) == list(found)


@pytest.mark.parametrize("draws", [1, 3])
def test_evaluation_of_a_segmentation(draw, draws):
    """A network with an output for each pixel is judged by pixels, ensembles too."""
    model = nn.Conv2d(1, 3, 1)
    split = Split(
        torch.randn(5, 1, 4, 4, generator=draw), torch.randint(3, (5, 4, 4), generator=draw)
    )
    mode = InferenceMode(lambda latent: latent, draws)

    def loss(outputs, inputs, targets):
        return nn.functional.cross_entropy(outputs, targets)

    score = evaluate(model, Latents(model), mode, split, loss, "segmentation")

    outputs = model(split.inputs).detach()
    right = (outputs.argmax(1) == split.targets).double().mean().item()
    assert 100 * right == pytest.approx(score.metrics["accuracy"])
    assert loss(outputs, None, split.targets).item() == pytest.approx(score.loss, rel=1e-5)


def test_large_inputs_are_judged_in_smaller_batches(monkeypatch):
    """The memory of an evaluation is bounded, and its result does not know of it."""
    model, sizes = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    split = Split(torch.randn(10, 1, 8, 8), torch.randint(2, (10,)))
    mode = InferenceMode(lambda latent: latent)

    def score():
        loss = nn.functional.cross_entropy
        return evaluate(model, Latents(model), mode, split, lambda o, x, t: loss(o, t))

    whole = score()
    monkeypatch.setattr("bnnbench.evaluation.NUMBERS", 4 * 64)

    assert whole.loss == pytest.approx(score().loss, rel=1e-6)
    assert [10, 4, 4, 2] == sizes

"""Judging a network: means over labels, whatever the batches, and how much memory it takes."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnnbench.evaluation import evaluate
from bnnbench.interfaces import InferenceMode, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryLinear
from bnnbench.metrics import UNLABELLED
from bnnbench_plugins.losses import cross_entropy, squared_hinge

PLAIN = InferenceMode(lambda latent: latent)


def torchs(outputs, inputs, targets):
    """A stranger's loss: not a number where no pixel has a label."""
    return functional.cross_entropy(outputs, targets)


def pixels(n=9, share=0.3):
    """Images whose pixels lack labels more and more often; the second has none at all."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 1, 4, 4, generator=generator)
    targets = torch.randint(3, (n, 4, 4), generator=generator)
    often = torch.linspace(0, 2 * share, n).view(-1, 1, 1)
    targets[torch.rand(n, 4, 4, generator=generator) < often] = UNLABELLED
    targets[1] = UNLABELLED
    return Split(inputs, targets)


def network():
    torch.manual_seed(2)
    return nn.Conv2d(1, 3, 1)


@pytest.mark.parametrize("loss", [cross_entropy(), squared_hinge(), torchs])
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("size", [1000, 4, 2, 1])
def test_labels_count_and_images_do_not(monkeypatch, loss, draws, size):
    """The loss of a split is that of all its labels at once, however it is cut into batches."""
    monkeypatch.setattr("bnnbench.evaluation.BATCH", size)
    model, split = network(), pixels()
    outputs = model(split.inputs).detach()

    score = evaluate(
        model, Latents(model), InferenceMode(PLAIN.view, draws), split, loss, "segmentation"
    )

    known = split.targets != UNLABELLED
    whole = outputs.movedim(1, -1)[known]
    assert loss(whole, None, split.targets[known]).item() == pytest.approx(score.loss, rel=1e-5)
    right = (whole.argmax(1) == split.targets[known]).double().mean().item()
    assert 100 * right == pytest.approx(score.metrics["accuracy"])


def test_nothing_labelled():
    """Without a single label there is no loss, and 0 is not taken for one."""
    split = pixels()
    model, none = network(), Split(split.inputs, torch.full_like(split.targets, UNLABELLED))

    score = evaluate(model, Latents(model), PLAIN, none, cross_entropy(), "segmentation")

    assert math.isnan(score.loss)


def test_a_loss_that_is_no_number_shows():
    """A batch that has labels and a loss that is no number is not passed over."""
    model, split = network(), pixels()

    def broken(outputs, inputs, targets):
        return torchs(outputs, inputs, targets) * math.nan

    score = evaluate(model, Latents(model), PLAIN, split, broken, "segmentation")

    assert math.isnan(score.loss)


def ensemble(monkeypatch, draws, batches):
    """An ensemble on so many batches: its views, a network, its latents and a split."""
    monkeypatch.setattr("bnnbench.evaluation.BATCH", 10)
    torch.manual_seed(0)
    views = [torch.randn(3, 7) for _ in range(draws)]
    coming = iter(views)
    mode = InferenceMode(lambda latent: next(coming), draws)
    model = nn.Sequential(BinaryLinear(7, 3, bias=False))
    split = Split(torch.randn(10 * batches, 7), torch.randint(3, (10 * batches,)))
    return views, mode, model, split


@pytest.mark.parametrize("draws", [2, 5])
def test_ensemble(monkeypatch, draws):
    """Each network is drawn once for the whole split; their outputs are averaged."""
    views, mode, model, split = ensemble(monkeypatch, draws, batches=3)

    score = evaluate(model, Latents(model), mode, split, cross_entropy())

    mean = sum(split.inputs.double() @ view.double().T for view in views) / draws
    assert functional.cross_entropy(mean, split.targets).item() == pytest.approx(score.loss)
    right = (mean.argmax(1) == split.targets).double().mean().item()
    assert 100 * right == pytest.approx(score.metrics["accuracy"])


def test_memory_of_an_ensemble(monkeypatch):
    """However many networks are drawn, the outputs of one are kept, and a batch of another."""
    batches = 20
    _, mode, model, split = ensemble(monkeypatch, 3, batches)
    alive = []

    def look(module, inputs, outputs):
        alive.append(0)
        if len(alive) % batches == 0:  # the last batch of each network: looking takes a moment
            found = (each for each in gc.get_objects() if type(each) is torch.Tensor)
            alive[-1] = sum(each.shape == outputs.shape for each in found)

    model.register_forward_hook(look)

    evaluate(model, Latents(model), mode, split, cross_entropy())

    assert 3 * batches == len(alive)
    assert batches <= alive[-1] <= max(alive) <= batches + 4

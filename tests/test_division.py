"""What several processes cannot train as one does is refused before anything is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnnbench.errors import PluginError, UsageError
from bnnbench.interfaces import Split
from bnnbench.layers import BinaryActivation, BinaryLinear
from bnnbench.parallel.division import divided, few
from bnnbench.parallel.parts import Parts, WholeDraws, share
from bnnbench.seeds import RandomState
from bnnbench_plugins.binarizers import Sign, Stochastic
from bnnbench_plugins.distillation import attention, hinton
from bnnbench_plugins.losses import cross_entropy, squared_hinge

from .lockstep import network as images

BATCH = torch.linspace(-1, 1, 30).sin().view(5, 6), torch.tensor([0, 1, 2, 1, 0])
DRAWING = [nn.Dropout(0.5), nn.Dropout2d(0.5), BinaryActivation(Stochastic())]


class Mixing(nn.Module):
    """A layer that looks at all examples of the batch."""

    def forward(self, x):
        return x - x.mean(0)


class Between(nn.Sequential):
    """A network that draws between its layers."""

    def forward(self, x):
        return functional.dropout(super().forward(x), 0.5, self.training)


def network(*layers):
    with RandomState(1).in_force():
        return nn.Sequential(BinaryLinear(6, 8), *layers, nn.Linear(8, 3))


def summed(outputs, inputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="sum")


def overlap(outputs, inputs, targets):
    """One less the overlap of what is said and what is true, over the batch: no mean."""
    said, true = outputs.softmax(1), functional.one_hot(targets, 3)
    return 1 - 2 * (said * true).sum() / (said.square().sum() + true.sum())


def drawing(outputs, inputs, targets):
    return cross_entropy()(outputs + torch.rand(outputs.shape), inputs, targets)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("loss", [cross_entropy(label_smoothing=0.1), squared_hinge()])
@pytest.mark.parametrize(
    "layers",
    [
        (),
        (nn.BatchNorm1d(8), nn.Dropout(0.5), BinaryActivation(Sign())),
        (BinaryActivation(Stochastic()), nn.LayerNorm(8)),
    ],
)
def test_what_can_be_divided(layers, loss, size):
    """Ordinary networks and losses; which layers draw is found, and nothing is changed."""
    model = network(*layers)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    chance = torch.get_rng_state()

    found = divided(model, loss, BATCH, size)

    drawn = [m for m in layers if isinstance(m, nn.Dropout) or "Stochastic" in repr(m)]
    assert drawn == found
    assert not any(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(chance, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor), name


@pytest.mark.parametrize(
    ("model", "loss", "told"),
    [
        (network(Mixing()), cross_entropy(), "must treat examples one by one"),
        (
            network(),
            summed,
            r"mean over the targets, this one is 5\.\d+ for a batch and 2\.\d+ for",
        ),
        (network(), overlap, "must be a mean over the targets"),
        (Between(*network()), cross_entropy(), "may draw in layers without parts alone"),
        (network(), drawing, "may draw in layers without parts alone"),
    ],
)
def test_what_cannot_be_divided(model, loss, told):
    """One line, with the way out."""
    with pytest.raises(UsageError, match=f"{told}.*; train it with --processes-per-run 1$"):
        divided(model, loss, BATCH, 2)


def test_losses_with_a_teacher_can_be_divided():
    """Those that look at the student's layers, too."""
    student, teacher = images(), images(seed=6)
    batch = torch.randn(5, 1, 4, 4, dtype=torch.double), BATCH[1]
    for loss in (
        hinton(teacher=teacher),
        attention(teacher=teacher, student=student, layers=("norm1",)),
    ):
        assert 2 == len(divided(student, loss, batch, 2))


def test_a_batch_has_an_example_for_each_process():
    """Fewer are refused; more than three for each are not needed to try."""
    examples = Split(torch.zeros(50, 6), torch.zeros(50, dtype=torch.long))

    assert [3, 8, 8] == [len(few(examples, size, 3)[1]) for size in (3, 8, 50)]
    with pytest.raises(UsageError, match="got batch_size 2 and --processes-per-run 3; take fewer"):
        few(examples, 2, 3)


@pytest.mark.parametrize("whole", range(1, 12))
@pytest.mark.parametrize("size", range(1, 5))
def test_parts_are_the_batch(whole, size):
    """One after the other they are all examples, none twice, as even as can be."""
    found = []
    for rank in range(size):
        parts = Parts(rank, size)
        with parts.of(whole) as mine:
            counts = parts.counts
            found += range(whole)[mine]
            assert counts[rank] == mine.stop - mine.start
        assert 0 == parts.whole
    assert list(range(whole)) == found
    assert max(counts) - min(counts) <= 1


def test_shares_are_of_labels():
    """Of examples, or of pixels that have a label; those of all parts add up to 1."""
    rows, pixels = torch.zeros(5), torch.tensor([[[1, -100]], [[-100, -100]], [[2, 0]]])

    assert [0.4, 0.6] == [share(rows[:2], rows), share(rows[2:], rows)]
    assert [1 / 3, 0, 2 / 3] == [float(share(pixels[n : n + 1], pixels)) for n in range(3)]
    assert 0 == share(torch.full((1, 2), -100), torch.full((2, 2), -100))


def test_a_layer_that_draws_needs_a_row_for_each_example():
    """Whose draws they are cannot be said otherwise."""
    parts, layer = Parts(1, 2), nn.Dropout(0.5)
    WholeDraws(layer, parts)

    assert (3, 2) == layer(torch.ones(3, 2)).shape
    with parts.of(5), pytest.raises(PluginError, match="which Dropout is not; train in one"):
        layer(torch.ones(4, 2))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.Dropout2d(0.5), BinaryActivation(Stochastic())]
)
def test_draws_are_those_of_the_whole_batch(layer, order):
    """Part by part comes out what would for the batch, in either order of memory."""
    x = torch.randn(7, 4, 3, 3).contiguous(memory_format=order).requires_grad_()

    def drawn(part):
        with RandomState(2).in_force():
            y = layer(part)
        (gradient,) = torch.autograd.grad((y * y).sum(), part)
        return y, gradient

    wanted = drawn(x)
    for rank in range(3):
        parts = Parts(rank, 3)
        hooks = WholeDraws(layer, parts)
        with parts.of(7) as mine:
            found = drawn(x[mine].detach().requires_grad_())
        hooks.remove()
        for ours, theirs in zip(found, wanted, strict=True):
            assert torch.equal(ours, theirs[mine])

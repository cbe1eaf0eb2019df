"""A training that is broken off and taken up again gives what it would have given, bit for bit."""

from __future__ import annotations

import pytest
import torch

from bnnbench.checkpoints import Checkpoints
from bnnbench.probes import FlipProbe
from bnnbench.runs import Part, Run
from bnnbench.seeds import RandomState
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.mlp import mlp

from .test_training import DATA, LOSS, METHODS

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, 2, 10)
EPOCHS = 4


def begun(method, seed=0, select="best", **options):
    """A training of one of the loop's own tests, with dropout and batch normalization."""
    with RandomState(5).in_force():
        model = mlp(shape=(6,), classes=3, depth=2, width=12, dropout=0.2, **options)
    settings = Settings(EPOCHS, 20, seed, select=select, test=True, reestimate=1)
    return Training(model, method, DATA, LOSS, settings, [FlipProbe()])


def numbers(epochs):
    """All that was measured but times."""
    return [[m for m in found if not m.metric.startswith("seconds")] for found in epochs]


def broken_off(make, after, folder):
    """The measurements of a training that goes through a file after some epochs."""
    first, measured = make(), []
    for found in first:
        measured.append(found)
        if first.epoch == after:
            break
    kept = Checkpoints(folder)
    kept.save_training(RUN, first.state())
    list(first)  # what the dead process may still have done to its tensors
    torch.manual_seed(after)  # and the next one has other random numbers
    second = make()
    second.load(kept.training(RUN))
    return [*measured, *second], second


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("after", range(1, EPOCHS + 1))
@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("name", METHODS)
def test_resumed_is_undisturbed(tmp_path, name, select, after):
    """Train some epochs, save, load in a fresh training, train the rest: every number is equal."""

    def make():
        return begun(METHODS[name], select=select)

    calm = make()
    undisturbed = list(calm)

    resumed, second = broken_off(make, after, tmp_path)

    assert numbers(undisturbed) == numbers(resumed)
    assert EPOCHS + 2 == len(resumed)
    for name, tensor in calm.network().items():
        assert torch.equal(tensor, second.network()[name]), name


def test_the_comparison_sees_what_is_forgotten(tmp_path):
    """Without the optimizers' memory the numbers differ."""

    def make():
        return begun(METHODS["ste"])

    undisturbed = list(make())
    first = make()
    for _ in first:
        if first.epoch == 2:
            break
    state = first.state()
    for optimizer in state["optimizers"].values():
        optimizer["state"] = {}
    second = make()
    second.load(state)

    assert numbers(undisturbed)[3:] != numbers(list(second))


def test_warm_up_is_marked_after_resuming(tmp_path):
    """The first epoch after a resumption is warm-up, as a run's first is."""
    resumed, _ = broken_off(lambda: begun(METHODS["ste"]), 2, tmp_path)

    warm = [any(m.metric == "seconds.warmup" for m in found) for found in resumed]
    assert [False, True, False, True, False, False] == warm


def test_a_training_that_has_not_begun_has_no_state():
    """There is nothing to save before the first epoch."""
    with pytest.raises(ValueError, match="from its first epoch's end on"):
        begun(METHODS["ste"]).state()

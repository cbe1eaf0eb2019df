"""Two processes train what one trains on the same batches, but for rounding.

In double precision: rounding is then so small that no sign and no flip depends on it, and weights
and measurements can be compared after all epochs.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from bnnbench.checkpoints import Checkpoints
from bnnbench.errors import PluginError
from bnnbench.parallel.lockstep import joined
from bnnbench.training import DivergedError

from . import lockstep
from .lockstep import CASES, EPOCHS, LAYERS, NORMS, RUN, batch, begun

TRAINED = [case for case in CASES if case != "diverging"]
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


class Second:
    """The second process of all tests here."""

    def __init__(self):
        command = [sys.executable, str(Path(lockstep.__file__))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def does(self, case, place, epoch=0):
        print(case, epoch, place, sep="\t", file=self.process.stdin, flush=True)

    def is_done(self):
        return "done\n" == self.process.stdout.readline()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def second():
    made = Second()
    yield made
    made.end()


def trained(training):
    """All that was measured but times, and all numbers that the training has come to."""
    measured = [m for found in training for m in found if not m.metric.startswith("seconds")]
    numbers = {**training.latents.state(), **training.network()}
    return measured, {name: tensor.clone() for name, tensor in numbers.items()}


def in_two(training, case, second, place, epoch=0):
    """The same in two processes."""
    second.does(case, place, epoch)
    with joined(training, 0, 2, str(place)):
        found = trained(training)
    assert second.is_done()
    return found


@cache
def in_one(case):
    return trained(begun(case))


def assert_alike(found, wanted):
    measured, numbers = wanted
    assert [m._replace(value=0) for m in measured] == [m._replace(value=0) for m in found[0]]
    for ours, theirs in zip(found[0], measured, strict=True):
        exact = 1e-6 if ours.split == "train" else 1e-10  # the loss in training is fp32
        assert theirs.value == pytest.approx(ours.value, rel=exact, abs=1e-12), theirs
    for name, tensor in numbers.items():
        torch.testing.assert_close(
            found[1][name], tensor, **CLOSE, msg=lambda m, n=name: f"{n} {m}"
        )


@pytest.mark.parametrize("case", TRAINED)
def test_two_processes_train_what_one_trains(second, tmp_path, case):
    """Latents, weights, statistics, losses, accuracies, flips: over 12 steps of 5 + 6 examples."""
    told_by = sys.excepthook

    found = in_two(begun(case), case, second, tmp_path / "place")

    assert told_by is sys.excepthook
    assert_alike(found, in_one(case))


def test_the_cases_are_sensitive():
    """What is compared moves in training: codes flip, and the losses of the epochs differ."""
    for case in TRAINED:
        flips = [m.value for m in in_one(case)[0] if m.metric == "flip_init" and not m.layer]
        losses = [m.value for m in in_one(case)[0] if m.metric == "loss" and m.split == "train"]
        assert flips[-1] > 0, case
        assert EPOCHS == len(set(losses)), case


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("case", ["stochastic", "bnew"])
def test_a_checkpoint_is_taken_up_by_another_number(second, tmp_path, case, processes):
    """Two epochs in 1 or 2 processes, the others in 2 or 1: the same as all of them in one."""
    measured = broken_off(begun(case), case, second, tmp_path, processes)

    rest = begun(case)
    rest.load(Checkpoints(tmp_path).training(RUN))
    if processes == 2:
        found = trained(rest)
    else:
        found = in_two(rest, case, second, tmp_path / "second", epoch=2)

    assert_alike(([*measured, *found[0]], found[1]), in_one(case))


def broken_off(training, case, second, folder, processes):
    """The measurements of two epochs, after which a checkpoint is left in the folder."""
    if processes == 1:
        return two_epochs(training, folder)
    second.does(case, folder / "first")
    with joined(training, 0, 2, str(folder / "first")):
        measured = two_epochs(training, folder)
        list(training)  # so that the second process comes to its end, too
    assert second.is_done()
    return measured


def two_epochs(training, folder):
    measured = []
    for found in training:
        measured += [m for m in found if not m.metric.startswith("seconds")]
        if training.epoch == 2:
            break
    Checkpoints(folder).save_training(RUN, training.state())
    return measured


def test_processes_that_differ_are_found(second, tmp_path, monkeypatch):
    """What differs is named, with the process and the epoch, before it is trained any further."""
    training = begun("bop")
    training.latents.tensors["dense"][0, 0] *= -1

    second.does("bop", tmp_path / "place")
    told = "in epoch 1 the latents of 'dense' differ in processes 1 and 2; train it with"
    with (
        pytest.raises(PluginError, match=told),
        joined(training, 0, 2, str(tmp_path / "place")),
    ):
        list(training)
    second.end()
    second.__init__()


def test_a_training_that_diverges(second, tmp_path):
    """It is told as in one process, not as numbers that differ."""
    training = begun("diverging")

    second.does("diverging", tmp_path / "place")
    with pytest.raises(DivergedError), joined(training, 0, 2, str(tmp_path / "place")):
        list(training)
    second.end()
    second.__init__()


def test_normalization_is_of_the_whole_batch(second, tmp_path):
    """Outputs, gradients and running statistics are those of torch's layer on the whole batch."""
    second.does(NORMS, tmp_path / "place")
    lockstep.normalizes(tmp_path / "place", 0)
    assert second.is_done()

    for name in LAYERS:
        parts = [np.load(tmp_path / f"{name}-{rank}.npz", allow_pickle=False) for rank in (0, 1)]
        wanted = by_torch(name)
        close = {"half": (2e-2, 2e-2), "single": (2e-5, 2e-5)}.get(name, (1e-12, 1e-12))
        assert wanted.keys() == set(parts[0])
        for key, value in wanted.items():
            found = merged(key, parts)
            np.testing.assert_allclose(found, value, *close, err_msg=f"{key} of {name}")


def merged(key, parts):
    """Of both processes: rows in a row, gradients of parameters summed, the rest equal."""
    first, second = (part[key] for part in parts)
    if key[:-1] in ("y", "dx"):
        return np.concatenate((first, second))
    if key in ("dweight", "dbias"):
        return first + second
    assert np.array_equal(first, second)
    return first


def by_torch(name):
    """Two steps of torch's layer on the whole batch, in double precision."""
    layer, x, grad = batch(name)
    layer, x, grad = layer.double(), x.double(), grad.double()
    found = {}
    for step in range(2):
        own = (x * (step + 1)).requires_grad_()
        y = layer(own)
        y.backward(grad)
        found |= {f"y{step}": y.detach(), f"dx{step}": own.grad}
    found |= {f"d{name}": p.grad for name, p in layer.named_parameters()}
    found |= dict(layer.named_buffers())
    return {name: tensor.double().numpy() for name, tensor in found.items()}

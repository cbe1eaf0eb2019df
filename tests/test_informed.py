"""A binarizer that looks at the optimizer of its latents sees it as it was at each moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import Adam

from bnnbench.interfaces import InferenceMode, Informed
from bnnbench.layers import BinaryLinear
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Scheduled
from bnnbench.training import Settings, Training, train
from bnnbench.updates import Separate, update_of
from bnnbench_plugins.binarizers import Sign
from bnnbench_plugins.optimizers import ClippedAdam, FusedAdam

from .test_resume import EPOCHS, begun, broken_off, numbers
from .test_training import DATA, LOSS, METHODS, flat, network


class Loud:
    """Signs whose height says how far Adam's first moment has come; 1 as long as there is none."""

    built = ()  # of each test's own: every one that a training has built

    used = ()  # and whether each had been told when it was used

    def __init__(self):
        self.optimizer = None
        type(self).built = (*type(self).built, self)

    def inform(self, optimizer):
        self.optimizer = optimizer

    def height(self, latent):
        state = self.optimizer.state.get(latent, {}) if self.optimizer else {}
        return 1 + state["exp_avg"].abs().sum() if "exp_avg" in state else torch.ones(())

    def forward(self, latent):
        Loud.used = (*Loud.used, self.optimizer is not None)
        return torch.where(latent >= 0, 1.0, -1.0).to(latent) * self.height(latent)

    def backward(self, latent, grad):
        return grad

    def inference_modes(self):
        return {"binary": InferenceMode(self.forward)}


class Ruled(Loud):
    """One that has a rule for one weight all the same."""

    def elementwise(self, latent):
        return Sign().elementwise(latent)


class Recorder:
    """A probe that keeps the weights, and each layer's first moment after every step."""

    def __init__(self, training):
        self.training, self.heights, self.weights = training, [], []

    def step(self, latents):
        stretch = self.training().stretch
        (_, optimizer) = stretch.optimizers["binary"]
        moments = [optimizer.state[latent]["exp_avg"] for latent in latents.tensors.values()]
        self.heights.append([1 + m.abs().sum().item() for m in moments])
        self.weights.append([w.abs().max().item() for w in latents.weights.values()])

    def epoch(self, latents):
        return ()


def method_of(kind=Loud, *, spoilt=False):
    phase = Phase(Scheduled(kind), Scheduled(FusedAdam, lr=1e-2), Scheduled(Adam, lr=1e-2))
    if not spoilt:
        return Method("informed", (phase,))
    still = {"binary": Scheduled(FusedAdam, lr=1e-9), "real": Scheduled(Adam, lr=1e-9)}
    end = replace(phase, share=0.5, start=torch.neg, **still)
    return Method("spoilt", (replace(phase, share=0.5), end))


@pytest.fixture(autouse=True)
def nothing_built():
    Loud.built = Ruled.built = Loud.used = ()


def plain():
    torch.manual_seed(0)
    return nn.Sequential(BinaryLinear(6, 8), nn.Tanh(), BinaryLinear(8, 3))


def test_it_computes_with_the_memory_of_the_step_before():
    """The first step has no memory; every later one that of the steps so far, layer by layer."""
    training = None
    probe = Recorder(lambda: training)
    training = Training(plain(), method_of(), DATA, LOSS, Settings(3, 20, 0), [probe])

    list(training)

    assert {True} == set(Loud.used)
    assert [1.0, 1.0] == probe.weights[0]
    for before, weights in zip(probe.heights, probe.weights[1:], strict=False):
        assert before == pytest.approx(weights, rel=1e-6)
    assert len({height for heights in probe.heights for height in heights}) > 6


def test_each_phase_tells_of_its_own_optimizer():
    """With the phase the memory begins anew."""
    training = None
    probe = Recorder(lambda: training)
    method = method_of(spoilt=True)
    training = Training(plain(), method, DATA, LOSS, Settings(4, 20, 0), [probe])

    list(training)

    steps = len(probe.weights) // 2
    assert [1.0, 1.0] == probe.weights[0] == probe.weights[steps]
    assert 1.0 not in {height for heights in probe.weights[1:steps] for height in heights}


def test_outside_a_phase_it_is_told_nothing():
    """Not where a method is asked for its modes, nor where there are no latents."""
    method_of().inference_modes()
    list(train(nn.Sequential(nn.Linear(6, 3)), method_of(), DATA, LOSS, Settings(1, 20, 0)))

    assert Loud.built
    assert {None} == {made.optimizer for made in Loud.built}


def test_the_selected_epoch_is_judged_with_its_own_memory():
    """All that is learned is turned round in the second half; the test is that of the best epoch.

    The network has no normalization, so that a wrong height is a wrong loss.
    """
    settings = Settings(8, 20, 0, test=True)
    data = replace(DATA, test=DATA.validation)
    training = Training(plain(), method_of(spoilt=True), data, LOSS, settings)

    told = list(training)

    (best,) = (m.value for m in told[-1] if m.metric == "selected_epoch")
    then = [m.value for m in told[int(best)] if (m.metric, m.split) == ("loss", "validation")]
    now = [m.value for m in told[-1] if (m.metric, m.split) == ("loss", "test")]
    assert best <= 4
    assert then == now
    heights = [w.abs().unique() for n, w in training.network().items() if n.endswith("weight")]
    assert all(len(h) == 1 and h > 1 for h in heights)


@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("after", [1, 2, EPOCHS])
def test_resumed_is_undisturbed(tmp_path, select, after):
    """Memory, selected memory and all: what is taken up gives the same numbers and network."""

    def make():
        return begun(method_of(spoilt=True), select=select)

    calm = make()
    undisturbed = list(calm)
    resumed, second = broken_off(make, after, tmp_path)

    assert numbers(undisturbed) == numbers(resumed)
    for name, tensor in calm.network().items():
        assert torch.equal(tensor, second.network()[name]), name


def test_the_compiled_pass_does_not_apply():
    """A rule for one weight does not see what is remembered of the layer."""
    training = begun(method_of())
    latents, optimizer = training.latents, ClippedAdam(training.latents.groups())

    assert isinstance(Ruled(), Informed)
    assert isinstance(update_of(latents, Ruled(), optimizer, "compiled", 1), Separate)
    assert not isinstance(update_of(latents, Sign(), optimizer, "compiled", 1), Separate)


def test_others_keep_no_memory_of_the_selected_epoch():
    """A method whose binarizer does not ask pays nothing."""
    training = begun(METHODS["ste"])
    list(training)

    assert {} == training.selected.state["told"]


def test_bf16_judges_with_the_same_memory():
    """Products are rounded; heights and weights are not."""
    settings = Settings(2, 20, 0, precision="bf16", test=True)
    training = Training(network(), method_of(), DATA, LOSS, settings)

    told = flat(list(training))

    assert [1] == [m.value for m in told if m.metric == "weight_bits"]
    assert all(w.dtype == torch.float32 for w in training.network().values() if w.ndim == 2)

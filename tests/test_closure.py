"""An optimizer whose step requires a closure asks for gradients itself, as often as it likes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD

from bnnbench.errors import PluginError
from bnnbench.interfaces import Dataset, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryLinear
from bnnbench.methods import Method, Phase
from bnnbench.schedules import Scheduled
from bnnbench.training import Settings, train
from bnnbench.updates import Asked, requires_closure, update_of
from bnnbench_plugins.binarizers import Sign, Stochastic
from bnnbench_plugins.bop import Bop
from bnnbench_plugins.optimizers import ClippedAdam

from .test_resume import EPOCHS, begun, broken_off, numbers
from .test_training import DATA, LOSS, flat, network, same, timeless, values

N, SIZE = 12, 4  #: examples, and those of a batch


class Once(SGD):
    """SGD that asks for its gradient."""

    def step(self, closure):
        loss = closure()
        super().step()
        return loss


class Twice(SGD):
    """SGD with two gradients for a step; between them the latents move, too."""

    @torch.no_grad()
    def step(self, closure):
        for _ in range(2):
            closure()
            for group in self.param_groups:
                for latent in group["params"]:
                    latent.sub_(latent.grad, alpha=group["lr"])


class Never(SGD):
    """An optimizer that asks for a closure and forgets it."""

    def step(self, closure):
        return None


class Ruled(ClippedAdam):
    """An asking optimizer that has a rule for one weight all the same."""

    def step(self, closure):
        closure()
        super().step()

    def elementwise(self, group, step):
        return super().elementwise(group, step)


def method_of(kind, binarizer=None, lr=0.1):
    phase = Phase(binarizer or Scheduled(Sign), Scheduled(kind, lr=lr), Scheduled(SGD, lr=0.05))
    return Method("asking", (phase,))


class Watch:
    """A training with random gradients, and all that went by."""

    def __init__(self, method):
        torch.manual_seed(3)
        self.model = nn.Sequential(BinaryLinear(5, 3)).double()
        self.weights, self.pulls, self.losses = [], [], []
        self.codes, self.biases, self.flips = [], [], []
        split = Split(torch.zeros(N, 5, dtype=torch.float64), torch.zeros(N).long())
        data = Dataset(split, split, split, classes=3)
        settings = Settings(2, batch_size=SIZE, seed=1)
        self.told = list(train(self.model, method, data, self.loss, settings, [self]))

    def loss(self, outputs, inputs, targets):
        if not torch.is_grad_enabled():
            return outputs.sum() * 0
        weight, bias = self.model[0].weight, self.model[0].bias
        generator = torch.Generator().manual_seed(len(self.weights))
        push, pull = (
            torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in (weight, bias)
        )
        value = (weight * push).sum() + (bias * pull).sum()
        self.weights.append(weight.detach().clone())
        self.pulls.append((push, pull))
        self.losses.append(value.item())
        return value

    def step(self, latents):
        self.codes.append([w >= 0 for w in latents.tensors["0"].flatten().tolist()])
        self.biases.append(self.model[0].bias.detach().clone())
        self.flips.append(int(latents.flips.by_layer()["0"]))

    def epoch(self, latents):
        if not self.codes:
            self.step(latents)
        return ()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_call_is_an_ordinary_step(precision):
    """Asking once gives the bits of the optimizer that does not ask."""
    settings = Settings(3, 20, 0, precision=precision)
    plain, asked = network(), network()

    told = [
        timeless(list(train(model, method_of(kind), DATA, LOSS, settings)))
        for model, kind in ((plain, SGD), (asked, Once))
    ]

    assert told[0] == told[1]
    assert same([plain.state_dict()], [asked.state_dict()])


def test_every_call_projects_the_latents_of_its_moment():
    """The second pass of a step computes with the signs of latents that the first has moved."""
    watch = Watch(method_of(Twice, lr=0.5))
    torch.manual_seed(3)
    latent = nn.Sequential(BinaryLinear(5, 3)).double()[0].weight.detach().clone()

    for weight, (push, _) in zip(watch.weights, watch.pulls, strict=True):
        assert torch.equal(weight, torch.where(latent >= 0, 1.0, -1.0).double())
        latent = latent - 0.5 * push
    assert 2 * 2 * (N // SIZE) == len(watch.weights)


def test_every_call_has_fresh_chance():
    """No two passes compute with one draw of the weights."""
    watch = Watch(method_of(Twice, Scheduled(Stochastic), lr=1e-9))

    assert not any(torch.equal(a, b) for a, b in pairwise(watch.weights))


def test_real_parameters_move_by_the_mean_gradient():
    """Of the two passes of each step."""
    watch = Watch(method_of(Twice))
    bias = watch.biases[0]

    for step, after in enumerate(watch.biases[1:]):
        first, second = (pull for _, pull in watch.pulls[2 * step : 2 * step + 2])
        bias = bias - 0.05 * (first + second) / 2
        torch.testing.assert_close(after, bias, rtol=1e-12, atol=1e-12)


def test_the_loss_is_the_mean_of_the_calls():
    """An epoch's training loss is that of all its passes."""
    watch = Watch(method_of(Twice))
    each = 2 * (N // SIZE)

    expected = [sum(watch.losses[n : n + each]) / each for n in (0, each)]

    assert expected == pytest.approx(values(watch.told, "loss", split="train"), rel=1e-6)


def test_flips_are_those_of_the_whole_step():
    """A weight that flips and flips back within a step has not flipped."""
    watch = Watch(method_of(Twice, lr=0.5))
    pairs = list(pairwise(watch.codes))

    expected = [sum(a != b for a, b in zip(x, y, strict=True)) for x, y in pairs]

    assert expected == watch.flips[1:]
    assert sum(expected) > 0


def test_the_closure_knows_how_many_examples_there_are():
    """All of the training set, and not those of a batch."""
    seen = []

    class Asks(Once):
        def step(self, closure):
            seen.append(closure.examples)
            return super().step(closure)

    Watch(method_of(Asks))

    assert {N} == set(seen)


def test_what_a_call_returns_is_the_loss_without_a_graph():
    """A number that the step can keep."""
    seen = []

    class Asks(Once):
        def step(self, closure):
            seen.append(super().step(closure))

    watch = Watch(method_of(Asks))

    assert watch.losses == [loss.item() for loss in seen]
    assert not any(loss.requires_grad for loss in seen)


def test_a_closure_that_is_forgotten():
    """Nothing would be learned: one line says so."""
    with pytest.raises(PluginError, match=r"must call it, Never's did not; call it, or let"):
        Watch(method_of(Never))


@pytest.mark.parametrize("after", [1, 3])
def test_resumed_is_undisturbed(tmp_path, after):
    """With draws at every call, a training that is taken up goes on with the same bits."""

    def make():
        return begun(method_of(Twice, Scheduled(Stochastic, draws=2)))

    undisturbed = list(make())
    resumed, _ = broken_off(make, after, tmp_path)

    assert numbers(undisturbed) == numbers(resumed)
    assert EPOCHS + 2 == len(resumed)


def test_the_compiled_pass_does_not_apply():
    """Not even to an optimizer with a rule for one weight: it asks, and nobody would answer."""
    latents = Latents(network())
    optimizer = Ruled(latents.groups())

    assert isinstance(update_of(latents, Sign(), optimizer, "compiled", 1), Asked)
    settings = Settings(1, 20, 0, update="compiled")
    method = replace(method_of(Ruled, lr=0.01))
    assert flat(list(train(network(), method, DATA, LOSS, settings)))


def test_who_requires_a_closure():
    """Those whose step has it without a default; torch's LBFGS is one."""
    w = [torch.zeros(2)]

    assert [True] * 3 == [requires_closure(o) for o in (Once(w), Ruled(w), torch.optim.LBFGS(w))]
    assert [False] * 3 == [requires_closure(o) for o in (SGD(w), torch.optim.Adam(w), Bop(w))]

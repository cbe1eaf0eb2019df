"""The training loop: the same bits again, nobody else's randomness, every second accounted for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnnbench.evaluation import evaluate, reestimated, weight_bits
from bnnbench.interfaces import Dataset, InferenceMode, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryActivation, BinaryLinear
from bnnbench.methods import Method, Phase
from bnnbench.probes import FlipProbe
from bnnbench.schedules import Scheduled
from bnnbench.seeds import RandomState
from bnnbench.training import DivergedError, Settings, train
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binarizers import Identity, Sign, Stochastic
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bop import bop
from bnnbench_plugins.datasets.digits import digits
from bnnbench_plugins.losses import cross_entropy, squared_hinge
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste

METHODS = {
    "real": real(lr=1e-2),
    "ste": ste(lr=1e-2),
    "binaryconnect": binaryconnect(lr=1e-2),
    "binaryconnect-sgd": binaryconnect(optimizer="sgd", lr=0.3, momentum=0.5),
    "stochastic": binaryconnect(binarization="stochastic", lr=1e-2, draws=3),
    "bop": bop(gamma=1e-2, tau=1e-6, stages=1, rescale=False),
}
SETTINGS = Settings(epochs=3, batch_size=20, seed=0)
LOSS = squared_hinge()
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def synthetic(n=120, seed=0):
    """Three classes that a linear network tells apart, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=generator)
    targets = (inputs[:, :3] + 0.3 * torch.randn(n, 3, generator=generator)).argmax(1)
    thirds = zip(inputs.split(n // 3), targets.split(n // 3), strict=True)
    train_split, validation, test = (Split(x, y) for x, y in thirds)
    return Dataset(train_split, validation, test, classes=3, synthetic=True)


DATA = synthetic()


def network(dropout=0.2):
    with RandomState(5).in_force():
        return mlp(shape=(6,), classes=3, depth=2, width=12, dropout=dropout)


class Recorder:
    """A probe that keeps the latents after every step, and the network's state at every epoch."""

    def __init__(self, model):
        self.model, self.latents, self.states = model, [], []

    def step(self, latents):
        self.latents.append(latents.state())

    def epoch(self, latents):
        state = self.model.state_dict()
        self.states.append({name: state[name].clone() for name in state if "norm" in name})
        return []


def run(method, settings=SETTINGS, data=DATA, loss=LOSS, model=None):
    model = network() if model is None else model
    recorder = Recorder(model)
    measured = list(train(model, method, data, loss, settings, [FlipProbe(), recorder]))
    return measured, recorder


def flat(measured):
    return [m for epoch in measured for m in epoch]


def timeless(measured):
    return [m for m in flat(measured) if not m.metric.startswith("seconds")]


def same(left, right):
    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(left, right, strict=True)
    )


def values(measured, metric, **where):
    return [
        m.value
        for m in flat(measured)
        if m.metric == metric and all(getattr(m, k) == v for k, v in where.items())
    ]


@every_method
def test_same_seed_same_bits(method):
    """The same seed gives the same measurements and latents, bit by bit; another gives others."""
    (first, one), (again, two) = run(method), run(method)
    _, three = run(method, replace(SETTINGS, seed=1))

    assert timeless(first) == timeless(again)
    assert same(one.latents, two.latents)
    assert same(one.states, two.states)
    assert not same(one.latents, three.latents)


@every_method
def test_random_numbers_of_others(method):
    """What the caller draws between two epochs is what it would have drawn without training."""
    torch.manual_seed(8)
    alone = [torch.rand(3) for _ in range(6)]
    torch.manual_seed(8)
    model = network()

    beside = [torch.rand(3)]
    for _ in train(model, method, DATA, LOSS, replace(SETTINGS, test=True, reestimate=1)):
        beside.append(torch.rand(3))

    assert len(beside) == 6
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


def test_training_does_not_hear_the_caller():
    """What the caller draws between two epochs does not change the training."""
    method = METHODS["stochastic"]
    undisturbed, _ = run(method)
    disturbed = []
    for measured in train(network(), method, DATA, LOSS, SETTINGS, [FlipProbe()]):
        disturbed.append(measured)
        torch.manual_seed(len(disturbed))

    assert timeless(undisturbed) == timeless(disturbed)


def test_buckets_add_up():
    """The seconds of all buckets are the wall time, and what waits outside is in "database"."""
    data, model = synthetic(1500), network()
    settings = Settings(epochs=6, batch_size=5, seed=0, test=True, reestimate=2)
    measured = []
    start = time.perf_counter()
    for epoch in train(model, METHODS["stochastic"], data, LOSS, settings, [FlipProbe()]):
        end = time.perf_counter()
        measured.append(epoch)
        time.sleep(0.01)

    wall = end - start
    seconds = [m for m in flat(measured) if m.metric.startswith("seconds.")]
    total = sum(m.value for m in seconds)

    assert total == pytest.approx(wall, rel=0.01, abs=0.02)
    assert sum(values(measured, "seconds.database")) >= 0.07
    assert [1] == [m.epoch for m in seconds if m.metric == "seconds.warmup"]
    assert [2, 3, 4, 5, 6] == [m.epoch for m in seconds if m.metric == "seconds.train"]
    assert all(m.value >= 0 for m in seconds)


def test_time_of_probes_is_not_training():
    """A slow probe does not slow the training clock."""

    class Slow:
        def step(self, latents):
            time.sleep(0.05)

        def epoch(self, latents):
            return []

    measured = list(train(network(), METHODS["ste"], DATA, LOSS, SETTINGS, [Slow()]))

    assert min(values(measured, "seconds.probes")[:3]) >= 0.1
    assert max(values(measured, "seconds.train")) < 0.1


@dataclass(frozen=True)
class Extra(Stochastic):
    """Stochastic with inference modes of our own."""

    names: tuple[str, ...] = ()

    def inference_modes(self):
        modes = dict(super().inference_modes())
        sampled = InferenceMode(self.forward, 1)
        return {"binary": modes["binary"]} | {name: modes.get(name, sampled) for name in self.names}


def judged_in(*names, judged="binary"):
    method = METHODS["stochastic"]
    (phase,) = method.phases
    phase = replace(phase, binarizer=Scheduled(Extra, names=names, draws=5))
    return replace(method, phases=(phase,), judged=judged)


@pytest.mark.parametrize("reestimate", [0, 2])
def test_judging_leaves_training_alone(reestimate):
    """With more inference modes, ensembles, a test and re-estimation the same bits are trained."""
    _, plain = run(judged_in())
    rich = judged_in("real", "ensemble", "sampled", judged="ensemble")
    settings = replace(SETTINGS, test=True, reestimate=reestimate)

    measured, judged = run(rich, settings)

    assert same(plain.latents, judged.latents)
    assert same(plain.states, judged.states)
    assert {"binary", "real", "ensemble", "sampled"} == {
        m.mode for m in flat(measured) if m.split == "validation"
    }


@every_method
def test_selected_epoch(method):
    """The judged epoch is the best on validation in the judged mode, the latest of equals."""
    measured, _ = run(method, replace(SETTINGS, epochs=8, test=True))
    curve = values(measured, "accuracy", split="validation", mode=method.judged)[:8]
    best = max(e for e, accuracy in enumerate(curve, start=1) if accuracy == max(curve))

    assert [best] == values(measured, "selected_epoch")
    assert {best} == {m.epoch for m in flat(measured) if m.split == "test"}


def test_selected_network_is_the_one_that_was_best():
    """What is tested is the network as it stood at the selected epoch, all of it, not as it ended.

    In the second half of the training everything that was learned is turned round.
    """
    (first,) = METHODS["ste"].phases
    half = replace(first, share=0.5)
    method = Method("spoilt", (half, replace(half, start=torch.neg)))
    settings = replace(SETTINGS, epochs=8, test=True)

    measured, _ = run(method, settings, replace(DATA, test=DATA.validation))
    (best,) = values(measured, "selected_epoch")

    assert best <= 4
    for metric in ("accuracy", "loss"):
        then = values(measured[:-1], metric, split="validation", mode="binary", epoch=best)
        assert then == values(measured, metric, split="test", mode="binary")


def test_last_epoch():
    """With select = "last" the last epoch is judged, good or bad."""
    measured, _ = run(METHODS["ste"], replace(SETTINGS, epochs=5, select="last"))

    assert [5] == values(measured, "selected_epoch")


def test_test_split_is_not_touched():
    """Without settings.test the test split is not so much as looked at."""
    data = replace(DATA, test=None)

    measured, _ = run(METHODS["ste"], data=data)

    assert [] == [m for m in flat(measured) if m.split == "test"]


@every_method
def test_test_split_is_touched_once(method):
    """With settings.test there is one test accuracy for each inference mode, at the very end."""
    measured, _ = run(method, replace(SETTINGS, test=True))
    (phase,) = method.phases
    modes = phase.binarizer.kind(**phase.binarizer.hyper).inference_modes()

    tested = [m.mode for m in flat(measured) if (m.split, m.metric) == ("test", "accuracy")]
    assert sorted(modes) == sorted(tested)
    assert not [m for epoch in measured[:-1] for m in epoch if m.split == "test"]


def test_divergence():
    """A loss that is no finite number ends the run in one line that names the epoch."""
    calls = []

    def loss(outputs, inputs, targets):
        calls.append(torch.is_grad_enabled())
        return outputs.sum() * (math.nan if sum(calls) > 3 else 0.0)

    with pytest.raises(DivergedError, match=r"^the training loss of epoch 2 is nan$"):
        run(METHODS["ste"], loss=loss)


def normalized():
    torch.manual_seed(2)
    model = nn.Sequential(BinaryLinear(6, 4, bias=False), nn.BatchNorm1d(4, momentum=0.3)).double()
    latents = Latents(model)
    model[1].running_mean.fill_(0.7)
    model[1].running_var.fill_(3.0)
    return model, latents, [torch.randn(n, 6, dtype=torch.float64) for n in (10, 10, 7)]


def test_reestimated_statistics():
    """Inside the block they are the plain means of the batches' own; outside, the old ones."""
    model, latents, batches = normalized()
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    signs = torch.where(latents.tensors["0"] >= 0, 1.0, -1.0).double()
    sums = [x @ signs.T for x in batches]
    mode = Sign().inference_modes()["binary"]

    with reestimated(model, latents, mode, batches):
        mean, variance = model[1].running_mean.clone(), model[1].running_var.clone()

    torch.testing.assert_close(mean, torch.stack([s.mean(0) for s in sums]).mean(0))
    torch.testing.assert_close(variance, torch.stack([s.var(0) for s in sums]).mean(0))
    assert all(torch.equal(before[name], value) for name, value in model[1].state_dict().items())
    assert (0.3, True) == (model[1].momentum, model.training)


def test_statistics_come_back_after_an_error():
    """An error inside the block leaves the old statistics, too."""
    model, latents, batches = normalized()

    with (
        pytest.raises(KeyError),
        reestimated(model, latents, Sign().inference_modes()["binary"], batches),
    ):
        raise KeyError

    assert (model[1].running_mean == 0.7).all()
    assert model[1].momentum == 0.3


def test_no_batches_change_nothing():
    """Without batches the running statistics stay in force."""
    model, latents, _ = normalized()

    with reestimated(model, latents, Sign().inference_modes()["binary"], []):
        assert (model[1].running_mean == 0.7).all()


def test_evaluation():
    """Accuracy is in percent and the loss a mean, whatever the batches; the mode stays."""
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(6, 3, bias=False), nn.Dropout(0.5))
    latents = Latents(model)
    split = Split(torch.randn(2500, 6), torch.randint(3, (2500,)))
    outputs = split.inputs @ torch.where(latents.tensors["0"] >= 0, 1.0, -1.0).T
    mode = Sign().inference_modes()["binary"]

    score = evaluate(model, latents, mode, split, cross_entropy())

    right = (outputs.argmax(1) == split.targets).double().mean().item()
    assert 100 * right == pytest.approx(score.metrics["accuracy"])
    loss = functional.cross_entropy(outputs, split.targets).item()
    assert loss == pytest.approx(score.loss, rel=1e-5)
    assert model.training


def test_ensemble_is_the_mean_of_outputs():
    """An ensemble's outputs are the mean of its networks' outputs."""
    model = nn.Sequential(BinaryLinear(1, 1, bias=False))
    latents = Latents(model)
    views = iter([1.0, 2.0, 6.0])
    mode = InferenceMode(lambda latent: torch.full_like(latent, next(views)), draws=3)
    split = Split(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))

    score = evaluate(model, latents, mode, split, lambda outputs, x, y: outputs.sum())

    assert score.loss == pytest.approx(3.0)


@every_method
def test_weight_bits(method):
    """Signs have one bit and latents thirty-two, as measured on the weights themselves."""
    measured, _ = run(method, replace(SETTINGS, epochs=1))
    bits = {m.mode: m.value for m in flat(measured) if m.metric == "weight_bits"}

    assert bits["binary"] == 1
    assert bits.get("real", 32) == 32
    assert bits.get("ensemble", 1) == 1


def test_bits_of_other_weights():
    """A height for each filter is still one bit; a third value needs two; no binary weight, 32."""
    two = torch.tensor([[1.0, -1.0, 1.0], [0.5, 0.5, -0.5]])

    assert weight_bits({"a": two}) == 1
    assert weight_bits({"a": two, "b": torch.tensor([[1.0, 0.0, -1.0]])}) == 2
    assert weight_bits({}) == 32


@dataclass(frozen=True)
class Slope:
    """An activation that turns from the identity into the sign."""

    share: float

    def forward(self, x):
        return (1 - self.share) * x + self.share * torch.where(x >= 0, 1.0, -1.0)

    def backward(self, x, grad):
        return grad

    def inference_modes(self):
        return {}


def test_the_selected_epoch_is_judged_with_its_own_activations():
    """A scheduled activation is brought back with the weights, and follows the whole run."""
    torch.manual_seed(1)
    activation = BinaryActivation(Scheduled(Slope, share=lambda at: at.epoch / at.epochs))
    model = nn.Sequential(BinaryLinear(6, 8), activation, BinaryLinear(8, 3))
    settings = Settings(epochs=6, batch_size=20, seed=0, test=True)
    data = replace(DATA, test=DATA.validation)
    seen = []

    for epoch in train(model, ste(lr=0.3, lr_end=0.3), data, LOSS, settings):
        seen.append((activation.binarizer.share, epoch))

    assert [0, *(e / 6 for e in range(6))] == pytest.approx([share for share, _ in seen[:-1]])
    (tested,) = [
        m for m in seen[-1][1] if (m.metric, m.split, m.mode) == ("accuracy", "test", "binary")
    ]
    validated = [
        m.value
        for _, epoch in seen
        for m in epoch
        if (m.metric, m.split, m.mode, m.epoch)
        == ("accuracy", "validation", "binary", tested.epoch)
    ]
    assert validated == [tested.value]
    assert tested.epoch < 6, "the test sees nothing where the last epoch is selected"


def test_what_a_phase_draws_as_it_begins_is_the_runs_own():
    """Same seed, same bits, and the caller's generator stays."""
    method = ste()
    noisy = replace(method.phases[0], start=lambda w: w + torch.randn_like(w))
    method = replace(method, phases=(noisy,))
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        measured, _ = run(method)
        assert torch.equal(before, torch.get_rng_state())
        losses.append([m.value for epoch in measured for m in epoch if m.metric == "loss"])

    assert losses[0] == losses[1]
    assert losses[0]


written = cache(digits)


def accuracies_on_digits(method, epochs, loss=LOSS):
    """Of a small network on the validation split after each epoch, as the method is judged."""
    with RandomState(1).in_force():
        model = mlp(shape=written().shape, classes=10, depth=1, width=64)
    measured, _ = run(method, Settings(epochs, 20, seed=0), written(), loss, model)
    return values(measured, "accuracy", split="validation", mode=method.judged)


@every_method
def test_every_method_learns(method):
    """Two epochs on digits are enough to be far above one in ten."""
    _, last = accuracies_on_digits(method, 2)

    assert last > 60


def test_only_real_weights():
    """A network without binary layers is trained, and has thirty-two bits."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    measured, recorder = run(METHODS["ste"], replace(SETTINGS, epochs=6, test=True), model=model)

    assert {} == recorder.latents[0]
    assert [] == values(measured, "flip_step")
    assert {32} == set(values(measured, "weight_bits"))
    assert values(measured, "loss", split="train")[-1] < values(measured, "loss", split="train")[0]


def test_only_binary_weights():
    """A network without real parameters is trained."""
    model = nn.Sequential(BinaryLinear(6, 3, bias=False))

    measured, _ = run(METHODS["binaryconnect"], replace(SETTINGS, test=True), model=model)

    assert 1 == len(values(measured, "accuracy", split="test", mode="binary"))


def test_phases_in_order():
    """Each phase gets its share of the epochs, begins with its view, and counts its own steps."""
    seen = []

    def lr(at):
        seen.append(at)
        return 1e-3

    def phase(binarizer, share, start=lambda latent: latent):
        adam = Scheduled(torch.optim.Adam, lr=lr)
        return Phase(Scheduled(binarizer), adam, adam, share, start)

    harden = phase(Sign, 0.25, start=lambda latent: torch.full_like(latent, 5.0))
    measured, recorder = run(
        Method("two", (phase(Identity, 0.75), harden)), replace(SETTINGS, epochs=4)
    )

    assert [0, 0, 0, 1] == [m.phase for m in flat(measured) if m.metric == "binary.lr"]
    assert (recorder.latents[6]["dense1"] - 5).abs().max() < 0.1
    assert {(6, 3), (2, 1)} == {(at.total, at.epochs) for at in seen}
    assert {0, 1} == {at.step for at in seen if at.epochs == 1}


def test_scheduled_hyperparameters_are_measured():
    """The learning rate of each epoch is stored, for binary and for real parameters."""
    measured, _ = run(real(lr=1e-2, lr_end=1e-4))
    rates = [1e-2 * 0.01 ** (e / 3) for e in range(3)]

    assert rates == pytest.approx(values(measured, "binary.lr"))
    assert rates == pytest.approx(values(measured, "real.lr"))

"""The checks that are shipped: what we ship passes them, and each of them can fail."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnnbench.conformance import FAILED, OK
from bnnbench.interfaces import Dataset, Figure, InferenceMode, Split
from bnnbench.layers import BinaryLinear
from bnnbench.measurements import Measurement
from bnnbench.methods import Method, Phase
from bnnbench.plugins import load_plugins
from bnnbench.schedules import Scheduled
from bnnbench.testing import suites
from bnnbench.testing.checks import Subject, checks_of
from bnnbench.testing.stage import Straight, data, difference

PLUGINS = load_plugins()
SMALL, SIDE = {"width": 8}, {"train": 40, "validation": 12, "test": 12}

#: values with which shipped components are small, and shapes that the networks take
VALUES = {
    "losses/attention": {"layers": ("0",)},
    "architectures/mlp": SMALL,
    "architectures/binarynet": {"width": 4, "dense": 8},
    "architectures/vgg16": {"width": 2, "dense": 8},
    "architectures/unet": {"width": 2, "depth": 2},
    "architectures/bnew-small": {"width": 4, "blocks": 2},
    "architectures/wrn22": {"width": 4, "blocks": 1},
    **{f"architectures/{name}": SMALL for name in ("nin", "vgg-small", "bireal20")},
    "architectures/resnet18": SMALL,
    **{f"architectures/{n}": SMALL | {"stem": "imagenet"} for n in ("bireal18", "reactnet-18")},
    "architectures/reactnet-a": {"width": 2},
    "architectures/binarydensenet28": SMALL,
    "datasets/synthetic-pets": SIDE | {"size": 16},
    "datasets/synthetic-imagenet": SIDE | {"size": 16},
    **{f"datasets/synthetic-{n}": SIDE for n in ("mnist", "cifar10", "cifar100", "svhn")},
}
#: without small values they have the layers of the others, in their published sizes
LARGE = ("architectures/bc-vgg", "architectures/bc-vgg-svhn", "architectures/bop-binarynet")
KINDS = ("optimizers", "binarizers", "methods", "architectures", "losses", "probes", "figures")
WALKED = [f"{kind}/{name}" for kind in KINDS for name in PLUGINS.names(kind)]
WALKED += ["datasets/digits", *(n for n in VALUES if n.startswith("datasets"))]


def outcomes(kind, target, given=None, *, strict=False, only=(), **options):
    """The outcomes of a component's checks, by name."""
    subject = Subject(kind, "mine", target, given or {}, options)
    checks = [c for c in checks_of(kind, strict=strict) if not only or c.name in only]
    return {check.name: check.on(subject) for check in checks}


@pytest.mark.parametrize("name", [n for n in WALKED if n not in LARGE])
def test_what_is_shipped_passes_its_own_checks(name):
    """No check fails, and on each level one passes."""
    kind, _, rest = name.partition("/")

    found = outcomes(kind, PLUGINS.get(kind, rest), VALUES.get(name))

    assert {} == {o.check: o.why for o in found.values() if o.state == FAILED}
    assert {"loads", "works", "conforms"} == {o.level for o in found.values() if o.state == OK}


@pytest.mark.parametrize("kind", ["datasets", *KINDS[:-1]])
def test_what_is_shipped_is_explained_and_bounded(kind):
    """Each hyperparameter of each bundled component has its line, and each number its bounds."""
    told = ("explained", "bounded")
    found = {
        (name, outcome.check): outcome.why
        for name in PLUGINS.names(kind)
        for outcome in outcomes(kind, PLUGINS.get(kind, name), strict=True, only=told).values()
        if outcome.state != OK
    }

    assert found == {}


def test_every_check_says_its_law_and_a_way_out():
    """A docstring has both, and checks of one kind have names of their own."""
    for kind in (*KINDS, "datasets", "studies"):
        checks = checks_of(kind, strict=True)

        assert len({check.name for check in checks}) == len(checks)
        for check in checks:
            assert check.law.endswith("."), check
            assert check.advice, check


class Sgd(torch.optim.Optimizer):
    """Plain descent, from which the faulty ones differ in one thing."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    w.add_(self.way(w, group), alpha=-group["lr"])

    def way(self, w, group):
        return w.grad


class KeepsToItself(Sgd):
    def __init__(self, params, lr: float = 0.1, tau: float = 1.0):
        super().__init__(params, lr)
        self.tau = tau


class ReadsSelf(Sgd):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr)
        self.lr = lr

    def way(self, w, group):
        return w.grad * self.lr / group["lr"]


class FirstGroup(Sgd):
    def way(self, w, group):
        return w.grad * self.param_groups[0]["lr"] / group["lr"]


class NoGrad(Sgd):
    def step(self, closure=None):
        assert all(w.grad is not None for group in self.param_groups for w in group["params"])
        super().step()


class Other(Sgd):
    """Its numbers are of nobody's generator."""

    chance = itertools.count()

    def way(self, w, group):
        return w.grad * (1 + 0.1 * next(self.chance))


class Forgets(Sgd):
    """The velocity is not in the state."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr)
        self.velocity = {}

    def way(self, w, group):
        self.velocity[w] = 0.9 * self.velocity.get(w, 0) + w.grad
        return self.velocity[w]


class Odd(Sgd):
    """Its state has what no file of ours holds."""

    def way(self, w, group):
        self.state[w]["seen"] = {1, 2}
        return w.grad


class Numpys(Sgd):
    def way(self, w, group):
        return w.grad * (1 + np.random.rand())


class Pythons(Sgd):
    def way(self, w, group):
        return w.grad * (1 + random.random())


class Doubles(Sgd):
    def way(self, w, group):
        torch.set_default_dtype(torch.float64)
        return w.grad


class Graph(Sgd):
    """Every step holds a tensor that is longer than the one before."""

    def way(self, w, group):
        self.past = torch.cat([getattr(self, "past", torch.zeros(0)), w.grad.flatten()])
        return w.grad


class Diary(Sgd):
    """Every step writes down a number."""

    def way(self, w, group):
        self.diary = getattr(self, "diary", [])
        self.diary.append(float(w.flatten()[0]) + 0.5)
        return w.grad


class Infinite(Sgd):
    def way(self, w, group):
        return w.grad / 0.0


class Uphill(Sgd):
    def way(self, w, group):
        return -w.grad


class Replaces(Sgd):
    """Another tensor takes the place of a latent."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                w.data = w - group["lr"] * w.grad


class Ruled(Sgd):
    """The rule for one weight has another sign."""

    def elementwise(self, group, step):
        from bnnbench.elementwise import Movement

        return Movement(lambda w, g, lr: w + lr * g, (group["lr"],))

    def step(self, closure=None):
        super().step()


class Straightforward(Straight):
    """A binarizer from which the faulty ones differ in one thing."""


class Zeros(Straight):
    def forward(self, latent):
        return torch.sign(latent)

    def inference_modes(self):
        return {"binary": InferenceMode(torch.sign)}


class TwoSizes(Straight):
    def inference_modes(self):
        return {"binary": InferenceMode(lambda w: torch.where(w >= 0, 1.0, -0.5))}


class InPlace(Straight):
    def forward(self, latent):
        return latent.clamp_(-1, 1)


class Spoils(Straight):
    def backward(self, latent, grad):
        return grad.mul_(2)


class NoBinary(Straight):
    def inference_modes(self):
        return {"real": InferenceMode(torch.clone)}


class Wide(Straight):
    def forward(self, latent):
        return latent.double()


class Root(Straight):
    def backward(self, latent, grad):
        return grad * latent.abs().rsqrt()


class Dense(Straight):
    def forward(self, latent):
        return torch.einsum("oi->oi", latent.flatten(1)).view_as(latent).sign()


class Chancy(Straight):
    def forward(self, latent):
        return torch.as_tensor(np.random.choice([-1.0, 1.0], latent.shape), dtype=latent.dtype)


class Upward(Straight):
    def backward(self, latent, grad):
        return -grad


class Drawn(Straight):
    def inference_modes(self):
        return {"binary": InferenceMode(Straight().forward, 0)}


def method(binary=Scheduled(torch.optim.Adam, lr=0.01), binarizer=Straight, **changes):  # noqa: B008
    phase = Phase(Scheduled(binarizer), binary, Scheduled(torch.optim.Adam, lr=0.01))
    return Method("mine", (phase,), **changes)


class Careless(torch.optim.Adam):
    """It takes any name, and keeps what it is told under none."""

    def __init__(self, params, lr=0.01, **others):
        super().__init__(params, lr)


def chance(latent):
    return latent * np.random.rand()


def seeded(latent):
    torch.manual_seed(0)
    return latent


class Hidden(nn.Module):
    """A dense network from which the faulty ones differ in one thing."""

    def __init__(self, shape, classes):
        super().__init__()
        size = int(np.prod(shape))
        self.dense = BinaryLinear(size, classes, bias=False)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, x):
        return self.norm(self.dense(x.flatten(1)))


class Unused(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.spare = BinaryLinear(3, 3)


class Always(Hidden):
    def forward(self, x):
        y = self.dense(x.flatten(1))
        return y - y.mean(0)


class Counts(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return super().forward(x)


class Unregistered(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.scale = torch.randn(classes)

    def forward(self, x):
        return super().forward(x) * self.scale


class Real(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.dense = nn.Linear(int(np.prod(shape)), classes)


class Ten(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, 3)


class Precise(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Constant(Hidden):
    def __init__(self, shape, classes):
        with torch.random.fork_rng():
            torch.random.default_generator.manual_seed(1)
            super().__init__(shape, classes)


class Frozen(Hidden):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.dense.weight.requires_grad_(False)


def built(kind):
    return lambda *, shape, classes: kind(shape, classes)


def seeds_all(*, shape, classes):
    torch.manual_seed(0)
    return Hidden(shape, classes)


def loss_of(function):
    return lambda: lambda outputs, inputs, targets: function(outputs, targets)


def noted(outputs, targets, past=[]):  # noqa: B006
    past.append(outputs)
    return functional.cross_entropy(outputs, targets)


class Quiet:
    """A probe that measures one number, from which the faulty ones differ in one thing."""

    def step(self, latents):
        pass

    def epoch(self, latents):
        yield Measurement("mine", 1.0)

    def state(self):
        return {}

    def load(self, state):
        pass


def probe(**parts):
    """A kind of probe with some parts of its own."""
    return type("Mine", (Quiet,), parts)


def told(*measured):
    return probe(epoch=lambda self, latents: iter(measured))


def shifted(self, latents):
    for latent in latents.tensors.values():
        latent.add_(1e-3)


def counting(self, latents):
    self.count = getattr(self, "count", 0) + 1
    return [Measurement("mine", float(self.count))]


def keeping(self, latents):
    self.past = [*getattr(self, "past", []), latents.state()]


def drawing(self, latents):
    return [Measurement("mine", torch.rand(()).item())]


def split(n, seed, shape=(1, 4, 4)):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randn(n, *shape, generator=generator), torch.arange(n) % 3)


def dataset(**changes):
    """A good data set, or one with parts of its own."""
    made = {name: split(30, seed) for seed, name in enumerate(("train", "validation", "test"))}
    return lambda: Dataset(**(made | {"classes": 3} | changes))


class Shuffled(Split):
    def batches(self, size, order=None, generator=None):
        order = torch.arange(len(self)) if order is None else order
        return super().batches(size, order.sort().values, generator)


class Backwards(Split):
    def batches(self, size, order=None, generator=None):
        order = torch.arange(len(self)).flip(0) if order is None else order
        return super().batches(size, order, generator)


class Anonymous(Split):
    def fingerprint(self):
        return "mine"


class Elsewhere(Split):
    def to(self, device):
        return Split(self.inputs + 1, self.targets)


def doubling(inputs, targets, generator):
    return inputs.mul_(2), targets


def by_chance(inputs, targets, generator):
    return inputs + torch.rand(()), targets


def varying():
    return Dataset(split(30, random.randrange(10**6)), split(30, 1), split(30, 2), 3)


def as_(kind, seed=0, n=30):
    made = split(n, seed)
    return kind(made.inputs, made.targets)


def augmented(function):
    made = split(30, 0)
    return Split(made.inputs, made.targets, function)


def drawing_of(**changes):
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    figure.update_yaxes(title_text="seconds")
    good = {"title": "Mine", "explanation": "One point a run.", "drawing": figure}
    return Figure(**(good | changes))


def confirmed_first(results):
    return drawing_of(title=results.confirmed()[0].task)


FAULTS = {
    "optimizers": [
        (KeepsToItself, "hyperparameters-are-keys", "'tau' is a parameter of the class"),
        (ReadsSelf, "groups-are-read", "lr = 0.05 in the groups"),
        (FirstGroup, "groups-are-apart", "depend on the other groups"),
        (NoGrad, "missing-gradients", "AssertionError"),
        (Other, "equal-seeds", "end with different weights"),
        (Forgets, "state-goes-on", "goes another way"),
        (Forgets, "taken-up", "taken up after epoch 1 of 2"),
        (Odd, "state-goes-on", "is a set; a checkpoint holds"),
        (Numpys, "nothing-global", "numpy's global generator"),
        (Pythons, "nothing-global", "Python's global generator"),
        (Doubles, "nothing-global", "torch's default type"),
        (Graph, "memory-is-flat", "bytes of tensors"),
        (Diary, "memory-is-flat", "of Python's objects"),
        (Infinite, "steps", "not a finite number"),
        (Infinite, "trains", "a latent is not a finite number"),
        (Uphill, "learns", "the training loss goes from"),
        (Replaces, "steps", "another tensor in the place of a latent"),
        (Ruled, "rule", "its rule moves weights otherwise"),
        (lambda params, lr: None, "signature", "'lr' has no default"),
        (lambda params, lr="x": None, "is-built", "makes a NoneType"),
    ],
    "binarizers": [
        (Zeros, "one-bit", "are 0, which is no value of one bit"),
        (TwoSizes, "one-bit", "more than one size"),
        (InPlace, "forward", "changes the latent"),
        (Spoils, "backward", "changes what it is given"),
        (NoBinary, "is-built", "none of them 'binary'"),
        (nn.Identity, "is-built", "has no backward and no inference_modes"),
        (Wide, "forward", "must have the latent's shape and type"),
        (Root, "backward", "is not a finite number"),
        (Chancy, "equal-seeds", "differs"),
        (Chancy, "nothing-global", "numpy's global generator"),
        (Upward, "loss-falls", "the training loss goes from"),
        (Drawn, "modes", "has 0 draws"),
    ],
    "methods": [
        (lambda: 3, "is-built", "makes a int"),
        (lambda: method(judged="real"), "is-built", "none of them 'real'"),
        (
            lambda: method(Scheduled(Careless, rate=1.0)),
            "hyperparameters-are-keys",
            "'rate' is no key",
        ),
        (lambda: method(binarizer=Zeros), "one-bit", "are 0"),
        (lambda: method(initialize=chance), "equal-seeds", "differ in"),
        (lambda: method(initialize=chance), "nothing-global", "numpy's global generator"),
        (
            lambda: method(Scheduled(Seeds)),
            "nothing-global",
            "changes the seed of torch's generator",
        ),
        (lambda: method(Scheduled(Forgets)), "taken-up", "taken up after epoch 1"),
        (lambda: method(Scheduled(Diary)), "memory-is-flat", "of Python's objects"),
        (lambda: method(Scheduled(Uphill)), "learns", "the training loss goes from"),
        (lambda: method(Scheduled(Infinite)), "trains", "a latent is not a finite number"),
    ],
    "architectures": [
        (built(Unused), "binary-layers-learn", "'spare' takes no part"),
        (built(Real), "binary-layers-learn", "has no binary layer"),
        (built(Ten), "several-shapes", "makes outputs (3, 3), and not (3, 5)"),
        (built(Precise), "of-float32", "is torch.float64"),
        (built(Always), "judged-alone", "depend on the others in its batch"),
        (built(Counts), "judged-alone", "changes ['count']"),
        (built(Unregistered), "weights-are-kept", "answer differently"),
        (built(Constant), "equal-seeds", "two seeds have the same weights"),
        (built(Frozen), "roles-are-complete", "a binary weight is frozen"),
        (seeds_all, "nothing-global", "changes the seed"),
        (lambda *, shape, classes: 3, "outputs", "TypeError"),
    ],
    "losses": [
        (lambda: 3, "is-built", "makes a int"),
        (
            loss_of(lambda o, t: functional.cross_entropy(o, t, reduction="none")),
            "is-a-number",
            "of no dimensions",
        ),
        (
            loss_of(lambda o, t: functional.cross_entropy(o.detach(), t)),
            "has-a-gradient",
            "has no gradient",
        ),
        (loss_of(lambda o, t: o.sum() * 0), "has-a-gradient", "is 0 everywhere"),
        (
            loss_of(lambda o, t: -functional.cross_entropy(o, t)),
            "right-is-lower",
            "right answers have the loss",
        ),
        (
            loss_of(lambda o, t: functional.cross_entropy(o, t, reduction="sum")),
            "is-a-mean",
            "holds every example twice",
        ),
        (loss_of(lambda o, t: functional.nll_loss(o.softmax(1).log(), t)), "is-finite", "is inf"),
        (
            loss_of(lambda o, t: functional.cross_entropy(o.mul_(1.1), t)),
            "changes-nothing",
            "changes outputs",
        ),
        (
            loss_of(lambda o, t: functional.cross_entropy(o, t) * torch.rand(())),
            "changes-nothing",
            "asked twice",
        ),
        (
            loss_of(lambda o, t: functional.cross_entropy(o, t) * torch.rand(())),
            "nothing-global",
            "generator",
        ),
        (
            loss_of(lambda o, t: functional.cross_entropy(o, t.clamp_min(0))),
            "pixels",
            "without a label",
        ),
        (loss_of(noted), "memory-is-flat", "tensors"),
        (
            loss_of(lambda o, t: Backward.apply(functional.cross_entropy(o, t))),
            "learns",
            "30 steps of Adam",
        ),
    ],
    "probes": [
        (type("Half", (), {"step": None}), "is-built", "has no step and no epoch"),
        (told(Measurement("mine", float("nan"))), "numbers", "is nan"),
        (told(Measurement("mine", "1")), "numbers", "must be a number, got str"),
        (told(("mine", 1.0)), "numbers", "AttributeError"),
        (told(Measurement("a", 1.0), Measurement("a", 2.0)), "numbers", "is measured twice"),
        (told(), "numbers", "measured nothing"),
        (
            told(Measurement("a", 1.0, layer="nowhere")),
            "layers",
            "'nowhere', which is no binary layer",
        ),
        (probe(step=shifted), "touches-nothing", "ends with other weights"),
        (probe(epoch=counting), "state-goes-on", "measures something else"),
        (probe(step=keeping), "memory-is-flat", "tensors"),
        (probe(epoch=drawing), "nothing-global", "torch's generator"),
        (probe(epoch=drawing), "equal-seeds", "measures something else"),
        (probe(state=lambda self: {"a": {1}}), "state-goes-on", "is a set"),
    ],
    "datasets": [
        (lambda: 3, "is-built", "makes a int"),
        (dataset(test=split(0, 2)), "is-built", "the test split is empty"),
        (dataset(test=split(30, 2, (1, 4, 5))), "is-built", "test has inputs of"),
        (
            dataset(train=Split(split(30, 0).inputs.double(), split(30, 0).targets)),
            "inputs",
            "float64",
        ),
        (dataset(classes=2), "targets", "are 0 to 2, of 2 classes"),
        (dataset(train=Split(split(30, 0).inputs, split(30, 0).targets.int())), "targets", "int32"),
        (dataset(train=as_(Elsewhere)), "moves", "moved to the CPU"),
        (dataset(train=as_(Shuffled)), "order-is-honoured", "in another order"),
        (dataset(train=as_(Backwards)), "all-as-they-lie", "does not begin with"),
        (dataset(train=augmented(by_chance)), "equal-chances", "are others"),
        (
            dataset(train=Split(data().train.inputs, data().train.targets, doubling)),
            "is-built",
            "inputs of",
        ),
        (
            lambda: Dataset(augmented(doubling), split(30, 1), split(30, 2), 3),
            "nothing-is-changed",
            "are others",
        ),
        (dataset(test=split(30, 0)), "splits-are-apart", "30 of 30 examples in common"),
        (dataset(train=as_(Anonymous), test=as_(Anonymous, 2)), "fingerprints", "one fingerprint"),
        (varying, "fingerprints", "another fingerprint"),
        (varying, "nothing-global", "Python's global generator"),
    ],
    "figures": [
        (3, "is-called", "cannot be called"),
        (lambda results: 3, "is-drawn", "makes a int"),
        (lambda results: drawing_of(drawing=3), "is-drawn", "no plotly Figure"),
        (confirmed_first, "before-it-began", "IndexError"),
        (lambda results: drawing_of(title=" "), "is-explained", "no title"),
        (lambda results: drawing_of(explanation="Nice."), "is-explained", "explains nothing"),
        (lambda results: drawing_of(drawing=go.Figure(go.Bar(y=[1]))), "is-explained", "axes"),
        (lambda results: drawing_of(title=str(random.random())), "equal-results", "not the same"),
        (lambda results: drawing_of(title=str(random.random())), "nothing-global", "Python's"),
    ],
}


class Seeds(Sgd):
    def way(self, w, group):
        torch.manual_seed(3)
        return w.grad


class Backward(torch.autograd.Function):
    """A loss whose gradient has the wrong sign."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


@pytest.mark.parametrize(
    ("kind", "target", "check", "words"),
    [
        pytest.param(kind, *fault, id=f"{kind}-{number}-{fault[1]}")
        for kind, faults in FAULTS.items()
        for number, fault in enumerate(faults)
    ],
)
def test_a_fault_is_caught_by_the_check_that_is_there_for_it(kind, target, check, words):
    """The check fails, and says the fault."""
    outcome = outcomes(kind, target, only=(check,))[check]

    assert FAILED == outcome.state, outcome
    assert words in outcome.why
    assert outcome.advice
    assert "\n" not in outcome.why


@pytest.mark.parametrize("kind", FAULTS)
def test_every_check_is_seen_to_fail(kind):
    """No check of the three levels is without a component that fails it, but those named here."""
    seen = {check for _, check, _ in FAULTS[kind]}
    shared = {"signature", "legal-defaults", "explained", "bounded"}
    never = {
        "optimizers": {"flips-are-counted", "half-precision"},
        "binarizers": {
            "trains",
            "taken-up",
            "half-precision",
            "memory-is-flat",
            "activation",
            "rule",
        },
        "methods": {"shortest", "flips-are-counted", "half-precision"},
        "architectures": {"is-built", "half-precision"},
        "probes": {"observes"},
    }.get(kind, set())

    assert never == {check.name for check in checks_of(kind)} - seen - shared


def test_good_ones_pass():
    """What the faulty components differ from passes every check, those of --strict too."""
    goods = {
        "optimizers": Sgd,
        "binarizers": Straightforward,
        "methods": method_of_mine,
        "architectures": built(Hidden),
        "losses": loss_of(functional.cross_entropy),
        "probes": Quiet,
        "datasets": dataset(),
        "figures": lambda results: drawing_of(),
    }
    for kind, good in goods.items():
        found = outcomes(kind, good)
        assert {} == {o.check: o.why for o in found.values() if o.state == FAILED}, kind


def method_of_mine():
    return method()


class Strict(Sgd):
    """A good optimizer, explained.

    Args:
        params: what it moves.
        lr: how far a step goes.
    """


def needs_more(params, lr: float = -1.0):
    """Return an optimizer."""
    return Sgd(params, lr)


def test_strict_checks():
    """A number without bounds, a hyperparameter without a word, and code that cannot be traced."""
    found = outcomes("optimizers", needs_more, strict=True)
    good = outcomes("optimizers", Strict, strict=True)

    assert "its docstring says nothing of 'lr'" in found["explained"].why
    assert "lr is any float, without bounds" in found["bounded"].why
    assert (OK, FAILED) == (good["explained"].state, good["bounded"].state)
    assert OK == good["compiles"].state


def test_a_default_outside_its_bounds():
    """Default and annotation must fit."""
    from typing import Annotated

    from annotated_types import Gt

    def made(params, lr: Annotated[float, Gt(0)] = -1.0):
        return Sgd(params, lr)

    made.__annotations__["lr"] = Annotated[float, Gt(0)]
    found = outcomes("optimizers", made, only=("legal-defaults",))["legal-defaults"]

    assert FAILED == found.state
    assert "the default of lr is not legal" in found.why


def test_a_suite_is_two_lines(tmp_path):
    """pytest collects a test for each check; a plain function does not become a method."""
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from bnnbench.testing import BinarizerSuite, LossSuite
            from bnnbench.testing.stage import Straight
            from torch.nn import functional

            def good(weight: float = 1.0):
                return lambda o, i, t: weight * functional.cross_entropy(o, t)

            def bad():
                return lambda o, i, t: -functional.cross_entropy(o, t)

            class TestGood(LossSuite):
                component = good
                hyperparameters = {"weight": 2.0}

                def test_pixels(self):
                    pytest.skip("mine")

            class TestBad(LossSuite):
                component = bad

            class TestStraight(BinarizerSuite):
                component = Straight
            """
        )
    )
    words = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error"]

    done = subprocess.run([*words, tmp_path], capture_output=True, text=True, cwd=tmp_path)

    total = 2 * len(checks_of("losses")) + len(checks_of("binarizers"))
    failed, passed, skipped = map(int, re.findall(r"(\d+) (?:failed|passed|skipped)", done.stdout))
    assert 1 == done.returncode
    assert (1, total - 3, 2) == (failed, passed, skipped)
    assert "Right answers have a lower loss than wrong ones." in done.stdout
    assert "right answers have the loss" in done.stdout
    assert "Traceback" not in done.stdout


def test_suites_of_all_kinds_are_there():
    """One for each kind, with its kind's name."""
    found = {
        each.kind
        for each in vars(suites).values()
        if isinstance(each, type) and issubclass(each, suites.Suite)
    } - {""}
    assert {*KINDS, "datasets"} == found


def test_checks_leave_the_caller_as_they_found_it():
    """Seeds, generators and threads of whoever calls are as before."""
    torch.manual_seed(11)

    def state():
        return torch.get_rng_state(), torch.initial_seed(), torch.get_num_threads()

    before = state()
    theirs = random.getstate(), repr(np.random.get_state())

    outcomes("optimizers", Doubles, only=("nothing-global", "steps"))
    outcomes("optimizers", Pythons, only=("steps",))

    assert not difference(before, state())
    assert theirs == (random.getstate(), repr(np.random.get_state()))
    assert torch.float32 == torch.get_default_dtype()


def inner():
    raise KeyError("deep")


def outer():
    inner()


def test_the_innermost_line_of_the_components_own_is_blamed():
    """Neither the line that called it, nor where in torch or in ours it ended."""
    from bnnbench.testing.blame import blamed

    text = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = text.index('    raise KeyError("deep")') + 1
    found = []
    for function in (outer, lambda: torch.zeros(2).view(3)):
        try:
            function()
        except (KeyError, RuntimeError) as error:
            found.append(blamed(error, outer))

    assert f"KeyError: 'deep' (test_testing.py, line {line}, in inner)" == found[0]
    assert found[1].endswith("in <lambda>)")

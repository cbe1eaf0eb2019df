"""The geometry probe agrees with loops in plain numpy, with the theory, and leaves no trace."""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn

from bnnbench.binarization import sign
from bnnbench.cells import cells
from bnnbench.checkpoints import Checkpoints
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.interfaces import InferenceMode, Scene, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.looking import look
from bnnbench.methods import unchanged
from bnnbench.plugins import load_plugins
from bnnbench.probes import FlipProbe
from bnnbench.runs import Part, Run
from bnnbench.schedules import Progress
from bnnbench.seeds import RandomState
from bnnbench.studyfile import parse_study
from bnnbench.training import Settings, Training, train
from bnnbench.tuning import StudyRunner
from bnnbench_plugins import geometry, products
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.frozen import frozen_random
from bnnbench_plugins.geometry import Geometry, angles
from bnnbench_plugins.histograms import Histograms
from bnnbench_plugins.ste import ste
from bnnbench_plugins.xnor import Scaled
from bnnbench_reports.toml import study_file

from .conftest import TINY
from .test_training import DATA, LOSS, METHODS, Recorder, network
from .test_tuning import SILENT

OURS = ("angle_", "dot_", "fan_in", "latent_")
SIGN = {"binary": InferenceMode(sign), "real": InferenceMode(unchanged)}


def scene_of(model, modes=None, examples=None, epoch=1, epochs=1):
    """A scene as the training makes it."""
    if examples is None:
        examples = DATA.validation
    return Scene(epoch, epochs, model, Latents(model), modes or SIGN, examples)


def seen(probe, scene, seed=0):
    """What the probe measures, by layer, mode and metric."""
    return {(m.layer, m.mode, m.metric): m.value for m in look(probe, scene, seed)}


def dense(*weights):
    """A network of one binary layer after the other, with these weights."""
    layers = []
    for weight in weights:
        layers.append(BinaryLinear(weight.shape[1], weight.shape[0], bias=False))
        with torch.no_grad():
            layers[-1].weight.copy_(weight)
    return nn.Sequential(*layers).double()


# angles


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(3, 2), (1, 1), (2, 3, 2, 2), (4, 7)]),
    spread=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_angles_by_their_definition(seed, shape, spread):
    """acos(w.w_b/(|w||w_b|)) of each filter, with mean, deviation and quantiles of numpy."""
    generator = np.random.default_rng(seed)
    w = spread * generator.normal(size=shape)
    theta = []
    for row in w.reshape(shape[0], -1):
        signs = [1.0 if x >= 0 else -1.0 for x in row]
        dot = sum(a * b for a, b in zip(row, signs, strict=True))
        size = math.sqrt(sum(a * a for a in row)) * math.sqrt(len(row))
        theta.append(math.degrees(math.acos(min(1.0, dot / size))))

    weight = torch.from_numpy(w)
    found = geometry._angles(products.Pair("l", "relaxed", sign(weight), weight), sign)

    wanted = {"angle_mean": np.mean(theta), "angle_sd": np.std(theta)}
    wanted |= {f"angle_q{q:02}": np.percentile(theta, q) for q in (5, 25, 50, 75, 95)}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():  # acos itself is off by 1e-6 near 0
        assert math.isclose(value, found[name], rel_tol=1e-9, abs_tol=3e-6), name


def test_small_angles_are_exact():
    """Weights within 1e-9 of +-1 have the angle that the difference has, which acos cannot see."""
    w = torch.ones(1, 4, dtype=torch.float64)
    w[0, 0] += 1e-9

    expected = math.degrees(1e-9 * math.sqrt(3 / 4) / 2)
    assert angles(w, torch.ones(1, 4)).item() == pytest.approx(expected, rel=1e-5)


def test_filters_of_zeros_have_no_angle():
    """They are left out; where all are, there is nothing to say of the angle."""
    w = torch.tensor([[0.0, 0.0], [1.0, 0.0]])

    assert angles(w, torch.ones(2, 2)).tolist() == pytest.approx([45])
    found = seen(Geometry(images=0), scene_of(dense(torch.zeros(2, 6))))
    assert not [key for key in found if key[2] in ("angle_mean", "angle_sd", "angle_q50")]
    assert found["0", "", "fan_in"] == 6


def integrated(density, lowest, low, high):
    """The angle of w with density p to sign(w) 1{|w| > lowest}, by numerical integration."""

    def mean(f):
        parts = [(low, -lowest), (lowest, high)] if f is not square else [(low, 0.0), (0.0, high)]
        return sum(integrate.quad(lambda w: f(w) * density(w), *part)[0] for part in parts)

    def square(w):
        return w * w

    return math.degrees(math.acos(mean(abs) / math.sqrt(mean(square) * mean(lambda w: 1.0))))


def test_theory_is_what_integrals_give():
    """Gaussian 37.07 and uniform 30, integrated anew; the official code's .5956 rad is t = 0.1."""
    gaussian = integrated(stats.norm.pdf, 0.0, -12, 12)
    uniform = integrated(lambda w: 0.5, 0.0, -1, 1)
    ternary = integrated(stats.norm.pdf, 0.1, -12, 12)

    assert gaussian == pytest.approx(geometry.GAUSSIAN, abs=1e-6)
    assert uniform == pytest.approx(geometry.UNIFORM, abs=1e-6)
    assert ternary == pytest.approx(geometry.TERNARY, abs=1e-6)
    assert [37.07, 30.0] == [round(gaussian, 2), round(uniform, 2)]
    assert math.radians(ternary) == pytest.approx(0.5956, abs=6e-4)
    assert math.radians(geometry.ternary_angle(0.02 / 0.18)) < 0.591


def test_high_dimension_is_as_in_theory():
    """Random filters of 40 000 numbers are where the theory has them, and hardly spread."""
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(20, 40_000, generator=generator)
    u = torch.rand(20, 40_000, generator=generator) * 2 - 1
    ternary = sign(w) * (w.abs() > 0.1)

    for left, right, expected in (
        (w, sign(w), geometry.GAUSSIAN),
        (u, sign(u), geometry.UNIFORM),
        (w, ternary, geometry.TERNARY),
    ):
        theta = angles(left, right)
        assert theta.mean().item() == pytest.approx(expected, abs=0.1)
        assert theta.std().item() < 0.3


def test_controls_of_angles():
    """Gaussian 37, unrelated 90 +- 180/pi/sqrt(d); a shuffle mixes filters of different lengths."""
    generator = torch.Generator().manual_seed(2)
    length = torch.tensor([[0.1], [1.0]] * 30)
    w = length * (torch.rand(60, 900, generator=generator) * 2 - 1)
    mixed = math.sqrt((0.1**2 + 1) / 2 / 3)  # root mean square of all weights
    expected = math.degrees(math.acos(1.1 / 4 / mixed))

    found = seen(Geometry(images=0), scene_of(dense(w)))

    assert found["0", "", "angle_mean"] == pytest.approx(30, abs=0.3)
    assert found["0", "", "angle_gaussian_mean"] == pytest.approx(geometry.GAUSSIAN, abs=0.3)
    assert found["0", "", "angle_shuffled_mean"] == pytest.approx(expected, abs=0.5)
    assert expected > 40
    assert found["0", "", "angle_apart_mean"] == pytest.approx(90, abs=0.8)
    assert found["0", "", "angle_apart_sd"] == pytest.approx(math.degrees(1 / 30), rel=0.35)


# dot products


def convolved(a, w, stride, padding):
    """The dot products of a convolution by loops: (images, filters, rows, columns)."""
    a = np.pad(a, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, _, height, width = a.shape
    filters, _, k, _ = w.shape
    rows, columns = (height - k) // stride + 1, (width - k) // stride + 1
    out = np.zeros((n, filters, rows, columns))
    for i, f, r, c in itertools.product(range(n), range(filters), range(rows), range(columns)):
        top, left = r * stride, c * stride
        out[i, f, r, c] = (a[i, :, top : top + k, left : left + k] * w[f]).sum()
    return out


def small():
    """Two convolutions and a dense layer, with biases and statistics that are not trivial."""
    with RandomState(3).in_force():
        model = nn.Sequential(
            BinaryConv2d(2, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            BinaryConv2d(3, 4, 2, stride=2, bias=False),
            nn.Flatten(),
            nn.Dropout(0.5),
            BinaryLinear(16, 5),
        ).double()
        norm = model[1]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
        inputs = torch.randn(9, 2, 4, 4).double()
    return model, Split(inputs, torch.zeros(9, dtype=torch.long))


def by_hand(model, inputs, binary):
    """x and y of each layer, in numpy; ``binary`` is the view that makes the network's weights."""
    w = [layer.weight.detach().numpy() for layer in (model[0], model[3], model[6])]
    b = [binary(layer.weight.detach()).numpy() for layer in (model[0], model[3], model[6])]
    norm = {k: v.numpy() for k, v in model[1].state_dict().items()}
    per = (1, 3, 1, 1)

    points = {"0": (convolved(inputs, b[0], 1, 1), convolved(inputs, w[0], 1, 1))}
    h = points["0"][0] + model[0].bias.detach().numpy().reshape(per)
    scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
    h = (h - norm["running_mean"].reshape(per)) * scale.reshape(per) + norm["bias"].reshape(per)
    h = np.maximum(h, 0)
    points["3"] = convolved(h, b[1], 2, 0), convolved(h, w[1], 2, 0)
    h = points["3"][0].reshape(len(inputs), -1)
    points["6"] = h @ b[2].T, h @ w[2].T
    return {name: (x.ravel(), y.ravel()) for name, (x, y) in points.items()}


@pytest.mark.parametrize("together", [2, 50])
@pytest.mark.parametrize("binary", [sign, Scaled().forward], ids=["sign", "scaled"])
def test_dot_products_by_loops(monkeypatch, binary, together):
    """r, slope, means, deviations and cells of the first 7 images, however they are batched."""
    monkeypatch.setattr(products, "TOGETHER", together)
    model, examples = small()
    modes = {"binary": InferenceMode(binary), "real": InferenceMode(unchanged)}
    expected = by_hand(model, examples.inputs[:7].numpy(), binary)

    found = seen(Geometry(images=7, grid=5), scene_of(model, modes, examples))

    for layer, (x, y) in expected.items():
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        wanted = {
            "dot_r": np.corrcoef(x, y)[0, 1],
            "dot_slope": slope,
            "dot_x_mean": x.mean(),
            "dot_x_sd": x.std(),
            "dot_y_mean": y.mean(),
            "dot_y_sd": y.std(),
        }
        for name, value in wanted.items():
            assert found[layer, "", name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        assert cells_of(found, layer, 5) == counted(x, y, 5)


def cells_of(found, layer, side):
    return [
        [found.get((layer, "", f"dot_cell_{x:02}_{y:02}"), 0) for y in range(side)]
        for x in range(side)
    ]


def counted(x, y, side):
    """numpy's counts between -3 and 3 deviations, with what is outside moved to the rim."""
    z = [np.clip((v - v.mean()) / v.std(), -2.999, 2.999) for v in (x, y)]
    return np.histogram2d(*z, bins=side, range=[(-3, 3)] * 2)[0].tolist()


def test_layers_numbers_and_names():
    """18 numbers of angles, 8 of dot products and the fan-in; cells only after the last epoch."""
    model, examples = small()

    middle = seen(Geometry(), scene_of(model, None, examples, 1, 2))
    last = seen(Geometry(), scene_of(model, None, examples, 2, 2))
    plain = {key for key in last if "cell" not in key[2]}

    assert plain == set(middle)
    assert len(middle) == 3 * (18 + 1 + 8)
    assert {"0": 18, "3": 12, "6": 16} == {k: middle[k, "", "fan_in"] for k in "036"}
    for layer, count in {"0": 9 * 3 * 16, "3": 9 * 16, "6": 9 * 5}.items():
        assert count == sum(v for k, v in last.items() if "cell" in k[2] and k[0] == layer)
    splits = {m.metric[:3]: m.split for m in look(Geometry(), scene_of(model, None, examples), 0)}
    assert {"ang": "", "fan": "", "dot": "validation"} == splits


def test_shuffled_activations_leave_the_angle():
    """r of shuffled activations with mean 0 is the cosine of the weights, whatever the data's r."""
    generator = torch.Generator().manual_seed(4)
    w = torch.randn(6, 40, generator=generator).double()
    aligned = w[torch.randint(6, (3000,), generator=generator)]  # inputs that look like filters
    inputs = aligned + 0.1 * torch.randn(3000, 40, generator=generator)
    inputs = (inputs - inputs.mean()).double()
    examples = Split(inputs, torch.zeros(3000, dtype=torch.long))
    cosine = (w * sign(w)).sum() / (w.norm() * sign(w).norm())

    found = seen(Geometry(images=3000), scene_of(dense(w), None, examples))

    assert found["0", "", "dot_shuffled_r"] == pytest.approx(cosine.item(), abs=0.01)
    assert found["0", "", "dot_r"] > cosine + 0.05
    slope = (w * sign(w)).sum() / (sign(w) ** 2).sum()
    assert found["0", "", "dot_shuffled_slope"] == pytest.approx(slope.item(), rel=0.05)


def test_shuffled():
    """The same numbers in another order, in the same shape."""
    a = torch.arange(600.0).view(2, 3, 10, 10)

    mixed = products.shuffled(a)

    assert mixed.shape == a.shape
    assert torch.equal(mixed.flatten().sort().values, a.flatten())
    assert (mixed == a).sum() < 30


@pytest.mark.parametrize("value", [1.0, 0.1, 1 / 3])
def test_constant_products_have_no_correlation(value):
    """Where all dot products are one number, but for rounding, there is no r, slope or cell."""
    inputs = torch.full((13, 6), value, dtype=torch.float64)
    examples = Split(inputs, torch.zeros(13, dtype=torch.long))

    found = seen(Geometry(), scene_of(dense(torch.rand(1, 6)), None, examples))

    names = {key[2] for key in found if key[2].startswith("dot")}
    assert names == {"dot_x_mean", "dot_x_sd", "dot_y_mean", "dot_y_sd"}
    assert found["0", "", "dot_x_mean"] == pytest.approx(6 * value)


# methods


def measured_by(method, epochs=4, probes=None, data=DATA, **options):
    probes = [Geometry(epochs=tuple(range(10)), images=20)] if probes is None else probes
    ran = train(network(), method, data, LOSS, Settings(epochs, 20, 0, **options), probes)
    return [[m for m in found if m.metric.startswith(OURS)] for found in ran]


@pytest.mark.parametrize(
    "method", [bop(gamma=0.1, tau=1e-3), frozen_random()], ids=lambda method: method.name
)
def test_nothing_to_say_without_a_latent(method):
    """Where the weight is the latent there is no angle and no dot product, not even before."""
    assert [[]] * 6 == measured_by(method)


@pytest.mark.filterwarnings("ignore::bnnbench_plugins.bnew.BudgetWarning")
def test_of_bnew_the_weight_before_projection():
    """BNEW has angles until its weights are locked: then there is nothing but the signs."""
    found = measured_by(bnew(budget=1.0, relax=0.25, lock=1 / 3), epochs=4)

    assert [True, True, True, True, False, False] == [bool(each) for each in found]


def test_both_weights_of_bmd():
    """w~ under no mode, tanh(beta w~) as "relaxed"; the angle of each to the sign of w~."""
    method = bmd(beta_final=30.0, lr=0.1)
    model = network()
    recorder = Recorder(model)
    probes = [recorder, Geometry(epochs=(1, 2), images=20)]

    found = list(train(model, method, DATA, LOSS, Settings(2, 20, 0), probes))[2]

    w = recorder.latents[-1]
    (binarizer,) = (phase.binarizer for phase in method.phases)
    beta = binarizer.build(Progress(3, 4, 1, 2)).beta
    layer = next(iter(w))
    for mode, weight in {"": w[layer], "relaxed": torch.tanh(beta * w[layer])}.items():
        (mean,) = (
            m.value for m in found if (m.metric, m.mode, m.layer) == ("angle_mean", mode, layer)
        )
        assert mean == pytest.approx(angles(weight, sign(weight)).mean().item(), rel=1e-5)
    assert {"", "relaxed"} == {m.mode for m in found if m.metric == "dot_r"}


def test_draws_are_not_compared():
    """For stochastic BinaryConnect it is the latent and its sign, never a sample."""
    found = measured_by(METHODS["stochastic"], epochs=1)

    assert {""} == {m.mode for each in found for m in each}


# no trace in the training


EVERY = tuple(range(10))


def watched(method, probes, **options):
    model = network()
    recorder = Recorder(model)
    made = Training(model, method, DATA, LOSS, Settings(3, 20, 0, **options), [recorder, *probes])
    numbers = [[m for m in found if not m.metric.startswith(("seconds", *OURS))] for found in made]
    return numbers, recorder, made.network()


@pytest.mark.parametrize(
    ("name", "worth"), [*((name, math.inf) for name in (*METHODS, "bmd")), ("stochastic", 0)]
)
def test_training_is_the_same_without_the_probes(monkeypatch, name, worth):
    """Every number, every latent after every step, and the network: the same bits.

    By torch operations, and by the compiled pass.
    """
    monkeypatch.setattr("bnnbench.updates.WORTH", worth)
    method = METHODS.get(name) or bmd(lr=0.1)
    probes = [Histograms("all", EVERY), Geometry(EVERY, 30)]

    plain, alone, network_alone = watched(method, [], reestimate=1)
    probed, beside, network_beside = watched(method, probes, reestimate=1)

    assert plain == probed
    for one, other in zip(alone.latents, beside.latents, strict=True):
        assert all(torch.equal(one[layer], other[layer]) for layer in one)
    for one, other in zip(alone.states, beside.states, strict=True):
        assert all(torch.equal(one[norm], other[norm]) for norm in one)
    assert all(torch.equal(w, network_beside[key]) for key, w in network_alone.items())


def test_probes_do_not_see_each_other():
    """A probe measures the same beside others, whatever these draw."""

    class Draws(FlipProbe):
        def look(self, scene):
            torch.randn(1000)
            scene.latents.project(torch.zeros_like)
            return ()

    geometry_alone = measured_by(ste(lr=0.1))
    both = measured_by(ste(lr=0.1), probes=[Draws(), Geometry(EVERY, 20)])

    assert geometry_alone == both
    assert len(geometry_alone[2]) > 20


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_puts_everything_back(fails):
    """Weights, the mode of every module, random numbers and hooks, also after an error."""
    model, examples = small()
    model.train()
    model[5].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()

    class Meddler:
        def look(self, scene):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            yield from Geometry(images=5).look(scene)
            torch.rand(5)
            scene.latents.project(torch.zeros_like)
            if fails:
                raise KeyError

    scene = scene_of(model, None, examples)
    if fails:
        with pytest.raises(KeyError):
            look(Meddler(), scene, 0)
    else:
        assert look(Meddler(), scene, 0)

    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert {5} == {i for i, module in enumerate(model) if not module.training}
    assert torch.equal(chance, torch.get_rng_state())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_test_split_is_never_read():
    """The probe asks validation, also in a run that is tested: that is one look, at the end."""
    asked = []

    class Watched(Split):
        name = ""

        def batches(self, size, order=None, generator=None):
            asked.append((self.name, order is not None))
            return super().batches(size, order, generator)

        def to(self, device):
            return self

    class Test(Watched):
        name = "test"

    splits = {"validation": Watched(*astuple(DATA.validation)), "test": Test(*astuple(DATA.test))}
    found = measured_by(ste(lr=0.1), 1, [Geometry((0,), 9)], replace(DATA, **splits), test=True)

    assert all(found[:2])
    # at epoch 0, and twice after the last for means and cells; those without an order are judging
    assert [("", True)] * 3 == [each for each in asked if each[1]]
    once_for_each_mode = [("test", False)] * 2
    assert once_for_each_mode == [each for each in asked if each[0] == "test"]
    assert once_for_each_mode == asked[-2:]


def test_resumed_is_undisturbed(tmp_path):
    """A training taken up after each epoch measures what it would have measured."""

    def begun():
        probes = [Geometry(EVERY, 20), FlipProbe(), Histograms("all", EVERY)]
        return Training(network(), METHODS["stochastic"], DATA, LOSS, Settings(3, 20, 0), probes)

    def numbers(epochs):
        return [[m for m in found if not m.metric.startswith("seconds")] for found in epochs]

    calm = numbers(begun())
    assert sum(m.metric == "dot_r" for found in calm for m in found) == 4 * 3
    for after in (1, 2):
        first, kept = begun(), Checkpoints(tmp_path)
        for _ in first:
            if first.epoch == after:
                break
        run = Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, 2, 10)
        kept.save_training(run, first.state())
        second = begun()
        second.load(kept.training(run))
        assert calm[after + 1 :] == numbers(second)


def test_before_training_no_optimizer_has_touched_the_latents():
    """Making the scene of epoch 0 builds no optimizer: those of Bop would sign the latents."""

    class Watch(FlipProbe):
        def look(self, scene):
            if scene.epoch == 0:
                self.first = scene.latents.state()
            return ()

    watch, model = Watch(), network()
    expected = Latents(model).state()
    list(train(model, METHODS["bop"], DATA, LOSS, Settings(1, 20, 0), [watch]))

    assert all(torch.equal(w, watch.first[layer]) for layer, w in expected.items())


# in a study


STUDY = TINY.replace("[task]", 'probes = ["flips", {name = "geometry", epochs = [1]}]\n[task]')


@pytest.fixture(scope="module")
def workbench():
    """The bundled plugins."""
    return Workbench(load_plugins())


def planned(text, workbench):
    return cells("s", parse_study(tomllib.loads(text), "s.toml"), workbench)[0].run(
        {}, 1, test=False
    )


def test_hyperparameters_of_a_probe(workbench):
    """They come from the study file into the run and its key, and from there into the probe."""
    run, plain = planned(STUDY, workbench), planned(TINY, workbench)

    assert ("flips",) == plain.probes
    assert run.probes[0] == "flips"
    assert {"epochs": [1], "images": 500, "grid": 24} == {
        **run.probes[1].hyperparameters,
        "epochs": list(run.probes[1].hyperparameters["epochs"]),
    }
    again = Run.from_json(run.to_json())
    assert run.key == again.key != plain.key
    flips, probe = (workbench.probe(given) for given in again.probes)
    assert isinstance(flips, FlipProbe)
    assert ((1,), 500) == (probe.epochs, probe.images)


def test_a_plain_name_is_all_that_a_key_knows_of_a_probe():
    """A probe without hyperparameters is its name in the run's description, and nothing else."""
    run = replace(
        Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, 2, 10), probes=("flips", "geometry")
    )

    assert '"probes":["flips","geometry"]' in run.to_json()
    assert Run.from_json(run.to_json()) == run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{name = "geometry", epoch = [1]}', "probes: geometry has no hyperparameter 'epoch'; did"),
        ('{name = "geometry", epochs = 1}', "probes: geometry: epochs = 1: input should be a"),
        ('{name = "geometry", images = -1}', "probes: geometry: images = -1: input should be gr"),
        ('{name = "geometri"}', "did you mean 'geometry'?"),
        ('"flips"', "a probe is named once, got 'flips' twice; leave one out"),
        ("3", r"probes\[1\]: "),
    ],
)
def test_wrong_probes(workbench, given, message):
    """One line, with the way out."""
    text = STUDY.replace('{name = "geometry", epochs = [1]}', given)

    with pytest.raises(UsageError, match=message) as raised:
        planned(text, workbench)

    assert "\n" not in str(raised.value)


def test_the_study_file_keeps_hyperparameters_of_probes(tmp_path):
    """The report's text of a study reads as the study, also with a table first."""
    for text in (STUDY, STUDY.replace('"flips", ', "")):
        study = parse_study(tomllib.loads(text), "s.toml")
        assert study == parse_study(tomllib.loads(study_file(study)), "again.toml")
        assert study == type(study).model_validate_json(study.model_dump_json())


def test_a_study_stores_what_the_probes_measure(store, workbench):
    """All rows of a run go into the database and come out again, by layer and epoch."""
    text = STUDY.replace('"flips", ', '"histograms", ').replace("seeds = 2", "seeds = 1")
    text = text.replace("trials = 2", "trials = 0").replace('method = "bop"', 'method = "ste"')
    store.create_study("s", parse_study(tomllib.loads(text), "s.toml"), "cmd", "0")
    StudyRunner(store, "s", workbench, SILENT).run()

    rows = store.measured("s", ["angle_mean", "dot_r", "latent_distance"])

    assert {1, 2} == {r.epoch for r in rows if r.metric == "angle_mean"}
    assert {0, 1, 2} == {r.epoch for r in rows if r.metric == "latent_distance"}
    assert {"validation"} == {r.split for r in rows if r.metric == "dot_r"}
    assert all(-1 <= r.value <= 1 for r in rows if r.metric == "dot_r")

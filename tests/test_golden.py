"""Numbers that were worked out elsewhere: what the primitives, methods and networks must give."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import norm
from torch import nn

from bnnbench.binarization import binarize, hard_sigmoid, sign
from bnnbench.interfaces import Dataset, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryLinear, binary_layers, real_parameters
from bnnbench.probes import pi
from bnnbench.schedules import Geometric, Progress, Scheduled, Staircase
from bnnbench.training import Settings, train
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binarizers import Identity, Sign, SignHardTanh, Stochastic, glorot
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bop import Bop, bop
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste
from bnnbench_plugins.ternary import Ternary
from bnnbench_plugins.xnor import Scaled

X = [-1.5, -1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 1.5]


def gradient(function):
    x = torch.tensor(X, requires_grad=True)
    function(x).sum().backward()
    return x.grad.tolist()


def test_hard_tanh_mask_includes_the_edge():
    """The gradient of sign under the hard-tanh STE is 1 where |x| <= 1, both edges included."""
    assert [0, 1, 1, 1, 1, 1, 1, 1, 0] == gradient(lambda x: binarize(x, SignHardTanh()))


def test_identity_mask_is_everywhere():
    """The gradient of sign under the identity STE is 1 everywhere, and so for draws."""
    assert [1] * 9 == gradient(lambda x: binarize(x, Sign()))
    assert [1] * 9 == gradient(lambda x: binarize(x, Stochastic()))


def test_sign_has_two_values():
    """Both zeros are +1, in every floating-point type, and the type stays."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        signs = sign(torch.tensor([*X, -0.0], dtype=dtype))

        assert dtype == signs.dtype
        assert [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1] == signs.tolist()


def test_what_torch_does():
    """Why there are primitives of our own: torch's sign(0) is 0, its hard tanh ends before 1."""
    assert torch.sign(torch.tensor(0.0)).item() == 0
    assert torch.round(torch.tensor(0.5)).item() == 0
    assert gradient(nn.functional.hardtanh) == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert gradient(lambda x: x.clamp(-1, 1)) == [0, 1, 1, 1, 1, 1, 1, 1, 0]


def test_hard_sigmoid_is_not_torchs():
    """hard_sigmoid reaches 0 and 1 at -1 and 1; torch's does at -3 and 3."""
    x = torch.tensor([-1.0, 0.0, 1.0])

    assert [0, 0.5, 1] == hard_sigmoid(x).tolist()
    assert [0, 0.5, 1] != nn.functional.hardsigmoid(x).tolist()


@pytest.mark.parametrize(
    ("w", "m", "tau", "flipped"),
    [
        ([1, -1, 1, -1], [0.5, 0.5, -0.5, -0.5], 1e-8, [-1, -1, 1, 1]),
        ([1, -1], [0.0, 0.0], 0.0, [1, -1]),
        ([1, -1, 1, -1], [0.5, 0.5, -0.5, -0.5], 0.5, [1, -1, 1, -1]),
    ],
    ids=["equal signs flip", "zero does not", "the threshold itself does not"],
)
def test_bop_flips(w, m, tau, flipped):
    """A weight flips where |m| > tau, strictly, and m has its sign; m is exact with gamma = 1."""
    weight = torch.tensor(w, dtype=torch.float64)
    weight.grad = torch.tensor(m, dtype=torch.float64)

    Bop([weight], gamma=1.0, tau=tau).step()

    assert flipped == weight.tolist()


def scale_free_run(scale, optimizer, lr):
    """Latents after each of 50 steps of a network with normalizations all but without epsilon."""
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryLinear(7, 6, bias=False),
        nn.BatchNorm1d(6, eps=1e-30),
        nn.Softsign(),
        BinaryLinear(6, 3, bias=False),
        nn.BatchNorm1d(3, eps=1e-30),
    ).double()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(100, 7, generator=generator, dtype=torch.float64)
    split = Split(inputs, torch.randint(3, (100,), generator=generator))
    method = without_epsilon(binaryconnect(scale=scale, optimizer=optimizer, lr=lr, lr_end=lr / 10))
    seen = []

    class Recorder:
        def step(self, latents):
            seen.append(latents.state())

        def epoch(self, latents):
            return []

    data = Dataset(split, split, split, classes=3)
    list(train(model, method, data, squared_hinge(), Settings(5, 10, seed=0), [Recorder()]))
    return seen


def without_epsilon(method):
    (phase,) = method.phases
    if "momentum" in phase.binary.hyper:
        return method
    binary = Scheduled(phase.binary.kind, **phase.binary.hyper, eps=0.0)
    scaled = Scheduled(phase.real.kind, **phase.real.hyper, eps=0.0)
    return replace(method, phases=(replace(phase, binary=binary, real=scaled),))


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-2), ("sgd", 3e-1)])
def test_scale_is_a_learning_rate(optimizer, lr):
    """With normalization H = 1 is H = c with a rate of 1/c (Adam) or 1/c^2 (SGD) times as much."""
    unit, small = (scale_free_run(scale, optimizer, lr) for scale in (1.0, "glorot"))

    assert len(unit) == 50
    for one, c_times in zip(unit, small, strict=True):
        for name, latent in one.items():
            torch.testing.assert_close(latent, c_times[name] / glorot(latent), rtol=0, atol=1e-10)
    moved = (unit[0]["0"] - unit[-1]["0"]).abs().max()
    assert moved > 0.01


@pytest.mark.parametrize(
    ("shape", "stretch"),
    [
        ((2048, 784), 43.45),
        ((2048, 2048), 52.26),
        ((10, 2048), 37.04),
        ((128, 3, 3, 3), 28.04),
        ((128, 128, 3, 3), 39.19),
        ((256, 128, 3, 3), 48),
        ((256, 256, 3, 3), 55.43),
        ((512, 256, 3, 3), 67.88),
        ((512, 512, 3, 3), 78.38),
        ((1024, 8192), 78.38),
        ((1024, 1024), 36.95),
        ((10, 1024), 26.26),
    ],
)
def test_stretches(shape, stretch):
    """S = 1/c is the published code's for each layer of its networks."""
    assert stretch == pytest.approx(1 / glorot(torch.empty(shape)), abs=0.005)


def test_squares_of_stretches():
    """SGD's 1/c^2: 1205 for 784 -> 1024, 1365 for 1024 -> 1024, 6144 for 512 filters on 512."""
    shapes = [(1024, 784), (1024, 1024), (512, 512, 3, 3)]

    assert [1205, 1365, 6144] == [round(glorot(torch.empty(shape)) ** -2) for shape in shapes]


@pytest.mark.parametrize(
    ("start", "end", "epochs", "factor"),
    [(3e-3, 2e-6, 500, 0.98548), (1e-3, 3e-6, 250, 0.977031), (1e-3, 3e-7, 500, 0.983907)],
    ids=["BinaryConnect CIFAR-10", "BinaryConnect MNIST", "BNN CIFAR-10"],
)
def test_decay_of_the_learning_rate(start, end, epochs, factor):
    """The learning rate falls by the published factor each epoch, and stays within an epoch."""
    schedule = Geometric(start, end)
    first, later, second = (
        schedule(Progress(step, 10 * epochs, step // 10, epochs)) for step in (0, 9, 10)
    )

    assert start == first == later
    assert factor == pytest.approx(second / first, rel=1e-5)


def test_last_learning_rate():
    """The last epoch of BinaryConnect's CIFAR-10 script has 2.0295e-6, not 2e-6."""
    last = Geometric(3e-3, 2e-6)(Progress(4999, 5000, 499, 500))

    assert last == pytest.approx(2.0295e-6, rel=1e-4)


def test_adaptivity_of_bop():
    """Gamma is 1e-4, then a tenth after each hundred of 500 epochs."""
    schedule = Staircase(1e-4, 0.1, 5)
    at = [schedule(Progress(1000 * e, 500_000, e, 500)) for e in (0, 99, 100, 499)]

    assert at == pytest.approx([1e-4, 1e-4, 1e-5, 1e-8])


@pytest.mark.parametrize(("share", "expected"), [(0, -9), (1e-5, -8.922), (1e-3, -6.791)])
def test_pi(share, expected):
    """pi = ln(flips + e^-9) is -9 where nothing flips."""
    assert expected == pytest.approx(pi(share), abs=5e-4)


@pytest.mark.parametrize(
    ("draw", "degrees"),
    [
        (lambda n, g: torch.randn(n, generator=g, dtype=torch.float64), 37.07),
        (lambda n, g: 2 * torch.rand(n, generator=g, dtype=torch.float64) - 1, 30.0),
    ],
    ids=["gaussian", "uniform"],
)
def test_angle_to_the_sign(draw, degrees):
    """In many dimensions a weight and its sign enclose arccos sqrt(2/pi), or 30 degrees."""
    w = draw(1_000_000, torch.Generator().manual_seed(4))

    angle = torch.acos(torch.cosine_similarity(w, sign(w), dim=0)).rad2deg().item()

    assert degrees == pytest.approx(angle, abs=0.05)


def test_angle_to_the_ternary_weight():
    """A Gaussian vector and its ternary one, 0 within 0.1 deviations, enclose .5956 rad.

    In the limit of many dimensions it is acos(2 phi(t)/sqrt(2 (1 - Phi(t)))), .5961. The
    published value is the median over vectors of 1000 numbers. Their angles spread by .011, so the
    median of 4000 is known to 1.25 * .011 / sqrt(4000) = 2.2e-4, and the angle of all as one vector
    to .011 / sqrt(4000) = 1.7e-4. Twice the first, three times the other, are allowed.
    """
    t = 0.1
    w = torch.randn(4000, 1000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    share = t * math.sqrt(math.pi / 2)  # the mean of |w| is sqrt(2/pi) deviations

    ternary = Ternary(share).forward(w)

    angles = torch.acos(torch.cosine_similarity(w, ternary, dim=1))
    assert pytest.approx(0.5956, abs=5e-4) == angles.median().item()
    angle = torch.acos(torch.cosine_similarity(w.flatten(), ternary.flatten(), dim=0)).item()
    limit = math.acos(2 * norm.pdf(t) / math.sqrt(2 * norm.sf(t)))
    assert pytest.approx(limit, abs=5e-4) == angle


def test_height_of_the_geometry_slides():
    """The 3 x 3 example's alpha is the mean of |w|, 5/9, where the slide prints about 0.2."""
    w = torch.tensor([[-0.4, -0.4, 0.9], [0.9, 0.4, 0.8], [0.4, -0.4, -0.4]]).view(1, 1, 3, 3)

    assert pytest.approx([5 / 9]) == Scaled().forward(w).abs().unique().tolist()


CIFAR, DIGIT = (3, 32, 32), (1, 28, 28)


@pytest.mark.parametrize(
    ("build", "shape", "binary", "norm"),
    [
        (lambda **g: mlp(**g, width=1024), DIGIT, 2_910_208, 2 * 3082),
        (lambda **g: mlp(**g, width=2048), DIGIT, 10_014_720, 2 * 6154),
        (lambda **g: mlp(**g, width=4096), DIGIT, 36_806_656, 2 * 12_298),
        (binarynet, CIFAR, 14_022_016, 7_700),
        (lambda **g: binarynet(**g, width=64), CIFAR, 6_397_632, 5_908),
        (
            lambda **g: binarynet(**g, padding="valid-first", activation="sign"),
            CIFAR,
            10_352_000,
            7_700,
        ),
    ],
    ids=["mlp1024", "mlp2048", "mlp4096", "bc_vgg", "bc_vgg_svhn", "bop_binarynet"],
)
def test_sizes_of_networks(build, shape, binary, norm):
    """The published networks have the published numbers of binary weights, and no biases."""
    with torch.device("meta"):
        model = build(shape=shape, classes=10)

    assert binary == sum(layer.weight.numel() for layer in binary_layers(model).values())
    assert norm == sum(p.numel() for p in real_parameters(model).values())


@pytest.mark.parametrize(
    ("method", "judged"),
    [
        (real(), "real"),
        (ste(), "binary"),
        (binaryconnect(), "binary"),
        (binaryconnect(binarization="stochastic"), "real"),
        (bop(), "binary"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_methods_are_judged_with(method, judged):
    """Stochastic BinaryConnect is judged with real weights as published, the others with signs."""
    (phase,) = method.phases
    modes = phase.binarizer.build(Progress(0, 1, 0, 1)).inference_modes()

    assert judged == method.judged
    assert judged in modes
    assert "binary" in modes


@pytest.mark.parametrize("scale", [1.0, 0.3, "glorot"])
@pytest.mark.parametrize("binarizer", [Identity, Sign, SignHardTanh, Stochastic])
def test_inference_modes(binarizer, scale):
    """ "binary" has nothing but +-H, with the signs of the latents; "real" is the latents."""
    made = binarizer(scale) if binarizer in (Sign, Stochastic) else binarizer()
    H = 1.0
    if binarizer in (Sign, Stochastic):
        H = glorot(torch.empty(4, 6)) if scale == "glorot" else scale
    latents = Latents(nn.Sequential(BinaryLinear(6, 4)))
    latent = latents.tensors["0"]

    modes = made.inference_modes()

    torch.testing.assert_close(H * sign(latent), latents.views(modes["binary"].view)["0"])
    assert latent.equal(modes["real"].view(latent))


def test_ensemble_is_of_draws():
    """The third way to judge stochastic BinaryConnect averages as many draws as asked for."""
    modes = Stochastic(draws=7).inference_modes()
    latent = torch.zeros(1000)

    assert modes["ensemble"].draws == 7
    assert not modes["ensemble"].view(latent).equal(modes["ensemble"].view(latent))
    assert {-1.0, 1.0} == set(modes["ensemble"].view(latent).tolist())

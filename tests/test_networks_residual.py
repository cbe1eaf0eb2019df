"""The residual and dense networks: their published counts, their values, what they refuse."""

from __future__ import annotations

import math
from inspect import signature
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear, activation_bits
from bnnbench.roles import roles
from bnnbench.spaces import validate
from bnnbench_plugins.architectures.bireal import bireal18, bireal20
from bnnbench_plugins.architectures.bnew import bnew_small
from bnnbench_plugins.architectures.densenet import binarydensenet28
from bnnbench_plugins.architectures.reactnet import reactnet18, reactnet_a
from bnnbench_plugins.architectures.resnet import resnet18, wrn22
from bnnbench_plugins.binarizers import Quadratic, SignHardTanh

CIFAR = {"shape": (3, 32, 32), "classes": 10}
IMAGENET = {"shape": (3, 224, 224), "classes": 1000}
ALL = {
    "bnew-small": bnew_small,
    "resnet18": resnet18,
    "wrn22": wrn22,
    "bireal18": bireal18,
    "bireal20": bireal20,
    "reactnet-a": reactnet_a,
    "reactnet-18": reactnet18,
    "binarydensenet28": binarydensenet28,
}
STEMS = [bireal18, reactnet_a, reactnet18, binarydensenet28]
every = pytest.mark.parametrize("build", ALL.values(), ids=ALL)

# Counts -------------------------------------------------------------------------------------------


def weighted(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def binary(layer):
    return isinstance(layer, BinaryConv2d | BinaryLinear)


def counts(build, shape, classes, **options):
    """Binary weights, all other values (running statistics too), and the layers' MACs by kind."""
    macs = {True: 0, False: 0}

    def count(layer, inputs, outputs):
        macs[binary(layer)] += layer.weight.numel() * math.prod(outputs.shape[2:])

    with torch.device("meta"):
        model = build(shape=shape, classes=classes, **options).eval()
        for layer in weighted(model).values():
            layer.register_forward_hook(count)
        model(torch.zeros(1, *shape))
    ones = sum(m.weight.numel() for m in weighted(model).values() if binary(m))
    values = [v.numel() for n, v in model.state_dict().items() if "num_batches" not in n]
    return ones, sum(values) - ones, macs[True], macs[False]


def norms(*channels, values=4):
    """Learned and running values of normalizations with so many channels each."""
    return values * sum(channels)


@pytest.mark.parametrize(
    ("build", "given", "ones", "others", "binary_macs", "real_macs"),
    [
        (bireal18, IMAGENET, 10_985_472, 713_640, 1_676_279_808, 137_793_536),
        (binarydensenet28, IMAGENET, 4_202_496, 948_008, 3_587_383_296, 202_484_224),
    ],
)
def test_counts_of_larq_zoo(build, given, ones, others, binary_macs, real_macs):
    """Larq Zoo's summaries of its copies have the same four numbers, to the last digit."""
    assert (ones, others, binary_macs, real_macs) == counts(build, **given)


def test_operations_of_reactnet_a():
    """ReActNet's article counts 4.82e9 binary and 0.12e8 real operations, to its last digits."""
    _, _, binary_macs, real_macs = counts(reactnet_a, **IMAGENET)

    assert (4.82, 0.12) == (round(binary_macs / 1e9, 2), round(real_macs / 1e8, 2))


def test_counts_of_reactnet_a():
    """A block of i inputs and o outputs has 9 i i + i o binary weights, and what shifts."""
    pairs = list(pairwise([32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]))
    others = 27 * 32 + 1025 * 1000 + norms(32)
    others += sum(norms(i, o) + 2 * i + 3 * (i + o) for i, o in pairs)

    assert len(pairs) == 13
    assert (sum(9 * i * i + i * o for i, o in pairs), others) == counts(reactnet_a, **IMAGENET)[:2]


def test_counts_of_reactnet18():
    """It is Bi-Real Net with a bias before each sign and an RPReLU after each sum."""
    outputs = [64] * 4 + [128] * 4 + [256] * 4 + [512] * 4
    shifts = sum([64, *outputs[:-1]]) + 3 * sum(outputs)
    ones, others, binary_macs, real_macs = counts(bireal18, **IMAGENET)

    assert (ones, others + shifts, binary_macs, real_macs) == counts(reactnet18, **IMAGENET)


def test_size_of_bireal18():
    """Bi-Real Net's article has 33.6 Mbit, with a bit for a binary weight and 32 for a value."""
    ones, others, _, _ = counts(bireal18, **IMAGENET)
    running = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))

    assert ones + 32 * (others - running) == pytest.approx(33.6e6, rel=5e-3)


def test_counts_of_bnew_small():
    """267,264 binary weights, 10.0 M binary MACs; 432, 2,560 and 650 real ones, and what shifts."""
    shortcuts = 16 * 32 + 32 * 64
    rsigns = 7 * 16 + 6 * 32 + 5 * 64
    rprelus = scales = 6 * (16 + 32 + 64)
    others = 432 + shortcuts + 650 + rsigns + 3 * rprelus + scales
    others += norms(16, *[16] * 6, *[32] * 7, *[64] * 7)
    real_macs = 432 * 32**2 + 512 * 8**2 + 2048 * 4**2 + 640

    assert (267_264, others, 10_027_008, real_macs) == counts(bnew_small, **CIFAR)


def test_counts_of_resnet18():
    """11,164,362 binary values, ten of them the bias; nothing else is learned."""
    ones, others, macs, real = counts(resnet18, **CIFAR)
    same = [(64, 4, 32), (128, 3, 16), (256, 3, 8), (512, 3, 4)]
    halved = [(64, 16), (128, 8), (256, 4)]
    expected = 27 * 64 * 32**2 + sum(n * 9 * w**2 * side**2 for w, n, side in same)
    expected += sum((9 + 1) * 2 * w**2 * side**2 for w, side in halved) + 5120 + 10

    assert (11_164_362, expected, 0) == (ones, macs, real)
    assert others == norms(*[64] * 5, *[128] * 5, *[256] * 5, *[512] * 5, values=2)


def test_counts_of_wrn22():
    """The teacher has the binary weights of its student, but the image keeps its size."""
    shortcuts = 16 * 32 + 32 * 64
    inner = norms(*[16] * 6, 16, *[32] * 5, 32, *[64] * 5, 64)
    others = 432 + shortcuts + 650 + inner
    real_macs = 432 * 32**2 + 512 * 16**2 + 2048 * 8**2 + 640

    assert (267_264, others, 4 * 10_027_008, real_macs) == counts(wrn22, **CIFAR)


def test_counts_of_bireal20():
    """The shortcuts have no weight; a ResNet-20 has 0.27 million in all."""
    others = 432 + 650 + norms(16, *[16] * 6, *[32] * 6, *[64] * 6, 64)

    assert (267_264, others, 4 * 10_027_008, 432 * 32**2 + 640) == counts(bireal20, **CIFAR)
    assert 267_264 + others == pytest.approx(0.27e6, rel=0.01)


@pytest.mark.parametrize("build", STEMS)
def test_stems(build):
    """With the stem for small images the sides stay as they are before the first block."""
    _, _, published, _ = counts(build, **IMAGENET)
    reduction = 2 if build is reactnet_a else 4
    small = {"shape": (3, *[224 // reduction] * 2), "classes": 1000, "stem": "cifar"}

    assert published == counts(build, **small)[2]


# Values -------------------------------------------------------------------------------------------


class Plain:
    """A network's values by name, and what its layers do with them in evaluation."""

    def __init__(self, model, pad_value):
        self.v, self.pad_value = model.state_dict(), pad_value

    def conv(self, x, name, stride=1, value=None):
        weight = self.v.get(f"{name}.weight", self.v.get(f"{name}.conv.weight"))
        edge = weight.shape[-1] // 2
        value = self.pad_value if value is None else value
        return F.conv2d(F.pad(x, (edge,) * 4, value=value), weight, stride=stride)

    def norm(self, x, name):
        mean, variance = (self.v[f"{name}.running_{k}"] for k in ("mean", "var"))
        y = (x.movedim(1, -1) - mean) / (variance + 1e-5).sqrt()
        if f"{name}.weight" in self.v:
            y = y * self.v[f"{name}.weight"] + self.v[f"{name}.bias"]
        return y.movedim(-1, 1)

    def shift(self, x, name):
        return x + self.v[f"{name}.b"][:, None, None]

    def rsign(self, x, name):
        return sign(self.shift(x, f"{name}.0"))

    def rprelu(self, x, name):
        x, slope = self.shift(x, f"{name}.0"), self.v[f"{name}.1.weight"][:, None, None]
        return self.shift(torch.where(x > 0, x, slope * x), f"{name}.2")

    def end(self, x, name="fc"):
        return x.mean((2, 3)) @ self.v[f"{name}.weight"].T + self.v[f"{name}.bias"]

    def stem(self, x):
        if self.v["conv1.weight"].shape[-1] == 3:
            return self.norm(self.conv(x, "conv1", value=0), "norm1")
        x = self.norm(self.conv(x, "conv1", 2, value=0), "norm1")
        return max3(x)

    def pooled(self, x, name):
        return self.norm(self.conv(mean2(x), f"{name}.conv"), f"{name}.norm")

    def activation(self, x, name):
        return self.rsign(x, name) if f"{name}.0.b" in self.v else sign(x)

    def branch(self, x, name, stride=1):
        """Bi-Real Net's: activation - convolution - norm."""
        a = self.activation(x, f"{name}.activation")
        return self.norm(self.conv(a, f"{name}.conv", stride), f"{name}.norm")


def sign(x):
    return torch.where(x >= 0, 1.0, -1.0).to(x)


def max3(x):
    """The maximum of 3 x 3 around every second pixel."""
    x = F.pad(x, (1, 1, 1, 1), value=-math.inf)
    columns = [x[..., i : x.shape[-1] - 2 + i : 2] for i in range(3)]
    x = torch.stack(columns).amax(0)
    return torch.stack([x[..., i : x.shape[-2] - 2 + i : 2, :] for i in range(3)]).amax(0)


def tiles(x, reduce):
    """The tiles of 2 x 2, smaller at an odd end, each reduced to a pixel."""
    rows, columns = (range(0, side, 2) for side in x.shape[2:])
    parts = [[reduce(x[:, :, i : i + 2, j : j + 2], (2, 3)) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, -1) for row in parts], -2)


def mean2(x):
    return tiles(x, torch.mean)


def blocks(*sizes):
    """Number of stage, number of block and stride of every block."""
    for stage, size in enumerate(sizes, start=1):
        for block in range(size):
            yield f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1


def plain_bnew_small(p, x):
    x = max3(p.norm(p.conv(x, "conv1", value=0), "norm1"))
    for at, stride in blocks(6, 6, 6):
        y = p.conv(
            p.rsign(x, f"{at}.residual.branch.activation"), f"{at}.residual.branch.conv", stride
        )
        y = y * p.v[f"{at}.residual.branch.scale.s"][:, None, None]
        y = p.norm(y, f"{at}.residual.branch.norm")
        x = y + (p.pooled(x, f"{at}.residual.shortcut") if stride == 2 else x)
        x = p.rprelu(x, f"{at}.rprelu")
    return p.end(x)


def plain_bireal18(p, x):
    x = p.stem(x)
    for at, stride in blocks(4, 4, 4, 4):
        y = p.branch(x, f"{at}.branch", stride)
        x = y + (p.pooled(x, f"{at}.shortcut") if stride == 2 else x)
    return p.end(x)


def plain_reactnet18(p, x):
    x = p.stem(x)
    for at, stride in blocks(4, 4, 4, 4):
        y = p.branch(x, f"{at}.residual.branch", stride)
        x = y + (p.pooled(x, f"{at}.residual.shortcut") if stride == 2 else x)
        x = p.rprelu(x, f"{at}.rprelu")
    return p.end(x)


def plain_bireal20(p, x):
    x = p.norm(p.conv(x, "conv1", value=0), "norm1").clamp(-1, 1)
    for at, stride in blocks(6, 6, 6):
        y = p.branch(x, f"{at}.residual.branch", stride)
        if stride == 2:
            x = x[:, :, ::2, ::2]
            empty = torch.zeros_like(x[:, ::2])  # half as many channels on either side
            x = torch.cat([empty, x, empty], 1)
        x = (x + y).clamp(-1, 1)
    return p.norm(x.mean((2, 3)), "norm") @ p.v["fc.weight"].T + p.v["fc.bias"]


def plain_reactnet_a(p, x):
    x = p.norm(p.conv(x, "conv1", p.stride, value=0), "norm1")
    for number in range(1, 14):
        at = f"block{number}"
        stride = 2 if number in (2, 4, 6, 12) else 1
        y = p.branch(x, f"{at}.spatial.branch", stride)
        x = p.rprelu(y + (mean2(x) if stride == 2 else x), f"{at}.rprelu1")
        if number in (1, 2, 4, 6, 12):
            a = p.rsign(x, f"{at}.pointwise.activation")
            halves = [f"{at}.pointwise.half{k}" for k in (1, 2)]
            y = torch.cat([p.norm(p.conv(a, f"{h}.conv"), f"{h}.norm") for h in halves], 1)
            x = torch.cat([x, x], 1)
        else:
            y = p.branch(x, f"{at}.pointwise.branch")
        x = p.rprelu(x + y, f"{at}.rprelu2")
    return p.end(x)


def plain_resnet18(p, x):
    x = p.norm(p.conv(x, "conv1", value=0), "norm1").relu()
    for at, stride in blocks(2, 2, 2, 2):
        branch, shortcut = f"{at}.residual.branch", f"{at}.residual.shortcut"
        y = p.norm(p.conv(x, f"{branch}.conv1", stride), f"{branch}.norm1").relu()
        y = p.norm(p.conv(y, f"{branch}.conv2"), f"{branch}.norm2")
        if stride == 2:
            x = p.norm(p.conv(x, f"{shortcut}.conv", 2), f"{shortcut}.norm")
        x = (x + y).relu()
    return x.mean((2, 3)) @ p.v["fc.dense.weight"].T + p.v["fc.bias.b.weight"][:, 0]


def plain_wrn22(p, x):
    x = p.conv(x, "conv1", value=0)
    for at, stride in blocks(3, 3, 3):
        inside = f"{at}.residual.branch" if stride == 2 else f"{at}.branch"
        before = at if stride == 2 else inside
        a = p.norm(x, f"{before}.norm1").relu()
        y = p.norm(p.conv(a, f"{inside}.conv1", stride), f"{inside}.norm2").relu()
        y = p.conv(y, f"{inside}.conv2")
        x = y + (p.conv(a, f"{at}.residual.shortcut", 2) if stride == 2 else x)
    return p.end(p.norm(x, "norm").relu())


def plain_binarydensenet28(p, x):
    if "norm1.weight" in p.v:
        x = max3(p.norm(p.conv(x, "conv1", 2, value=0), "norm1").relu())
    else:
        x = p.conv(x, "conv1", value=0)
    for block, layers in enumerate((6, 6, 6, 5), start=1):
        for layer in range(layers):
            at = f"block{block}.{layer}.branch"
            x = torch.cat([x, p.conv(sign(p.norm(x, f"{at}.norm")), f"{at}.conv")], 1)
        if block < 4:
            at = f"transition{block}"
            x = tiles(p.norm(x, f"{at}.norm"), torch.amax).relu()
            x = p.conv(x, f"{at}.conv")
    return p.end(p.norm(x, "norm").relu())


def scatter(model, generator):
    """Give every value of a network another one, so that no layer is the identity."""
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif name == "norm1.bias":  # so that a pooling after it meets negative maxima
            value.uniform_(-2, -1, generator=generator)
        elif value.ndim > 1:
            value.normal_(std=value[0].numel() ** -0.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(generator=generator)


@pytest.mark.parametrize("pad_value", [0, 1, -1])
@pytest.mark.parametrize(
    ("build", "plain", "options"),
    [
        (bnew_small, plain_bnew_small, {}),
        (resnet18, plain_resnet18, {}),
        (wrn22, plain_wrn22, {}),
        (bireal18, plain_bireal18, {}),
        (bireal18, plain_bireal18, {"stem": "cifar"}),
        (bireal20, plain_bireal20, {}),
        (reactnet_a, plain_reactnet_a, {}),
        (reactnet_a, plain_reactnet_a, {"stem": "cifar"}),
        (reactnet18, plain_reactnet18, {}),
        (reactnet18, plain_reactnet18, {"stem": "cifar"}),
        (binarydensenet28, plain_binarydensenet28, {}),
        (binarydensenet28, plain_binarydensenet28, {"stem": "cifar"}),
    ],
)
def test_values(build, plain, options, pad_value):
    """Every network gives what plain functions of its values give, odd sides included."""
    generator = torch.Generator().manual_seed(1)
    model = build(shape=(3, 22, 36), classes=5, width=2, pad_value=pad_value, **options)
    scatter(model.double().eval(), generator)
    x = torch.randn(3, 3, 22, 36, generator=generator, dtype=torch.float64)
    p = Plain(model, pad_value)
    p.stride = 1 if options else 2

    expected = plain(p, x)

    assert expected.std() > 1e-3
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_stem_stride_of_resnet18():
    """For Tiny ImageNet the first convolution has stride 2: the rest of the work stays."""
    tiny = {"shape": (3, 64, 64), "classes": 10}

    assert counts(resnet18, **CIFAR) == counts(resnet18, **tiny, stem_stride=2)


# Types, beginnings, gradients ---------------------------------------------------------------------


@every
@pytest.mark.parametrize("first", ["binary", "real"])
@pytest.mark.parametrize("last", ["binary", "real"])
def test_real_layers(build, first, last):
    """First and last are as they are asked to be, shortcuts and transitions real, others binary."""
    model = build(**CIFAR, width=2, first=first, last=last)
    layers = weighted(model)
    inner = ("shortcut", "transition") if build is not resnet18 else ()
    ends = {"conv1"} if first == "real" else set()
    ends |= {name for name in layers if name.startswith("fc")} if last == "real" else set()

    assert {name for name, layer in layers.items() if not binary(layer)} == ends | {
        name for name in layers if any(part in name for part in inner)
    }


@pytest.mark.parametrize("build", [resnet18, wrn22])
@pytest.mark.parametrize("shortcut", ["binary", "real"])
def test_shortcuts(build, shortcut):
    """The shortcuts' convolutions, one of 1 x 1 in each stage but the first, are as asked."""
    layers = weighted(build(**CIFAR, width=2, shortcut=shortcut))
    found = [layer for name, layer in layers.items() if ".shortcut" in name]

    assert [(1, 1)] * (3 if build is resnet18 else 2) == [m.kernel_size for m in found]
    assert {shortcut == "binary"} == {binary(layer) for layer in found}


@every
def test_places(build):
    """The first and the last weights are where a network begins and ends, not a binary bias."""
    places = {r["place"]: r["parameter"] for r in roles(build(**CIFAR, width=2)) if r["place"]}
    last = "fc.dense.weight" if build is resnet18 else "fc.weight"

    assert ("conv1.weight", last) == (places["first"], places["last"])


@every
def test_gradients(build):
    """Every value that is learned has a finite gradient; no weight's is 0 all over."""
    torch.manual_seed(0)
    model = build(**CIFAR, width=4)
    outputs = model(torch.randn(8, 3, 32, 32))

    outputs.square().sum().backward()

    assert (8, 10) == outputs.shape
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.ndim < 2 or parameter.grad.abs().max() > 0, name


@every
def test_normalization(build):
    """Norms have torch's momentum and epsilon, or what one asks for; resnet18's learn nothing."""
    for given, expected in (({}, (0.1, 1e-5)), ({"bn_momentum": 0.2, "bn_eps": 1e-3}, (0.2, 1e-3))):
        model = build(**CIFAR, width=2, **given)
        found = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]

        assert {expected} == {(norm.momentum, norm.eps) for norm in found}
        assert {build is not resnet18} == {norm.affine for norm in found}


@every
def test_activations(build):
    """Two families are real, the others of one bit, each with the gradient of its article."""
    model = build(**CIFAR, width=2)
    bits = [m.binarizer for m in model.modules() if isinstance(m, BinaryActivation)]
    kind = SignHardTanh if build is binarydensenet28 else Quadratic

    assert (set() if build in (resnet18, wrn22) else {kind}) == {type(b) for b in bits}
    assert 1 == activation_bits(build(**CIFAR, width=2, activation="ede"))
    assert 32 == activation_bits(build(**CIFAR, width=2, activation="hardtanh"))


def spread(weight):
    """Standard deviation, least and greatest of a weight."""
    return weight.std().item(), weight.min().item(), weight.max().item()


def fans(layer):
    outputs, inputs, *kernel = layer.weight.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def scale(init, layer):
    """The standard deviation that an initialization has."""
    into, out = fans(layer)
    dense = isinstance(layer, nn.Linear)
    return {
        "glorot": math.sqrt(2 / (into + out)),
        "torch": math.sqrt(1 / (3 * into)),
        "he": math.sqrt(2 / into),
        "he-out": math.sqrt(1 / (3 * into) if dense else 2 / out),
        "bireal": 1e-3 / math.sqrt(12) if binary(layer) else math.sqrt(1 / (3 * into)),
    }[init]


@pytest.mark.parametrize(
    ("build", "inits"),
    [
        (bnew_small, ["torch", "glorot"]),
        (resnet18, [None]),
        (wrn22, ["he-out", "glorot"]),
        (bireal18, ["glorot", "bireal"]),
        (bireal20, ["he", "glorot"]),
        (reactnet_a, ["glorot", "bireal"]),
        (reactnet18, ["glorot", "bireal"]),
        (binarydensenet28, [None]),
    ],
)
def test_initialization(build, inits):
    """Weights are drawn as wide as each initialization says; the first is the default."""
    torch.manual_seed(0)
    assert inits[0] is None or inits[0] == signature(build).parameters["init"].default
    for init in inits:
        given = {} if init in (None, inits[0]) else {"init": init}
        model = build(shape=(3, 32, 32), classes=100, width=16, **given)
        for name, layer in weighted(model).items():
            if name == "fc.bias.b":  # a layer of md-bnn's binary biases
                assert spread(layer.weight)[0] == pytest.approx(0.1, rel=0.2)
                continue
            deviation, least, greatest = spread(layer.weight)
            expected = scale(init or "glorot", layer)
            assert deviation == pytest.approx(expected, rel=5 / math.sqrt(layer.weight.numel()))
            if init == "bireal" and binary(layer):
                assert 0 <= least < greatest <= 1e-3
            elif init == "he" or (init == "he-out" and isinstance(layer, nn.Conv2d)):
                assert max(-least, greatest) > 2 * expected  # a normal reaches further
            else:
                assert max(-least, greatest) <= math.sqrt(3) * expected * (1 + 1e-6)


@pytest.mark.parametrize(
    ("build", "init", "zero"),
    [(bnew_small, "glorot", True), (bnew_small, "torch", False), (wrn22, "he-out", True)],
)
def test_bias_of_the_output(build, init, zero):
    """The output's bias begins at 0 with Glorot's and the teacher's initialization."""
    assert zero == (build(**CIFAR, width=2, init=init).fc.bias == 0).all().item()


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 3, 32, 32)])
@pytest.mark.parametrize(("name", "build"), ALL.items(), ids=ALL)
def test_refuses(name, build, shape):
    """What is no image is refused in one line that names the network and the way out."""
    with pytest.raises(UsageError, match=rf"^{name} needs [^\n]+ got [^\n]+; take [^\n]+$"):
        build(shape=shape, classes=10)


@every
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 17), (4, 1, 1)])
def test_accepts(build, shape):
    """Images of any size and number of channels are taken, square or not."""
    model = build(shape=shape, classes=3, width=3).eval()

    assert (2, 3) == model(torch.randn(2, *shape)).shape


@every
@pytest.mark.parametrize(
    "values",
    [
        *({"width": 0}, {"activation": "tanh"}, {"first": "ternary"}, {"pad_value": 2}),
        *({"bn_momentum": 0}, {"bn_eps": 0}, {"init": "zeros"}, {"stem": "mnist"}),
    ],
)
def test_bounds(build, values):
    """Hyperparameters are bounded by their types; those that a family lacks are unknown."""
    with pytest.raises(UsageError):
        validate(build, values, "it", ("shape", "classes"))


@every
def test_defaults(build):
    """The published values are legal values of their own types."""
    values = validate(build, {}, "it", ("shape", "classes"))

    assert values == {
        name: p.default
        for name, p in signature(build).parameters.items()
        if name not in ("shape", "classes")
    }

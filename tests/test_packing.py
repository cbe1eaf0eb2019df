"""What a trained network becomes: signs, scales, thresholds, nodes; and what cannot be packed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnnbench.errors import UsageError
from bnnbench.latents import Latents
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear, binary_layers
from bnnbench.methods import Method, Phase
from bnnbench.packed.description import Description, Preprocessing
from bnnbench.packed.network import PackedNetwork
from bnnbench.packing.choice import check_mode
from bnnbench.packing.folding import folded
from bnnbench.packing.lowering import lowered
from bnnbench.packing.weights import bytes_of, signs_of
from bnnbench.schedules import Scheduled
from bnnbench_plugins.architectures.activations import Bias, RPReLU, RSign
from bnnbench_plugins.architectures.bnew import Scale
from bnnbench_plugins.binarizers import Identity, Sign, SignHardTanh, Stochastic
from bnnbench_plugins.ternary import Ternary

from .packing import Bench, images


def sign():
    return BinaryActivation(SignHardTanh())


def binarized(network, low=-1.0, high=1.0):
    """The network with two values in its binary layers, by coin."""
    for layer in binary_layers(network).values():
        coins = torch.rand_like(layer.weight) < 0.5
        layer.weight.data = torch.where(coins, low, high)
    return network.eval().requires_grad_(False)


def packed(network, shape, classes, *, fold=True, fused=True):
    """The network packed, without a file."""
    draft = lowered(network, shape)
    if fold:
        folded(draft)
    description = Description(
        shape=shape,
        classes=classes,
        nodes=tuple(draft.nodes.values()),
        float32=0,
        preprocessing=Preprocessing(kind="none"),
    )
    return PackedNetwork(description, draft.tensors, fused=fused)


def operations(network):
    return [node.op for node in network.description.nodes]


def norm(kind, channels, generator):
    """A normalization with gammas of both signs, and 0, whose thresholds are well inside."""
    made = kind(channels)
    made.weight.data = torch.randn(channels, generator=generator)
    made.weight.data[::5] = 0
    made.bias.data = torch.randn(channels, generator=generator)
    made.running_mean = 3 * torch.randn(channels, generator=generator)
    made.running_var = 4 * torch.rand(channels, generator=generator) + 0.01
    return made


@pytest.fixture
def random():
    torch.manual_seed(0)
    return torch.Generator().manual_seed(1)


# weights


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-0.3, 0.3), (0.2, 0.9), (-2, -1), (-1, 0)])
def test_two_values_are_signs(low, high, random):
    """shift + scale sign is the weight, for any two values; None stands for 0 and for 1."""
    weight = torch.where(torch.rand(9, 3, 2, 2, generator=random) < 0.5, low, high).float()
    bits, scale, shift = signs_of(weight, "w")
    again = np.where(bits, 1, -1) * (1 if scale is None else scale[:, None])
    again = again + (0 if shift is None else shift[:, None])
    assert np.allclose(again, weight.flatten(1).numpy(), atol=1e-7)
    assert (scale is None, shift is None) == ((low, high) == (-1, 1), low == -high)


def test_filters_of_one_value():
    """A filter of one value has its size for a scale and no shift; of zeros, 0."""
    weight = torch.tensor([[0.5, 0.5], [-0.5, -0.5], [0.0, 0.0], [1.0, -1.0]])
    bits, scale, shift = signs_of(weight, "w")
    assert bits.tolist() == [[True, True], [False, False], [True, True], [True, False]]
    assert scale.tolist() == [0.5, 0.5, 0.0, 1.0]
    assert shift is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([1.0, -1.0, 0.0], "filter 1 of 'conv3' has 3"),
        ([1.0, 2.0, 4.0], "filter 1 of 'conv3' has 3"),
        ([1.0, math.nan, -1.0], "must be finite to be packed, 'conv3' has some that are not"),
        ([1.0, math.inf, -1.0], "must be finite to be packed, 'conv3' has some that are not"),
    ],
)
def test_third_value(row, told):
    """A third value in a filter is refused, with the filter and the layer."""
    with pytest.raises(UsageError, match=told):
        signs_of(torch.tensor([[1.0, -1.0, 1.0], row]), "conv3")


def test_bytes():
    """Weight i of a filter is bit i % 8 of byte i // 8, the lowest bit first."""
    bits = np.random.RandomState(0).rand(5, 19) < 0.5
    rows = bytes_of(bits)
    assert rows.shape == (5, 3)
    for (m, i), bit in np.ndenumerate(bits):
        assert (rows[m, i // 8] >> (i % 8)) & 1 == bit


# thresholds


def between(generator):
    """What may lie between a binary layer and a sign, by name."""
    scale = Scale(40)
    scale.s.data = torch.rand(40, generator=generator) + 0.1
    scale.forward = lambda x: x * scale.s
    bias = Bias(40)
    bias.b.data = torch.randn(40, generator=generator)
    return {
        "norm": [norm(nn.BatchNorm1d, 40, generator)],
        "nothing": [],
        "bias": [bias],
        "norm-hardtanh": [norm(nn.BatchNorm1d, 40, generator), nn.Hardtanh()],
        "relu-norm": [nn.ReLU(), norm(nn.BatchNorm1d, 40, generator)],
        "norm-rsign": [norm(nn.BatchNorm1d, 40, generator), bias],
        "norm-norm": [norm(nn.BatchNorm1d, 40, generator), norm(nn.BatchNorm1d, 40, generator)],
        "dropout": [nn.Dropout(0.5), norm(nn.BatchNorm1d, 40, generator), nn.Identity()],
    }


@pytest.mark.parametrize("name", between(torch.Generator()))
@pytest.mark.parametrize("size", [1.0, 0.3])
def test_threshold_of_all_inputs(name, size, random):
    """One comparison of integers gives the sign of all that torch computes: all 64 inputs."""
    layers = [sign(), BinaryLinear(6, 40, bias=False), *between(random)[name], sign()]
    network = binarized(nn.Sequential(*layers, BinaryLinear(40, 3, bias=False)), -size, size)
    made = packed(network, (6,), 3)
    assert operations(made) == [
        *("sign", "binary_dense", "threshold", "binary_dense"),
        *(["scale"] if size != 1 else []),
    ]
    x = torch.tensor([*itertools.product([-1.0, 1.0], repeat=6)])
    torch.testing.assert_close(made(x), network(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["pool-norm", "norm-pool", "relu-pool-norm"])
@pytest.mark.parametrize("pad", [-1, 0, 1])
def test_threshold_through_pooling(order, pad, random):
    """Pooling before the norm, and after what rises, is done on integers; bit for bit the same."""
    parts = {
        "pool": nn.MaxPool2d(3, stride=2, padding=1),
        "norm": norm(nn.BatchNorm2d, 10, random),
        "relu": nn.ReLU(),
    }
    first = [nn.ConstantPad2d(1, pad)] if pad else []
    conv = BinaryConv2d(5, 10, 3, padding=0 if pad else 1, bias=False)
    middle = [parts[name] for name in order.split("-")]
    layers = [sign(), *first, conv, *middle, sign(), nn.Flatten(), BinaryLinear(90, 4, bias=False)]
    network = binarized(nn.Sequential(*layers))
    made = packed(network, (5, 6, 5), 4)
    x = torch.randn(50, 5, 6, 5, generator=random)
    assert torch.equal(made(x), network(x))
    assert torch.equal(packed(network, (5, 6, 5), 4, fold=False)(x), network(x))
    assert ("threshold" in operations(made)) == (order != "norm-pool")  # gammas of both signs
    assert "pad" not in operations(made)


def test_pooling_after_a_norm_that_rises(random):
    """Where every gamma is positive, the norm before a pooling is folded too."""
    middle = norm(nn.BatchNorm2d, 10, random)
    middle.weight.data = middle.weight.abs() + 0.1
    layers = [sign(), BinaryConv2d(5, 10, 3, bias=False), middle, nn.MaxPool2d(2), sign()]
    end = [nn.Flatten(), BinaryLinear(40, 4, bias=False)]
    network = binarized(nn.Sequential(*layers, *end))
    made = packed(network, (5, 6, 6), 4)
    x = torch.randn(50, 5, 6, 6, generator=random)
    assert "norm" not in operations(made)
    assert torch.equal(made(x), network(x))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.MaxPool2d((2, 3), (3, 1), dilation=(2, 1)),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d((2, 3), (1, 2)),
    ],
    ids=str,
)
def test_windows(pool, random):
    """A pooling looks at what torch's looks at, whatever its settings."""
    layers = [sign(), BinaryConv2d(2, 3, 2, bias=False), pool, nn.Flatten()]
    count = pool(torch.zeros(1, 3, 6, 5)).numel()
    made = packed(binarized(nn.Sequential(*layers)), (2, 7, 6), count)
    x = torch.randn(20, 2, 7, 6, generator=random)
    torch.testing.assert_close(made(x), nn.Sequential(*layers)(x))


def test_what_turns_twice_is_not_folded(random):
    """A sign of what falls and rises stays a sign of real numbers."""
    slope = RPReLU(8)
    slope[0].b.data.fill_(1.0)
    slope[1].weight.data.fill_(-1.0)  # |x + 1| ...
    slope[2].b.data.fill_(-2.0)  # ... - 2
    layers = [sign(), BinaryLinear(6, 8, bias=False), slope, sign(), BinaryLinear(8, 2, bias=False)]
    network = binarized(nn.Sequential(*layers))
    made = packed(network, (6,), 2)
    x = torch.tensor([*itertools.product([-1.0, 1.0], repeat=6)])
    assert "threshold" not in operations(made)
    assert torch.equal(made(x), network(x))


class Twice(nn.Module):
    """sign(norm(y)) and norm(y), y what a binary layer gives: both are needed."""

    def __init__(self, generator):
        super().__init__()
        self.act, self.dense = sign(), BinaryLinear(6, 8, bias=False)
        self.norm, self.act2 = norm(nn.BatchNorm1d, 8, generator), sign()
        self.end, self.beside = BinaryLinear(8, 2, bias=False), nn.Linear(8, 2)

    def forward(self, x):
        z = self.norm(self.dense(self.act(x)))
        return self.end(self.act2(z)) + self.beside(z)


def test_results_that_others_need_stay(random):
    """What two nodes take is folded for neither of them where it lies between."""
    network = binarized(Twice(random))
    made = packed(network, (6,), 2)
    x = torch.randn(40, 6, generator=random)
    assert torch.equal(made(x), network(x))
    assert "norm" in operations(made)


# layers


@pytest.mark.parametrize("low", [-1.0, 0.2])
@pytest.mark.parametrize("pad", [-1, 0, 1])
@pytest.mark.parametrize("of_bits", [True, False])
def test_convolutions(low, pad, of_bits, random):
    """Scales, shifts, biases, strides, dilation and borders: what torch gives, within rounding."""
    conv = BinaryConv2d(
        3, 7, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(0 if pad else (1, 2))
    )
    conv.bias.data = torch.randn(7, generator=random)
    border = [nn.ConstantPad2d((2, 2, 1, 1), pad)] if pad else []
    act = [sign()] if of_bits else []
    network = binarized(nn.Sequential(*act, *border, conv, nn.Flatten(), nn.Linear(196, 2)), low)
    made = packed(network, (3, 7, 5), 2)
    x = torch.randn(20, 3, 7, 5, generator=random)
    torch.testing.assert_close(made(x), network(x), rtol=1e-5, atol=1e-5)
    assert operations(made).count("binary_conv") == (2 if low > 0 else 1)


@pytest.mark.parametrize(
    "border",
    [nn.ConstantPad2d(1, 0.5), nn.ConstantPad2d((1, 0, 1, 1), -1), nn.ConstantPad2d(1, 1)],
    ids=["half", "uneven", "twice"],
)
def test_borders_that_stay(border, random):
    """A border that a convolution of bits cannot have itself is added before it."""
    twice = border.value == 1
    conv = BinaryConv2d(3, 4, 3, padding=1 if twice else 0, bias=False)
    network = binarized(nn.Sequential(sign(), border, conv, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    made = packed(network, (3, 5, 5), 4)
    x = torch.randn(20, 3, 5, 5, generator=random)
    assert operations(made)[:3] == ["sign", "pad", "binary_conv"]
    torch.testing.assert_close(made(x), network(x))


@pytest.mark.parametrize("of_bits", [True, False])
def test_groups(of_bits, random):
    """Grouped convolutions are packed, each filter with the channels of its group."""
    conv = BinaryConv2d(6, 9, 3, groups=3, bias=False)
    network = binarized(nn.Sequential(*([sign()] * of_bits), conv, nn.Flatten()))
    made = packed(network, (6, 4, 4), 36)
    x = torch.randint(-3, 4, (9, 6, 4, 4), generator=random).float()
    assert torch.equal(made(x), network(x))
    shifted = binarized(nn.Sequential(conv, nn.Flatten()), 0.5)
    with pytest.raises(UsageError, match="'0' has groups, and filters whose two values"):
        lowered(shifted, (6, 4, 4))


class Functions(nn.Module):
    """A forward with functions and methods, that asks for shapes."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(2, 4, 3, padding=1), RSign(4), nn.Linear(275, 3)
        self.b = nn.Parameter(torch.randn(4))
        self.binary = BinaryConv2d(4, 4, 1, bias=False)

    def forward(self, x):
        assert x.dim() == len(x.shape) == 4
        y = self.conv(x) + self.b.view(-1, 1, 1)
        y = 2 * (y - 0.5)
        z = self.binary(self.act(y))[:, :, ::2, ::2]
        z = torch.cat(
            [F.relu(F.pad(z, (1, 1, 1, 0, 2, 1))), torch.relu(F.pad(z, (0, 2, 1, 0)))], dim=1
        )
        z = z.contiguous() + torch.zeros(x.shape[2])[0]
        return self.fc(z.view(x.size(0), -1))


class Named(nn.ModuleDict):
    """Modules of odd names, one after the other."""

    def forward(self, x):
        return self["in-put"](self["a b"](self["a-b"](x)))


def test_odd_names(random):
    """Modules of any name and depth are packed; their nodes have plain names, one each."""
    layers = {"a-b": BinaryLinear(4, 4, bias=False), "a b": nn.ReLU(), "in-put": nn.ReLU()}
    network = binarized(nn.Sequential(Named(layers)))
    network.add_module("x" * 300, nn.Linear(4, 2))
    made = packed(network, (4,), 2)
    x = torch.randint(-5, 5, (9, 4), generator=random).float()
    assert torch.equal(made(x), network(x))
    assert [node.name for node in made.description.nodes] == [
        *("0.a_b", "0.a_b_2", "0.in_put"),
        "x" * 180,
    ]
    with pytest.raises(UsageError, match=r"inputs of \(1, 2, 3, 4\) cannot be packed"):
        lowered(network, (1, 2, 3, 4))


def test_functions(random):
    """Functions and methods of a forward are nodes as layers are; shapes are known to it."""
    network = binarized(Functions())
    made = packed(network, (2, 8, 6), 3)
    x = torch.randn(20, 2, 8, 6, generator=random)
    torch.testing.assert_close(made(x), network(x), rtol=1e-5, atol=1e-5)
    assert {"subsample", "concat", "pad", "relu", "bias", "scale"} <= {*operations(made)}


def test_learned_activation(random):
    """An activation that is a module of known steps is packed as those steps."""
    learned = RSign(5)
    learned[0].b.data = torch.randn(5, generator=random)
    layers = [nn.Linear(4, 5), BinaryActivation(learned), BinaryLinear(5, 3, bias=False)]
    network = binarized(nn.Sequential(*layers))
    made = packed(network, (4,), 3)
    x = torch.randn(30, 4, generator=random)
    assert operations(made) == ["dense", "bias", "sign", "binary_dense"]
    assert torch.equal(made(x), network(x))


class Odd(nn.ReLU):
    """A subclass that does something else."""

    def forward(self, x):
        return -x


class Values(nn.Module):
    """A forward that decides by its numbers."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Pair(nn.Module):
    """A forward that gives two tensors."""

    def forward(self, x):
        return x, x


class Half:
    """An activation that is no sign: 0 or 1."""

    def forward(self, x):
        return (x >= 0).float()

    def backward(self, x, grad):
        return grad

    def inference_modes(self):
        return {}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, x):
        y, _ = self.attention(x, x, x)
        return y


class Call(nn.Module):
    """A forward that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Strict(Half):
    """A sign whose 0 is -1."""

    def forward(self, x):
        return torch.where(x > 0, 1.0, -1.0)


REFUSED = {
    "attention": (
        Attention(),
        "'1.attention' is a MultiheadAttention; docs/packed-format.md",
    ),
    "softmax": (nn.Softmax(1), "'1' is a Softmax; docs/packed-format.md"),
    "subclass": (Odd(), "'1' is a Odd|'neg' calls"),
    "values": (
        Values(),
        "that of Sequential cannot be followed",
    ),
    "instance norm": (nn.BatchNorm1d(4, track_running_stats=False), "'1' normalizes each batch"),
    "activation": (BinaryActivation(Half()), "'1' is an activation by Half, which is not the sign"),
    "sign of 0": (BinaryActivation(Strict()), "is an activation by Strict, which is not the sign"),
    "rows": (Call(lambda x: torch.cat([x, x])), "'cat' puts together more than the channels"),
    "product": (Call(lambda x: x * x), "'mul' multiplies two results that depend on the inputs"),
    "matrix": (Call(lambda x: x + torch.ones(3, 4)), "has a constant of shape .3, 4., not one a"),
    "slice": (Call(lambda x: x[:, 1:]), "'getitem' takes a part of a result that is not every"),
    "view": (Call(lambda x: x.view(-1, 2, 2)), r"'view' makes \(2, 2\) of \(4,\)"),
    "difference": (Call(lambda x: 1 - x), "'sub' subtracts what depends on the inputs"),
    "reflection": (Call(lambda x: F.pad(x, (1, 1), "reflect")), "pads otherwise than with a const"),
    "pair": (Pair(), "only a network that gives one tensor can be packed, this one gives tuple"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """A layer that a packed network does not know is named, in one line."""
    layer, told = REFUSED[name]
    network = binarized(nn.Sequential(BinaryLinear(4, 4), layer))
    with pytest.raises(UsageError, match=told) as caught:
        lowered(network, (4,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (nn.Conv2d(1, 1, 3, padding="same"), "is padded by 'same'"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "with 'reflect'"),
        (nn.AvgPool2d(2, divisor_override=3), "divides by a number of its own"),
        (nn.AdaptiveAvgPool2d(2), "pools to 2, not to one pixel"),
        (nn.MaxPool2d(2, return_indices=True), "returns indices"),
        (nn.Flatten(2), "flattens some dimensions only"),
        (nn.ConstantPad2d(-1, 0), "has a negative padding"),
    ],
)
def test_refused_settings(layer, told):
    """So is a layer that is known, but for one of its settings."""
    with pytest.raises(UsageError, match=told):
        lowered(nn.Sequential(layer), (1, 6, 6))


FIXED = {"bc-vgg": 32, "bc-vgg-svhn": 32, "bop-binarynet": 32, "unet": 16}


@pytest.mark.parametrize("name", FIXED)
def test_other_architectures(name):
    """The architectures whose width is published, or that answer for each pixel, are known too."""
    bench = Bench(images(8))
    given = {"width": 2, "depth": 2, "activation": "sign"} if name == "unet" else {}
    make = bench.factory("architectures", name)
    network = make(shape=(3, FIXED[name], FIXED[name]), classes=10, **given)
    draft = lowered(binarized(network), (3, FIXED[name], FIXED[name]))
    assert len(draft.layers) == len(binary_layers(network))


# modes


def latents():
    return Latents(nn.Sequential(BinaryLinear(9, 4), BinaryLinear(4, 3)), torch.randn_like)


def method(binarizer, judged):
    nothing = Scheduled(Identity)
    return Method("m", (Phase(Scheduled(binarizer), nothing, nothing),), judged=judged)


@pytest.mark.parametrize(
    ("binarizer", "judged", "bits"), [(Ternary, "ternary", "2 bits"), (Identity, "real", "real")]
)
def test_modes_that_are_not_binary(binarizer, judged, bits):
    """What is trained with more than two values a filter is refused by method and layer."""
    with pytest.raises(UsageError, match=f"m is judged by '{judged}' and trains .* '0' .{bits}"):
        check_mode(method(binarizer, judged), "m", latents())


@pytest.mark.parametrize(
    ("binarizer", "judged"), [(Sign, "binary"), (Stochastic, "real"), (Ternary, "binary")]
)
def test_modes_that_are(binarizer, judged):
    """What is judged by its binary mode, or trained with two values a filter, is packed."""
    check_mode(method(binarizer, judged), "m", latents())


def test_nothing_binary():
    """A network without a binary layer has nothing to be packed."""
    with pytest.raises(UsageError, match="a network without a binary layer"):
        check_mode(method(Sign, "binary"), "m", Latents(nn.Linear(2, 2)))

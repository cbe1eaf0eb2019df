"""The networks: what is in them, in which order, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, activation_bits, binary_layers, real_parameters
from bnnbench.schedules import Progress
from bnnbench.spaces import validate
from bnnbench_plugins.architectures.activations import RPReLU, RSign, activation_layer
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.architectures.weights import conv_layer, convolution, dense_layer

SMALL = {"shape": (1, 8, 8), "classes": 3}
REAL = ["relu", "hardtanh", "rprelu"]
ONE_BIT = ["sign", "quadratic", "swish", "ede", "reste", "rsign"]


def order(model):
    return list(dict(model.named_children()))


def multipliers(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_order_of_mlp():
    """Dense, norm, activation, dropout; the output has a norm too; names say which is which."""
    model = mlp(**SMALL, depth=2, width=4, dropout=0.5, input_dropout=0.2)

    assert order(model) == [
        *("flatten", "dropout0"),
        *("dense1", "norm1", "relu1", "dropout1"),
        *("dense2", "norm2", "relu2", "dropout2"),
        *("dense3", "norm3"),
    ]
    assert [0.2, 0.5] == [model.dropout0.p, model.dropout2.p]


def test_no_dropout_layer_without_dropout():
    """A network without dropout has no dropout layers."""
    kinds = {type(m) for build in (mlp, binarynet) for m in build(**SMALL).modules()}

    assert nn.Dropout not in kinds


def test_order_of_binarynet():
    """Convolution, pooling, norm, activation: pooling comes before the sign."""
    model = binarynet(**SMALL, width=2, dense=4, activation="sign")

    assert order(model) == [
        *("conv1", "norm1", "sign1", "conv2", "pool2", "norm2", "sign2"),
        *("conv3", "norm3", "sign3", "conv4", "pool4", "norm4", "sign4"),
        *("conv5", "norm5", "sign5", "conv6", "pool6", "norm6", "sign6"),
        *("flatten", "dense7", "norm7", "sign7", "dense8", "norm8", "sign8", "dense9", "norm9"),
    ]


@pytest.mark.parametrize("build", [mlp, binarynet])
@pytest.mark.parametrize("activation", [*REAL, *ONE_BIT])
def test_outputs(build, activation):
    """Inputs (batch, *shape) become outputs (batch, classes), and every weight has a gradient."""
    model = build(**SMALL, width=4, activation=activation, dropout=0.1)
    outputs = model(torch.randn(5, 1, 8, 8))

    outputs.square().sum().backward()

    assert outputs.shape == (5, 3)
    assert all(p.grad is not None for p in model.parameters())
    assert (1 if activation in ONE_BIT else 32) == activation_bits(model)


@pytest.mark.parametrize(("build", "layers"), [(mlp, 4), (binarynet, 9)])
@pytest.mark.parametrize("first", ["binary", "real"])
@pytest.mark.parametrize("last", ["binary", "real"])
def test_real_ends(build, layers, first, last):
    """The first and the last layer may be real, each by itself; no layer has a bias."""
    model = build(**SMALL, width=4, first=first, last=last)
    names = [name for name in order(model) if name.startswith(("conv", "dense"))]
    binary = {*names[1:-1]}
    binary |= {names[0]} if first == "binary" else set()
    binary |= {names[-1]} if last == "binary" else set()

    assert layers == len(names)
    assert binary == set(binary_layers(model))
    assert all(getattr(model, name).bias is None for name in names)
    assert {f"{name}.weight" for name in {*names} - binary} == {
        name for name in real_parameters(model) if not name.startswith("norm")
    }


def test_one_hidden_layer():
    """The least depth is one hidden layer, with a real input and a binary output if so asked."""
    model = mlp(**SMALL, depth=1, width=4, first="real")

    assert ["dense2"] == list(binary_layers(model))


@pytest.mark.parametrize(("pad_value", "seen"), [(0, {-1, 0, 1}), (1, {-1, 1}), (-1, {-1, 1})])
def test_rings_of_binary_activations(pad_value, seen):
    """Zeros around binary activations are a third value, for which one bit is too little."""
    model = binarynet(
        **{**SMALL, "shape": (3, 32, 32)}, width=8, activation="sign", pad_value=pad_value
    )
    values = {}

    def look(name):
        def keep(layer, inputs):
            edge = layer.padding[0]
            padded = nn.functional.pad(inputs[0], (edge,) * 4)
            values[name] = set(padded.unique().tolist())

        return keep

    for n in range(2, 7):
        model.get_submodule(f"conv{n}").register_forward_pre_hook(look(n))
    outputs = model(torch.randn(4, 3, 32, 32))

    assert (4, 3) == outputs.shape
    assert [seen] * 5 == list(values.values())


@pytest.mark.parametrize("build", [mlp, binarynet])
@pytest.mark.parametrize("scale", [0.05, 2.0])
def test_draws(build, scale):
    """Every weight, real or binary, is drawn from the distribution that is asked for."""
    laws = {"uniform": (-scale, 2 * scale), "norm": (0, scale)}

    for init, law in (("uniform", "uniform"), ("normal", "norm")):
        torch.manual_seed(1)
        model = build(**SMALL, width=32, first="real", init=init, init_scale=scale)
        for layer in multipliers(model):
            drawn = layer.weight.detach().flatten().numpy()
            assert kstest(drawn, law, laws[law]).pvalue > 1e-3


@pytest.mark.parametrize("build", [mlp, binarynet])
def test_scale_of_glorot(build):
    """It multiplies what Glorot's uniform gives, weight by weight."""
    found = []
    for given in ({}, {"init_scale": 3.0}):
        torch.manual_seed(0)
        found.append([layer.weight for layer in multipliers(build(**SMALL, width=4, **given))])

    assert all(b.equal(3 * a) for a, b in zip(*found, strict=True))


def test_default_draws_nothing_else():
    """One draw a layer, in order: the weights of a seed are those of its dense layers alone."""
    torch.manual_seed(0)
    weights = [layer.weight for layer in multipliers(mlp(**SMALL, depth=2, width=5))]
    after = torch.rand(3)

    torch.manual_seed(0)
    wanted = [dense_layer(*sizes).weight for sizes in ((64, 5), (5, 5), (5, 3))]
    assert all(a.equal(b) for a, b in zip(weights, wanted, strict=True))
    assert after.equal(torch.rand(3))


@pytest.mark.parametrize("build", [mlp, binarynet])
def test_glorot(build):
    """Weights are drawn from Glorot's uniform; both fans count the area of the kernel."""
    for layer in binary_layers(build(**SMALL, width=64)).values():
        outputs, inputs, *kernel = layer.weight.shape
        bound = math.sqrt(6 / (math.prod(kernel) * (inputs + outputs)))
        furthest = layer.weight.abs().max().item()

        assert furthest <= bound * (1 + 1e-6)
        assert furthest >= 0.9 * bound


@pytest.mark.parametrize("weights", ["binary", "real"])
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "bias"), [(3, 1, 1, False), (5, 2, 2, True), (1, 2, 0, False)]
)
def test_conv_layer(weights, pad_value, kernel, stride, padding, bias):
    """It is a convolution whose inputs are padded with the given value."""
    layer = conv_layer(
        *(2, 4, kernel, weights), stride=stride, padding=padding, pad_value=pad_value, bias=bias
    )
    (conv,) = (m for m in layer.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(3, 2, 7, 6)
    padded = nn.functional.pad(x, (padding,) * 4, value=pad_value)

    y = layer(x)

    torch.testing.assert_close(y, nn.functional.conv2d(padded, conv.weight, conv.bias, stride))
    assert (weights == "binary") == bool(binary_layers(layer))
    assert (conv is layer) == (pad_value == 0 or padding == 0)
    assert conv.bias.eq(0).all() if bias else conv.bias is None
    assert conv.weight.abs().max() <= math.sqrt(6 / (kernel**2 * (2 + 4)))


def test_numbered_convolution():
    """Padding has a name of its own; that of the network's inputs is always zeros."""
    given = {"padding": 2, "pad_value": -1}
    layers = dict(convolution(7, 2, 4, 5, **given, bias=True))

    assert ["padding7", "conv7"] == list(layers)
    assert ((2, 2, 2, 2), -1) == (layers["padding7"].padding, layers["padding7"].value)
    assert (0, 0) == layers["conv7"].padding
    assert layers["conv7"].bias.eq(0).all()
    assert (2, 2) == dict(convolution(1, 2, 4, 5, **given))["conv1"].padding
    assert ["conv1"] == list(dict(convolution(1, 2, 4, 5, **given)))


@pytest.mark.parametrize("weights", ["binary", "real"])
def test_bias_of_dense_layer(weights):
    """A bias is real and 0 at first."""
    layer = dense_layer(3, 4, weights, bias=True)

    assert [0] * 4 == layer.bias.tolist()
    assert "bias" in real_parameters(layer)


@pytest.mark.parametrize(("build", "momentum"), [(mlp, 0.15), (binarynet, 0.1)])
def test_normalization(build, momentum):
    """The norms have the published momentum and epsilon, or what one asks for."""
    for given, expected in (({}, (momentum, 1e-4)), ({"bn_momentum": 0.01, "bn_eps": 1e-3},) * 2):
        norms = [m for m in build(**SMALL, **given).modules() if hasattr(m, "running_mean")]
        wanted = tuple(expected.values()) if isinstance(expected, dict) else expected

        assert {wanted} == {(norm.momentum, norm.eps) for norm in norms}


@pytest.mark.parametrize(
    ("shape", "padding"),
    [((784,), "same"), ((28, 28), "same"), ((1, 7, 9), "same"), ((3, 9, 32), "valid-first")],
)
def test_binarynet_refuses(shape, padding):
    """What is no image, or too small to be halved three times, is refused in one line."""
    with pytest.raises(UsageError, match=r"binarynet needs [^\n]+ got [^\n]+; take [^\n]+$"):
        binarynet(shape=shape, classes=10, padding=padding)


@pytest.mark.parametrize(
    ("shape", "padding"), [((1, 8, 8), "same"), ((1, 10, 10), "valid-first"), ((2, 9, 17), "same")]
)
def test_binarynet_accepts(shape, padding):
    """The smallest image works, and so does one that is not square."""
    model = binarynet(shape=shape, classes=10, width=2, dense=4, padding=padding)

    assert model(torch.randn(2, *shape)).shape == (2, 10)


def test_activations():
    """ "sign" is of one bit with the gradient of hard tanh; the others are torch's own."""
    x = torch.tensor([-2.0, -0.5, 0.0, 2.0], requires_grad=True)
    layer = activation_layer("sign", 4)
    y = layer(x)
    y.sum().backward()

    assert isinstance(layer, BinaryActivation)
    assert [-1, -1, 1, 1] == y.tolist()
    assert [0, 1, 1, 0] == x.grad.tolist()
    assert isinstance(activation_layer("relu", 4), nn.ReLU)
    assert isinstance(activation_layer("hardtanh", 4), nn.Hardtanh)


@pytest.mark.parametrize("name", ONE_BIT)
def test_one_bit(name):
    """Activations of one bit have two values, +1 for 0, whatever stands for their gradient."""
    y = activation_layer(name, 3)(torch.tensor([[-2.0, 0.0, 0.5], [-0.1, 2.0, -0.0]]))

    assert [[-1, 1, 1], [-1, 1, 1]] == y.tolist()


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("quadratic", (2, 1, 0), (2, 1, 0)),
        ("swish", (5, 5 * (1 - 1.25 * math.tanh(1.25)) / math.cosh(1.25) ** 2, None), None),
        ("rsign", (2, 1, 0), (2, 1, 0)),
        ("ede", (1, 1 - math.tanh(0.05) ** 2, 1 - math.tanh(0.1) ** 2), (10, None, 0)),
        ("reste", (1, 1, 1), (0.1 ** (1 / 3) / 0.1, 0.5 ** (-2 / 3) / 3, 1 / 3)),
    ],
)
def test_gradients_of_activations(name, early, late):
    """The gradients at 0, 1/2 and 1 at the beginning and at the end; two of them are scheduled."""
    layer = activation_layer(name, 3)
    one_bit = next(m for m in layer.modules() if isinstance(m, BinaryActivation))
    assert (one_bit.scheduled is not None) == (name in ("ede", "reste"))
    for at, expected in ((Progress(0, 400, 0, 400), early), (Progress(0, 1, 10**9, 10**9), late)):
        one_bit.follow(at)
        x = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64, requires_grad=True)
        layer.double()(x).sum().backward()
        for slope, value in zip(x.grad[0].tolist(), expected or (), strict=False):
            assert value is None or slope == pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 2)])
def test_rsign(shape):
    """The learned bias of a channel is added before the sign, and is given the gradient there."""
    layer, x = RSign(3), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (b,) = layer.parameters()
    assert [0, 0, 0] == b.tolist()
    with torch.no_grad():
        b.copy_(torch.tensor([0.5, 0.0, -0.5]))

    y = layer(x)
    y.sum().backward()

    shifted = torch.stack([x[:, 0] + 0.5, x[:, 1], x[:, 2] - 0.5], dim=1)
    assert y.equal(torch.where(shifted >= 0, 1.0, -1.0))
    slopes = (2 - 2 * shifted.abs()).clamp_min(0)
    torch.testing.assert_close(b.grad, slopes.transpose(0, 1).flatten(1).sum(1))


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 2)])
def test_rprelu(shape):
    """A bias, a slope below 0 and a bias, all learned for each channel; real-valued."""
    layer, x = RPReLU(3), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before, slope, after = layer.parameters()
    assert [[0] * 3, [0.25] * 3, [0] * 3] == [p.tolist() for p in (before, slope, after)]
    with torch.no_grad():
        for p, values in ((before, [0.5, 0, -0.5]), (slope, [0.1, 0.2, 0.3]), (after, [1, 2, 3])):
            p.copy_(torch.tensor(values))

    y = layer(x)

    for channel in range(3):
        shifted = x[:, channel] + (0.5, 0, -0.5)[channel]
        bent = torch.where(shifted > 0, shifted, (0.1, 0.2, 0.3)[channel] * shifted)
        torch.testing.assert_close(y[:, channel], bent + channel + 1)


@pytest.mark.parametrize(
    ("build", "given", "sizes"),
    [
        (mlp, {"depth": 2, "width": 4}, [4, 4]),
        (binarynet, {"width": 4, "dense": 6}, [4, 4, 8, 8, 16, 16, 6, 6]),
    ],
)
@pytest.mark.parametrize(
    ("activation", "names"), [("rsign", ["0.b"]), ("rprelu", ["0.b", "1.weight", "2.b"])]
)
def test_learned_activations(build, given, sizes, activation, names):
    """Each channel of each hidden layer has its own; none is among the binary weights."""
    model = build(**SMALL, **given, activation=activation)
    learned = {name: p.numel() for name, p in real_parameters(model).items() if activation in name}

    assert learned == {
        f"{activation}{number}.{name}": size
        for number, size in enumerate(sizes, start=1)
        for name in names
    }
    assert set(binary_layers(build(**SMALL, **given))) == set(binary_layers(model))


@pytest.mark.parametrize(
    "values",
    [
        *({"depth": 0}, {"width": 0}, {"dropout": 1.0}, {"activation": "tanh"}),
        *({"first": "ternary"}, {"init": "zeros"}, {"init_scale": 0.0}),
    ],
)
def test_bounds(values):
    """Hyperparameters are bounded by their types."""
    with pytest.raises(UsageError):
        validate(mlp, values, "mlp", ("shape", "classes"))

"""The networks: what is in them, in which order, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, activation_bits, binary_layers, real_parameters
from bnnbench.spaces import validate
from bnnbench_plugins.architectures.activations import activation_layer
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp

SMALL = {"shape": (1, 8, 8), "classes": 3}


def order(model):
    return list(dict(model.named_children()))


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
@pytest.mark.parametrize("activation", ["relu", "hardtanh", "sign"])
def test_outputs(build, activation):
    """Inputs (batch, *shape) become outputs (batch, classes), and every weight has a gradient."""
    model = build(**SMALL, width=4, activation=activation, dropout=0.1)
    outputs = model(torch.randn(5, 1, 8, 8))

    outputs.square().sum().backward()

    assert outputs.shape == (5, 3)
    assert all(p.grad is not None for p in model.parameters())
    assert (1 if activation == "sign" else 32) == activation_bits(model)


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


@pytest.mark.parametrize("build", [mlp, binarynet])
def test_glorot(build):
    """Weights are drawn from Glorot's uniform; both fans count the area of the kernel."""
    for layer in binary_layers(build(**SMALL, width=64)).values():
        outputs, inputs, *kernel = layer.weight.shape
        bound = math.sqrt(6 / (math.prod(kernel) * (inputs + outputs)))
        furthest = layer.weight.abs().max().item()

        assert furthest <= bound * (1 + 1e-6)
        assert furthest >= 0.9 * bound


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
    layer = activation_layer("sign")
    y = layer(x)
    y.sum().backward()

    assert isinstance(layer, BinaryActivation)
    assert [-1, -1, 1, 1] == y.tolist()
    assert [0, 1, 1, 0] == x.grad.tolist()
    assert isinstance(activation_layer("relu"), nn.ReLU)
    assert isinstance(activation_layer("hardtanh"), nn.Hardtanh)


@pytest.mark.parametrize(
    "values",
    [{"depth": 0}, {"width": 0}, {"dropout": 1.0}, {"activation": "tanh"}, {"first": "ternary"}],
)
def test_bounds(values):
    """Hyperparameters are bounded by their types."""
    with pytest.raises(UsageError):
        validate(mlp, values, "mlp", ("shape", "classes"))

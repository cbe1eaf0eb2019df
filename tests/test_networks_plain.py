"""The plain networks, layer by layer: their order, what each layer sees, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnnbench.errors import UsageError
from bnnbench.latents import Latents
from bnnbench.layers import activation_bits, binary_layers, real_parameters
from bnnbench.spaces import validate
from bnnbench_plugins.architectures.binarynet import bc_vgg, bc_vgg_svhn, binarynet, bop_binarynet
from bnnbench_plugins.architectures.nin import nin
from bnnbench_plugins.architectures.unet import unet
from bnnbench_plugins.architectures.vgg import BinaryBias, vgg16, vgg_small

CIFAR = (3, 32, 32)
BINARYNETS = {"bc-vgg": bc_vgg, "bc-vgg-svhn": bc_vgg_svhn, "bop-binarynet": bop_binarynet}
SMALL = {  # each network as small as its claims allow, and its input
    "bop-binarynet": (lambda **g: binarynet(**g, width=4, dense=8, bn_scale=False), (3, 8, 16)),
    "vgg-small": (lambda **g: vgg_small(**g, width=4), (3, 8, 16)),
    "vgg16": (lambda **g: vgg16(**g, width=4, dense=8), (3, 32, 32)),
    "nin": (lambda **g: nin(**g, width=12), (3, 9, 12)),
    "unet": (lambda **g: unet(**g, width=4, depth=2), (3, 8, 12)),
}


def small(name, **given):
    """One of the small networks, from a fixed seed, and a batch for it."""
    build, shape = SMALL[name]
    torch.manual_seed(1)
    return build(shape=shape, classes=3, **given), torch.randn(8, *shape)


def order(model):
    return list(dict(model.named_children()))


def multipliers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def seen(model, x):
    """What each convolution and dense layer is given, before any padding, and what it returns."""
    found, padded = {}, {}

    def keep_padded(module, inputs, output):
        padded["inputs"] = inputs[0]

    def keep(name):
        def hook(module, inputs, output):
            found[name] = (padded.pop("inputs", inputs[0]), output)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.ConstantPad2d):
            module.register_forward_hook(keep_padded)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(keep(name))
    model(x)
    return found


@pytest.mark.parametrize("name", BINARYNETS)
@pytest.mark.parametrize(("end", "layer"), [("first", "conv1"), ("last", "dense9")])
def test_choices_of_named_binarynets(name, end, layer):
    """What may be chosen reaches the network: activation, dropout, either end, padding."""
    chosen = {"activation": "quadratic", "dropout": 0.25, "pad_value": -1, end: "real"}
    with torch.device("meta"):
        model = BINARYNETS[name](shape=CIFAR, classes=10, **chosen)

    assert [0.25] * 8 == [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert 8 == sum(n.startswith("quadratic") for n in order(model))
    assert {layer} == {*multipliers(model)} - {*binary_layers(model)}
    padding = [m for n, m in model.named_children() if n.startswith("padding")]
    assert [-1] * 5 == [m.value for m in padding]


@pytest.mark.parametrize("name", BINARYNETS)
def test_draws_of_named_binarynets(name):
    """What the weights are drawn from may be chosen: all reach nearly to the ends, none beyond."""
    model = BINARYNETS[name](shape=(3, 10, 10), classes=10, init="uniform", init_scale=0.25)

    largest = [layer.weight.abs().max().item() for layer in multipliers(model).values()]
    assert all(0.24 < value <= 0.25 for value in largest)


@pytest.mark.parametrize("name", SMALL)
def test_settings_of_normalization(name):
    """Momentum and epsilon reach every normalization."""
    model, _ = small(name, bn_momentum=0.3, bn_eps=0.02)
    norms = [m for m in model.modules() if hasattr(m, "running_mean")]

    assert {(0.3, 0.02)} == {(norm.momentum, norm.eps) for norm in norms}


def test_normalization_without_scale():
    """It divides by the deviation and adds beta; a new batch counts for one in a hundred."""
    with torch.device("meta"):
        published = bop_binarynet(shape=CIFAR, classes=10)
    norm = published.norm2.to_empty(device="cpu")
    norm.reset_running_stats()
    nn.init.normal_(norm.bias)
    x = 3 * torch.randn(4, 128, 5, 5) + 1

    y = norm(x)

    beta, mean = norm.bias.view(-1, 1, 1), x.mean((0, 2, 3), keepdim=True)
    variance = x.var((0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(y, (x - mean) / (variance + 1e-3).sqrt() + beta)
    torch.testing.assert_close(norm.running_mean, 0.01 * mean.flatten())
    assert ["bias"] == [name for name, _ in norm.named_parameters()]
    norms = {f"norm{n}.bias" for n in range(1, 10)}
    assert norms == set(real_parameters(published))


def test_order_of_bop_binarynet():
    """As binarynet's, with signs; of the convolutions only the first has no border to see."""
    with torch.device("meta"):
        model = bop_binarynet(shape=CIFAR, classes=10)

    assert ["conv1", "norm1", "sign1", "conv2", "pool2", "norm2", "sign2"] == order(model)[:7]
    assert ["dense9", "norm9"] == order(model)[-2:]
    paddings = [m.padding for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(0, 0)] + [(1, 1)] * 5 == paddings


def test_order_of_nin():
    """Norm, sign, dropout, convolution, relu, pooling; a relu even after the output."""
    model, _ = small("nin")

    assert order(model) == [
        *("conv1", "norm1", "rectifier1"),
        *("norm2", "sign2", "conv2", "rectifier2", "norm3", "sign3", "conv3", "rectifier3"),
        *("pool3", "norm4", "sign4", "dropout4", "conv4", "rectifier4"),
        *("norm5", "sign5", "conv5", "rectifier5", "norm6", "sign6", "conv6", "rectifier6"),
        *("pool6", "norm7", "sign7", "dropout7", "conv7", "rectifier7"),
        *("norm8", "sign8", "conv8", "rectifier8"),
        *("norm9", "conv9", "rectifier9", "pool9", "flatten"),
    ]
    assert [nn.MaxPool2d, nn.AvgPool2d] == [type(model.pool3), type(model.pool6)]
    assert [0.5, 0.5] == [model.dropout4.p, model.dropout7.p]
    affine = {n for n, m in model.named_children() if n.startswith("norm") and m.affine}
    assert {f"norm{n}" for n in range(2, 9)} == affine


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("activation", ["relu", "sign", "rsign", "rprelu"])
def test_outputs(name, activation):
    """Every weight and every bias takes part in the loss; a pixel has outputs of its own."""
    model, x = small(name, activation=activation)
    y = model(x)

    y.square().sum().backward()

    assert ((8, 3, 8, 12) if name == "unet" else (8, 3)) == y.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(m.weight.grad.any() for n, m in multipliers(model).items() if "bias" not in n)
    assert (1 if "sign" in activation else 32) == activation_bits(model)
    Latents(model).pull_back(lambda latent, grad: grad)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("first", ["binary", "real"])
@pytest.mark.parametrize("last", ["binary", "real"])
def test_ends(name, first, last):
    """The first and the last layer are binary or real, each by itself; all others are binary."""
    model, _ = small(name, first=first, last=last)
    names = [n for n in multipliers(model) if "bias" not in n]
    real = {names[0]} if first == "real" else set()
    real |= {names[-1]} if last == "real" else set()
    binary = {n for n in binary_layers(model) if "bias" not in n}

    assert {*names} - real == binary
    assert {f"{n}.weight" for n in real} <= set(real_parameters(model))


@pytest.mark.parametrize(
    ("name", "real"), [("vgg-small", 2), ("vgg16", 0), ("nin", 2), ("unet", 2)]
)
def test_published_ends(name, real):
    """The first and the last weights are real, except in vgg16."""
    model, _ = small(name)
    names = [n for n in multipliers(model) if "bias" not in n]

    assert real == len(names) - len([n for n in names if n in binary_layers(model)])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_rings(name, pad_value):
    """Hidden convolutions keep the size: what is around their inputs is pad_value, 0 at first."""
    model, x = small(name, activation="sign", pad_value=pad_value)
    modules = multipliers(model)
    calls = {n: call for n, call in seen(model, x).items() if isinstance(modules[n], nn.Conv2d)}

    for number, (n, (inputs, outputs)) in enumerate(calls.items()):
        conv, edge = modules[n], modules[n].kernel_size[0] // 2
        padded = F.pad(inputs, (edge,) * 4, value=0 if number == 0 else pad_value)
        torch.testing.assert_close(outputs, F.conv2d(padded, conv.weight, conv.bias))


@pytest.mark.parametrize("name", SMALL)
def test_hidden_layers_see_signs(name):
    """With one-bit activations all layers but the first see -1 and +1, where nothing is dropped.

    The outputs of vgg-small and nin see real numbers, those of vgg-small from -1 to 1.
    """
    model, x = small(name, activation="sign", **({"dropout": 0.0} if name == "nin" else {}))
    hidden = {n: call[0] for n, call in list(seen(model, x).items())[1:] if "bias" not in n}
    if name in ("vgg-small", "nin"):
        _, values = hidden.popitem()
        assert not (values.abs() == 1).all()
        assert (values.abs().max() <= 1) == (name == "vgg-small")

    assert all({-1, 1} == set(inputs.unique().tolist()) for inputs in hidden.values())


def assert_deviation(tensor, expected):
    assert tensor.std(correction=0).item() == pytest.approx(expected, rel=0.15)
    assert tensor.mean().item() == pytest.approx(0, abs=0.15 * expected)


def test_initial_weights():
    """Each network draws its weights as its published code does, and real biases are 0."""
    torch.manual_seed(0)
    given = {"shape": (3, 32, 32), "classes": 100}
    for n, m in multipliers(vgg_small(**given, width=16)).items():
        assert_deviation(m.weight, 0.01 if n == "dense7" else math.sqrt(2 / (9 * len(m.weight))))
    for m in multipliers(nin(**given, width=48)).values():
        assert_deviation(m.weight, 0.05)
    for m in multipliers(unet(**given, width=16, depth=1)).values():
        assert_deviation(m.weight, math.sqrt(2 / m.weight[0].numel()))
    for n, m in multipliers(vgg16(**given, width=16, dense=32)).items():
        outputs, inputs, *kernel = m.weight.shape
        glorot = math.sqrt(2 / (math.prod(kernel) * (inputs + outputs)))
        if "bias" not in n:
            assert_deviation(m.weight, glorot)
            assert m.weight.abs().max() <= glorot * math.sqrt(3) * (1 + 1e-6)
    assert_deviation(BinaryBias(2000).b.weight, 0.1)
    for build in (vgg_small, nin, unet):
        model = build(**given, width=2)
        biases = [m.bias for m in multipliers(model).values() if m.bias is not None]
        assert biases
        assert not any(b.any() for b in biases)


def test_filters_of_nin():
    """The second convolution has 5/6 of the filters, the third the half; most are of 1 x 1."""
    convolutions = multipliers(small("nin")[0]).values()

    assert [12, 10, 6, 12, 12, 12, 12, 12, 3] == [m.out_channels for m in convolutions]
    assert [5, 1, 1, 5, 1, 1, 3, 1, 1] == [m.kernel_size[0] for m in convolutions]


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        *[(build, (784,)) for build in (bc_vgg, bop_binarynet, vgg_small, vgg16, nin, unet)],
        *[(bc_vgg_svhn, (3, 7, 32)), (bop_binarynet, (3, 9, 32)), (vgg_small, (3, 32, 7))],
        *[(vgg16, (3, 31, 32)), (vgg16, (1, 28, 28)), (nin, (28, 28))],
    ],
)
def test_refusals(build, shape):
    """What is no image, or too small to be halved so often, is refused in one line."""
    with pytest.raises(UsageError, match=r"^[a-z0-9-]+ needs [^\n]+ got [^\n]+; take [^\n]+$"):
        build(shape=shape, classes=10)


@pytest.mark.parametrize(
    ("build", "values"),
    [
        *[(vgg_small, {"width": 0}), (vgg_small, {"pad_value": 2}), (vgg16, {"dense": 0})],
        *[(nin, {"width": 1}), (nin, {"dropout": 1.0}), (bc_vgg, {"activation": "tanh"})],
        *[(unet, {"depth": 0}), (unet, {"bn_eps": 0.0}), (unet, {"first": "ternary"})],
        *[(bop_binarynet, {"bn_scale": True}), (binarynet, {"bn_scale": "no"})],
    ],
)
def test_bounds(build, values):
    """Hyperparameters are bounded by their types; a published setting is none."""
    assert validate(build, {}, "network", ("shape", "classes"))["pad_value"] == 0
    with pytest.raises(UsageError):
        validate(build, values, "network", ("shape", "classes"))

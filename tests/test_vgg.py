"""VGG-Small and VGG-16: the order of their layers, and biases that are binary weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnnbench.latents import Latents
from bnnbench.layers import binary_layers, real_parameters
from bnnbench_plugins.architectures.vgg import BinaryBias, vgg16, vgg_small


def small(build, **given):
    """A network of few filters, and a batch for it."""
    torch.manual_seed(1)
    return build(shape=(3, 32, 32), classes=3, width=4, **given), torch.randn(8, 3, 32, 32)


def order(model):
    return list(dict(model.named_children()))


def test_order_of_vgg_small():
    """Convolution, pooling, norm, hard tanh, sign; the output sees the last hard tanh."""
    model, _ = small(vgg_small)

    assert order(model) == [
        *("conv1", "norm1", "hardtanh1", "sign1", "conv2", "pool2", "norm2", "hardtanh2", "sign2"),
        *("conv3", "norm3", "hardtanh3", "sign3", "conv4", "pool4", "norm4", "hardtanh4", "sign4"),
        *("conv5", "norm5", "hardtanh5", "sign5", "conv6", "pool6", "norm6", "hardtanh6"),
        *("flatten", "dense7"),
    ]


def test_real_vgg_small():
    """A real activation stands alone, in the last hidden layer too."""
    names = order(small(vgg_small, activation="relu")[0])

    assert [f"relu{n}" for n in range(1, 7)] == [n for n in names if n.startswith("relu")]
    assert not any(n.startswith("hardtanh") for n in names)


def test_order_of_vgg16():
    """Layer, bias, norm, activation, pooling; the output is not normalized."""
    names = order(small(vgg16)[0])
    pools = {2, 4, 7, 10, 13}
    expected = []
    for n in range(1, 14):
        expected += [f"conv{n}", f"bias{n}", f"norm{n}", f"relu{n}"]
        expected += [f"pool{n}"] * (n in pools)
    expected += ["flatten", "dense14", "bias14", "norm14", "relu14"]
    expected += ["dense15", "bias15", "norm15", "relu15", "dense16", "bias16"]

    assert expected == names


def plain_vgg16(model):
    """The same network of torch's own layers with biases, its weights copied; in eval mode."""
    layers = []
    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            outputs, inputs, *kernel = module.weight.shape
            made = (
                nn.Conv2d(inputs, outputs, 3, padding=1) if kernel else nn.Linear(inputs, outputs)
            )
            made.weight.data = module.weight.data
            layers.append(made)
        elif name.startswith("bias"):
            layers[-1].bias.data = module.b.weight.data.flatten()
        else:
            layers.append(module)
    return nn.Sequential(*layers).eval()


def test_biases_of_vgg16():
    """A product of a binary weight with 1, added to a channel, is a bias."""
    model, x = (made.double() for made in small(vgg16, dense=8))
    Latents(model).project(lambda latent: torch.where(latent >= 0, 1.0, -1.0))
    model(x)  # so that the running statistics are not those of the beginning

    torch.testing.assert_close(model.eval()(x), plain_vgg16(model)(x))


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 2)])
def test_binary_bias(shape):
    """Every number of a channel is shifted by its bias, which is given the sum of gradients."""
    layer, x = BinaryBias(3), torch.randn(shape)
    (b,) = layer.parameters()
    weight = torch.randn(shape)

    y = layer(x)
    (weight * y).sum().backward()

    for channel, value in enumerate(b.flatten().tolist()):
        torch.testing.assert_close(y[:, channel], x[:, channel] + value)
        assert b.grad[channel].item() == pytest.approx(weight[:, channel].sum().item(), abs=1e-4)
    assert ["b"] == list(binary_layers(layer))


def test_real_biases_of_vgg16():
    """A bias is as its layer is: binary or real."""
    model, _ = small(vgg16, first="real", last="real")

    assert {"conv1.weight", "bias1.b", "dense16.weight", "bias16.b"} == set(real_parameters(model))

"""The sizes of the plain networks and the U-Net: weights, real parameters, multiplications."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bnnbench.layers import binary_layers, real_parameters
from bnnbench_plugins.architectures.binarynet import bc_vgg, bc_vgg_svhn, bop_binarynet
from bnnbench_plugins.architectures.nin import nin
from bnnbench_plugins.architectures.unet import unet
from bnnbench_plugins.architectures.vgg import vgg16, vgg_small

CIFAR = (3, 32, 32)
SIX = [(1, 32), (1, 32), (2, 16), (2, 16), (4, 8), (4, 8)]  # (filters / width, side of the output)
NAMED = {"bc-vgg": bc_vgg, "bc-vgg-svhn": bc_vgg_svhn, "bop-binarynet": bop_binarynet}
NAMED |= {"vgg-small": vgg_small, "vgg16": vgg16, "nin": nin, "unet": unet}


def on_meta(build, shape, classes=10):
    """A network of the published size without its numbers, and the MACs of one input."""
    with torch.device("meta"):
        model = build(shape=shape, classes=classes).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *shape))
    return model, counter.get_total_flops() // 2


def counts(model):
    binary = sum(layer.weight.numel() for layer in binary_layers(model).values())
    return binary, sum(p.numel() for p in real_parameters(model).values())


def stack(widths_and_sides, dense, width=128, kernels=None):
    """Weights and MACs of a stack, multiplied out: square convolutions, then dense layers."""
    convs, inputs = [], 3
    for n, (times, side) in enumerate(widths_and_sides):
        kernel = kernels[n] if kernels else 3
        convs.append((inputs * times * width * kernel**2, side**2))
        inputs = times * width
    denses = [(a * b, 1) for a, b in pairwise(dense)]
    return [w for w, _ in convs + denses], sum(w * positions for w, positions in convs + denses)


@pytest.mark.parametrize(
    ("name", "binary", "real", "millions"),
    [
        ("bc-vgg", 14_022_016, 7_700, 617.0),
        ("bc-vgg-svhn", 6_397_632, 5_908, 158.0),
        ("bop-binarynet", 10_352_000, 3_850, 514.1),
        ("vgg16", 15_245_130, 0, None),
    ],
)
def test_published_counts(name, binary, real, millions):
    """Binary weights, real parameters and millions of MACs of the published networks."""
    model, macs = on_meta(NAMED[name], CIFAR)

    assert (binary, real) == counts(model)
    assert millions in (None, round(macs / 1e6, 1))


def test_counts_of_vgg16():
    """All 15,245,130 parameters are binary, 5,258 of them biases, each a product with 1."""
    model, macs = on_meta(vgg16, CIFAR)
    sides = [32] * 2 + [16] * 2 + [8] * 3 + [4] * 3 + [2] * 3
    times = [1] * 2 + [2] * 2 + [4] * 3 + [8] * 6
    weights, products = stack(list(zip(times, sides, strict=True)), [512, 512, 512, 10], width=64)
    biases = [layer.weight for name, layer in binary_layers(model).items() if "bias" in name]

    assert 5_258 == sum(b.numel() for b in biases)
    assert 15_245_130 == sum(weights) + 5_258
    assert products + 5_258 == macs
    assert 16 == len(biases)


def test_counts_of_vgg_small():
    """Five binary convolutions between a real one and a real dense layer with bias."""
    model, macs = on_meta(vgg_small, CIFAR)
    weights, products = stack(SIX, [8192, 10])

    assert (sum(weights[1:-1]), 4_571_136) == (counts(model)[0],) * 2
    assert weights[0] + weights[-1] + 10 + 2 * 14 * 128 == counts(model)[1]
    assert products == macs


def test_counts_of_nin():
    """Seven binary convolutions; norms, biases, the first and the last one are real."""
    model, macs = on_meta(nin, CIFAR)
    sizes = [192, 160, 96, 192, 192, 192, 192, 192, 10]
    sides, kernels = [32] * 3 + [16] * 3 + [8] * 3, [5, 1, 1, 5, 1, 1, 3, 1, 1]
    weights, products = stack(list(zip(sizes, sides, strict=True)), [], width=1, kernels=kernels)

    assert (sum(weights[1:-1]), 949_248) == (counts(model)[0],) * 2
    assert weights[0] + weights[-1] + sum(sizes) + 2 * sum(sizes[:-2]) == counts(model)[1]
    assert products == macs


def test_counts_of_unet():
    """The U-Net of 31,037,633 parameters, with 1 x 1 convolutions for its up-convolutions.

    That one has normalization after the 18 convolutions of 3 x 3 (11,776) and biases of the
    up-convolutions (960) and the output (1); here the up-convolutions (960) and the pooled
    activations (960) are normalized too, and have no bias.
    """
    model, macs = on_meta(unet, (3, 128, 128), classes=1)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    products, inputs = 0, 3
    for k in range(5):
        here = 64 * 2**k * 9 * (128 >> k) ** 2
        products += here * (inputs + 64 * 2**k)  # the contraction, and the bottom
        if k < 4:  # the expansion; an up-convolution sees half the side
            products += here * 3 * 64 * 2**k + 128 * 2**k * 64 * 2**k * (128 >> k) ** 2
        inputs = 64 * 2**k

    assert 23 == len(convolutions)
    assert 31_037_633 == sum(m.weight.numel() for m in convolutions) + 11_776 + 960 + 1
    assert 31_037_633 - 960 + 2 * (960 + 960) == sum(counts(model))
    assert 3 * 64 * 9 + 64 + 1 + 11_776 + 2 * (960 + 960) == counts(model)[1]
    assert products + 64 * 128**2 == macs


@pytest.mark.parametrize(
    ("name", "momentum", "eps"),
    [
        *[("bc-vgg", 0.1, 1e-4), ("bc-vgg-svhn", 0.1, 1e-4), ("bop-binarynet", 0.01, 1e-3)],
        *[("vgg-small", 0.1, 1e-5), ("vgg16", 0.1, 1e-5), ("nin", 0.1, 1e-4), ("unet", 0.1, 1e-5)],
    ],
)
def test_published_normalization(name, momentum, eps):
    """Each network has its own momentum and epsilon."""
    norms = [m for m in on_meta(NAMED[name], CIFAR)[0].modules() if hasattr(m, "running_mean")]

    assert {(momentum, eps)} == {(norm.momentum, norm.eps) for norm in norms}

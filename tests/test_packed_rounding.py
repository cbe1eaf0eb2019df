"""How far rounding may take what a sign is taken of, in float32."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear, binary_layers
from bnnbench.packing.lowering import lowered
from bnnbench.packing.rounding import bounds, roundings
from bnnbench_plugins.binarizers import SignHardTanh


def sign():
    return BinaryActivation(SignHardTanh())


class Beside(nn.Module):
    """x + f(x), or both beside each other."""

    def __init__(self, f, *, joined=False):
        super().__init__()
        self.f, self.joined = f, joined

    def forward(self, x):
        return torch.cat([x, self.f(x)], dim=1) if self.joined else x + self.f(x)


def normed(layer, channels, random):
    """The layer and a normalization of no particular statistics."""
    norm = nn.BatchNorm2d(channels) if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d(channels)
    for end in (norm.weight.data, norm.bias.data, norm.running_mean):
        end.copy_(3 * torch.randn(channels, generator=random))
    norm.running_var.copy_(torch.rand(channels, generator=random) + 0.01)
    return [layer, norm]


def networks(random):
    """Networks that have, before their signs, every operation on real numbers; and their inputs."""
    image = (3, 9, 8)
    conv, odd = nn.Conv2d(3, 8, 3, padding=1), BinaryConv2d(3, 8, 3, padding=(2, 1), groups=1)
    inner = [sign(), *normed(BinaryConv2d(8, 8, 3, padding=1, bias=False), 8, random)]
    slope = nn.PReLU(8)
    slope.weight.data = 2 * torch.randn(8, generator=random)
    pools = [nn.MaxPool2d(2), nn.AvgPool2d(3, stride=1, padding=1), nn.ZeroPad2d(1)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return {
        "dense": ([*normed(BinaryLinear(300, 20), 20, random), sign()], (300,)),
        "real": ([nn.Linear(300, 50), nn.ReLU(), nn.Linear(50, 6), nn.Hardtanh(), sign()], (300,)),
        "two": ([BinaryLinear(90, 70), sign(), BinaryLinear(70, 70), sign()], (90,)),
        "images": ([*normed(odd, 8, random), slope, *pools, sign(), *end], image),
        "shortcuts": ([conv, Beside(nn.Sequential(*inner)), sign(), *end], image),
        "joined": ([conv, Beside(nn.Sequential(*inner), joined=True), sign(), *end], image),
        "mean": ([conv, slope, nn.PixelShuffle(2), nn.AdaptiveAvgPool2d(1), sign()], image),
    }


def binarized(layers, low, high, random):
    """The layers as a network, with two values in its binary ones, a pair for each filter."""
    network = nn.Sequential(*layers)
    for layer in binary_layers(network).values():
        coins = torch.rand(layer.weight.shape, generator=random) < 0.5
        layer.weight.data = torch.where(coins, low, high)
    return network.eval().requires_grad_(False)


def before_signs(network, inputs):
    """What the network takes signs of, and the signs, in order."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda _module, given, y: seen.append((given[0], y)))
        for module in network.modules()
        if isinstance(module, BinaryActivation)
    ]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.3, 0.3), (0.1, 0.9)])
@pytest.mark.parametrize("name", networks(torch.Generator()))
def test_what_float32_is_off_by(name, low, high):
    """Before every sign, float32 is off float64 by less than the bound; that is small itself.

    Given the same signs: those of float32.
    """
    random = torch.Generator().manual_seed(5)
    layers, shape = networks(random)[name]
    network = binarized(layers, low, high, random)
    draft = lowered(network, shape)
    x = torch.randn(40, *shape, generator=random)
    seen = before_signs(network, x)
    names = [node for each in draft.signs.values() for node in each]
    signs = {node: y for node, (_, y) in zip(names, seen, strict=True)}
    found = bounds([*draft.nodes.values()], draft.tensors, x, signs)

    wide = copy.deepcopy(network).double()
    ours = iter(signs.values())
    for module in wide.modules():
        if isinstance(module, BinaryActivation):
            module.register_forward_hook(lambda *_given: next(ours).double())
    exact = before_signs(wide, x.double())

    assert list(found) == names
    for node, (z, _), (precise, _) in zip(names, seen, exact, strict=True):
        off, bound = (z - precise).abs(), found[node]
        assert bound.shape == z.shape
        assert (off <= bound).all()
        assert bound.mean() < 0.01 * precise.abs().mean()
        assert off.max() > 0 or not bound.any()


class Each(nn.Module):
    """A function as a layer."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def single(random):
    """What a node does, each alone, and inputs of eight numbers."""
    slope, image, numbers = nn.PReLU(2), torch.rand(1, 2, 2, 2) + 0.1, torch.rand(1, 8) + 0.1
    slope.weight.data = torch.tensor([-2.0, 1.5])
    factors = torch.tensor([-3.0, 0.5]).view(-1, 1, 1)
    return {
        "dense": (nn.Linear(8, 3), numbers),
        "binary dense": (BinaryLinear(8, 3), numbers),
        "conv": (nn.Conv2d(2, 3, 2, stride=(1, 2), padding=1), image),
        "binary conv": (BinaryConv2d(2, 4, 2, stride=(2, 1), padding=(1, 0), groups=2), image),
        "norm": (normed(nn.Conv2d(1, 2, 1), 2, random)[1], image),
        "plain norm": (nn.BatchNorm1d(8, affine=False), numbers),
        "prelu": (slope, -image),
        "relu": (nn.ReLU(), image),
        "hardtanh": (nn.Hardtanh(-2, 2), image),
        "mean of windows": (nn.AvgPool2d((1, 2), stride=1, padding=(0, 1)), image),
        "mean": (nn.AdaptiveAvgPool2d(1), image),
        "max": (nn.MaxPool2d(2), image),
        "sum": (Beside(nn.Identity()), image),
        "joined": (Beside(slope, joined=True), -image),
        "scale": (Each(lambda x: x * factors), image),
        "bias": (Each(lambda x: x + factors), image),
        "border": (nn.ConstantPad2d(1, 0.5), image),
        "shuffle": (nn.PixelShuffle(2), image.view(1, 4, 2, 1)),
        "subsample": (Each(lambda x: x[:, :, ::2, ::1]), image),
    }


@pytest.mark.parametrize("name", single(torch.Generator()))
def test_what_inputs_are_off_by_is_handed_on(name):
    """By every operation: as much as the worst of all 256 ways to be off by 0.01 comes to."""
    torch.manual_seed(7)
    module, x = single(torch.Generator().manual_seed(7))[name]
    for layer in binary_layers(module).values():
        layer.weight.data = torch.where(layer.weight < 0, -0.7, 0.7)
    network = nn.Sequential(module, sign()).eval().requires_grad_(False)
    draft = lowered(network, x.shape[1:])
    ((_, signs),) = before_signs(network, x)
    given = [*draft.nodes.values()], draft.tensors, x, {"1": signs}
    found = bounds(*given, torch.full_like(x, 0.01))["1"] - bounds(*given)["1"]

    corners = torch.tensor([*itertools.product([-0.01, 0.01], repeat=8)], dtype=torch.float64)
    wide = copy.deepcopy(module).double()
    want = (wide(x + corners.view(-1, *x.shape[1:])) - wide(x.double())).abs().amax(0)
    torch.testing.assert_close(found[0].double(), want, rtol=2e-3, atol=1e-7)


def test_sums_of_signs_are_exact():
    """Between binary layers of +-1 there is nothing to round: the bound is 0."""
    random = torch.Generator().manual_seed(5)
    network = binarized([sign(), BinaryLinear(70, 9, bias=False), sign()], -1.0, 1.0, random)
    draft = lowered(network, (70,))
    x = torch.randn(8, 70, generator=random)
    first, second = draft.signs.values()
    (_, s), (_, t) = before_signs(network, x)
    found = bounds([*draft.nodes.values()], draft.tensors, x, {first[0]: s, second[0]: t})
    assert not found[first[0]].any()
    assert not found[second[0]].any()


def test_a_bound_by_hand():
    """A sum of four products |w x| = 3, a bias of 2 and a factor of 3: as Higham has it."""
    network = nn.Sequential(BinaryLinear(4, 1), sign()).eval().requires_grad_(False)
    network[0].weight.data = torch.tensor([[3.0, -3.0, 3.0, 3.0]])
    network[0].bias.data = torch.tensor([2.0])
    draft, one = lowered(network, (4,)), torch.ones(1, 1)
    found = bounds([*draft.nodes.values()], draft.tensors, torch.ones(1, 4), {"1": one})
    u = 2.0**-24
    assert roundings(3) == pytest.approx(3 * u, rel=1e-6)
    want = 2 * 16 * u * 3 * 4 + 2 * u * (6 + 8) + 2 * 4 * u * 2
    assert found["1"].item() == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("is_image", [False, True])
def test_a_bound_of_real_weights_by_hand(is_image):
    """To four products |w x| = 3 and a bias of 1000 belong roundings of all that is added up."""
    layer = nn.Conv2d(1, 1, 2) if is_image else nn.Linear(4, 1)
    network = nn.Sequential(layer, sign()).eval().requires_grad_(False)
    layer.weight.data.fill_(-3.0)
    layer.bias.data = torch.tensor([-1000.0])
    x = torch.ones(1, 1, 2, 2) if is_image else torch.ones(1, 4)
    draft, ((_, one),) = lowered(network, x.shape[1:]), before_signs(network, x)
    found = bounds([*draft.nodes.values()], draft.tensors, x, {"1": one})
    assert found["1"].item() == pytest.approx(2 * 16 * 2.0**-24 * (12 + 1000), rel=1e-3)

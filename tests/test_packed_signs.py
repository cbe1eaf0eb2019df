"""Signs that rounding turns: how far it may take a sum, and what follows from another sign."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear, binary_layers
from bnnbench.packed.file import read
from bnnbench.packed.network import PackedNetwork
from bnnbench.packed.values import real
from bnnbench.packing.export import as_safetensors, export
from bnnbench.packing.lowering import lowered
from bnnbench.packing.onnx import as_onnx
from bnnbench.packing.parity import Compared, ParityError
from bnnbench.packing.rounding import bounds, roundings
from bnnbench.packing.signs import told
from bnnbench_plugins.binarizers import SignHardTanh

from .packing import trained
from .test_packed_integers import packed


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


@pytest.mark.parametrize("module", [0, 2])
def test_told_signs_lead_to_the_same_outputs(module):
    """A packed network whose every other sign is turned: counted, and out of all rounding."""
    random = torch.Generator().manual_seed(6)
    layers = [sign(), BinaryLinear(9, 5, bias=False), sign(), BinaryLinear(5, 6, bias=False)]
    network = binarized(layers, -1.0, 1.0, random)
    draft = lowered(network, (9,))
    whole = packed(draft, (9,))
    x = torch.randn(10, 9, generator=random)
    found = told(network, whole, draft, x)
    assert (found.turned, found.beyond) == (0, [])
    assert torch.equal(found.got, found.want)

    def other(inputs, watch):
        """The same with the first number's sign turned behind one of the activations."""
        turned = {}

        def between(name, value):
            turned[name] = real(value).clone()
            if name == str(module):
                turned[name][:, 0] *= -1
            watch(name, turned[name])

        whole(inputs, between)
        y = turned["2"] if module == 2 else network[1](turned["0"])
        if module == 0:
            y = torch.where(y >= 0, 1.0, -1.0)
            watch("2", y)
        return network[3](y)

    found = told(network, other, draft, x)
    assert (found.turned, found.beyond) == (10, [str(module)])
    assert torch.equal(found.got, found.want)
    assert not torch.equal(found.want, network(x))


def shifted(name, channel, by, form=as_safetensors):
    """A form that writes one number of a network as another, with the right checksum."""

    def shift(path, description, tensors):
        array = tensors[name].copy()
        array[channel] += by
        return form(path, description, {**tensors, name: array})

    return shift


def near_zero(network, data):
    """Let one sum before the first sign be 0 within rounding; return its channel.

    It is one on whose sign no prediction depends.
    """
    x, bias = data.test.inputs, network.norm1.bias.data
    (z, _), *_ = before_signs(network, x)
    for image, channel in (z.abs() < 0.05).nonzero().tolist():
        bias[channel] -= z[image, channel]
        (there, _), *_ = before_signs(network, x)
        turned = torch.ones_like(z)
        turned[image, channel] = -1
        hook = network.sign1.register_forward_hook(lambda _m, _x, y, by=turned: y * by)
        predicted = network(x).argmax(1)
        hook.remove()
        alone = (there[:, channel].abs() < 0.02).sum() == 1
        if alone and torch.equal(predicted, network(x).argmax(1)):
            return channel
        bias[channel] += z[image, channel]
    raise AssertionError


@pytest.mark.parametrize("by", [2e-6, -2e-6])
def test_a_sign_within_rounding_may_turn(by, tmp_path):
    """A network that is off by rounding is the same, though one sign and its outputs are others.

    In one direction the sign of the sum that is 0 turns, in the other it does not.
    """
    network, data, _ = trained()
    channel = near_zero(network, data)
    made = export(network, data, tmp_path / "m", form=shifted("norm1.bias", channel, by))
    found = made.compared
    assert (found.differing, found.fault) == (0, "")
    assert found.strays == found.turned <= 1
    (z, _), *_ = before_signs(network, data.test.inputs)
    is_up = (z[:, channel][z[:, channel].abs() < 1e-6] >= 0).item()
    assert found.turned == (is_up != (by > 0))


@pytest.mark.parametrize("by", [0.1, -0.1])
def test_a_sign_beyond_rounding_may_not_turn(by, tmp_path):
    """Not for one image: what is off by more than rounding is another network."""
    network, data, _ = trained()
    channel = near_zero(network, data)
    with pytest.raises(ParityError, match=r"predictions differ|but in 'sign1' others have"):
        export(network, data, tmp_path / "m", form=shifted("norm1.bias", channel, by))
    assert [*tmp_path.iterdir()] == []


def rare(network, data, path):
    """A threshold that, off by one, turns the signs of the fewest images; its name and channel."""
    export(network, data, path)
    description, tensors = read(path)
    found = {}
    for channel in range(48):
        least = tensors["sign2.least"].copy()
        least[channel] += 2
        other = PackedNetwork(description, {**tensors, "sign2.least": least})
        own, theirs = PackedNetwork(description, tensors)(data.test.inputs), other(data.test.inputs)
        count = int((own != theirs).any(1).sum())
        if count and torch.equal(own.argmax(1), theirs.argmax(1)):
            found[count] = channel
    path.unlink()
    return min(found), found[min(found)]


@pytest.mark.parametrize("form", [as_safetensors, as_onnx])
def test_a_wrong_threshold_is_noticed(form, tmp_path):
    """One threshold off by one integer is refused, though all predictions are equal."""
    if form is as_onnx:
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    network, data, _ = trained()
    count, channel = rare(network, data, tmp_path / "m")
    assert 1 <= count < 20
    with pytest.raises(ParityError, match="within rounding of 0 may have another sign, but in 's"):
        export(network, data, tmp_path / "m", form=shifted("sign2.least", channel, 2, form))
    assert [*tmp_path.iterdir()] == []


def compare(got, want):
    """What is found of outputs alone, in a network without signs."""
    found = Compared()

    class Same:
        signs: dict = {}  # noqa: RUF012
        nodes: dict = {}  # noqa: RUF012
        tensors: dict = {}  # noqa: RUF012

    is_stray = found.add(got, want)
    if is_stray.any():
        inputs = torch.arange(len(want))[is_stray]
        found.explain(lambda i: want[i], lambda i, watch: got[i], Same(), inputs)
    return found


def test_no_output_is_beyond_rounding():
    """Equal predictions are not enough: not one example of 300 may be off without another sign."""
    want = torch.tensor([[1.0, 2.0]]).repeat(300, 1)
    got = want.clone()
    got[7] += 1.9e-4
    found = compare(got, want)
    found.check()
    assert (found.strays, found.differing) == (0, 0)
    assert found.difference == pytest.approx(1.9e-4, rel=1e-2)
    got[8] += 2.1e-4
    found = compare(got, want)
    assert (found.strays, found.differing) == (1, 0)
    with pytest.raises(ParityError, match="those of 1 examples differ by more than"):
        found.check()


def test_not_a_number_is_no_parity():
    """Outputs that are no numbers are beyond rounding."""
    want = torch.ones(200, 2)
    found = compare(torch.full_like(want, np.nan), want)
    assert found.strays == 200
    with pytest.raises(ParityError, match="outputs must be equal within rounding"):
        found.check()

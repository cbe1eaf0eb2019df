"""Signs that rounding turns, and what follows from another sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bnnbench.layers import BinaryLinear
from bnnbench.packed.file import read
from bnnbench.packed.network import PackedNetwork
from bnnbench.packed.values import real
from bnnbench.packing.export import as_safetensors, export
from bnnbench.packing.lowering import lowered
from bnnbench.packing.onnx import as_onnx
from bnnbench.packing.parity import Compared, ParityError
from bnnbench.packing.signs import told

from .packing import trained
from .test_packed_integers import packed
from .test_packed_rounding import before_signs, binarized, sign


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

"""The integers of binary layers are compared filter by filter; what has none is not counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.packed.description import Description, Preprocessing
from bnnbench.packed.network import PackedNetwork
from bnnbench.packing.integers import integers
from bnnbench.packing.lowering import lowered
from bnnbench.packing.parity import ParityError
from bnnbench_plugins.binarizers import SignHardTanh

VALUES = {  #: of each filter, the low and the high one
    "signs": (-1.0, 1.0),
    "scaled": (-0.37, 0.37),
    "adabin": (-0.2, 0.9),
    "both above": (0.3, 0.31),
    "far": (1000.0, 1000.0001),  # in float32 a sum of 40 of them says nothing of their signs
    "one value": (-0.5, -0.5),
}


def dense():
    return BinaryLinear(40, 6), (40,)


def conv():
    return BinaryConv2d(4, 6, (3, 2), stride=(2, 1), padding=1, bias=False), (4, 7, 6)


def parts(make, values, random):
    """A network of a sign and a layer, its draft, packed, and inputs for it."""
    layer, shape = make()
    high = torch.rand(layer.weight.shape, generator=random) < 0.5
    low, top = (torch.tensor(v).float() for v in zip(*values, strict=True))
    each = (-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.data = torch.where(high, top.view(each), low.view(each))
    end = [] if len(shape) == 1 else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(BinaryActivation(SignHardTanh()), layer, *end)
    network.eval().requires_grad_(False)
    draft = lowered(network, shape)
    return network, draft, torch.randn(11, *shape, generator=random)


def packed(draft, shape, **tensors):
    """The nodes as a network; some tensors are others."""
    description = Description(
        shape=shape,
        classes=6,
        nodes=tuple(draft.nodes.values()),
        float32=0,
        preprocessing=Preprocessing(kind="none"),
    )
    return PackedNetwork(description, {**draft.tensors, **tensors})


@pytest.fixture
def random():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("make", [dense, conv])
@pytest.mark.parametrize("name", VALUES)
def test_every_filter_counts(make, name, random):
    """With any two values, and with one, the integers of all filters are compared and equal."""
    network, draft, x = parts(make, [VALUES[name]] * 6, random)
    places = 1 if make is dense else 4 * 7
    found = integers(network, packed(draft, x.shape[1:]), draft.layers, x)
    assert found == (1, 11 * 6 * places, 0)


@pytest.mark.parametrize("make", [dense, conv])
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("place", range(6))
def test_one_weight_that_is_turned(make, name, place, random):
    """Of any filter, and whatever its values, a single weight of another sign is noticed.

    All filters but one are signs: one with a shift is not hidden by those without.
    """
    values = [VALUES["signs"]] * 6
    values[place] = VALUES[name]
    network, draft, x = parts(make, values, random)
    weight = draft.tensors["1.weight"].copy()
    weight[place, 2] ^= 4
    with pytest.raises(ParityError, match="those of '1' are not"):
        integers(network, packed(draft, x.shape[1:], **{"1.weight": weight}), draft.layers, x)


@pytest.mark.parametrize("make", [dense, conv])
def test_a_wrong_sum_of_inputs(make, random):
    """The sum of inputs that a shift is multiplied with is looked at, too."""
    network, draft, x = parts(make, [VALUES["adabin"]] * 6, random)
    weight = draft.tensors["1.sum.weight"].copy()
    weight[0, 1] ^= 1
    with pytest.raises(ParityError, match="those of '1' are not"):
        integers(network, packed(draft, x.shape[1:], **{"1.sum.weight": weight}), draft.layers, x)


@pytest.mark.parametrize("make", [dense, conv])
def test_filters_of_zeros_have_none(make, random):
    """Whatever is packed for zeros gives 0; its integers are not said to be equal."""
    values = [(0.0, 0.0), *[VALUES["signs"]] * 3, (0.0, 0.0), VALUES["adabin"]]
    network, draft, x = parts(make, values, random)
    places = 1 if make is dense else 4 * 7
    found = integers(network, packed(draft, x.shape[1:]), draft.layers, x)
    assert found == (1, 11 * 4 * places, 2)


@pytest.mark.parametrize("name", VALUES)
def test_outputs_of_another_layer(name, random):
    """A trained layer that gives anything else than its weights and inputs say is noticed."""
    network, draft, x = parts(dense, [VALUES[name]] * 6, random)
    network[1].register_forward_hook(lambda _layer, _x, y: torch.randn(y.shape, generator=random))
    with pytest.raises(ParityError, match="those of '1' are not"):
        integers(network, packed(draft, x.shape[1:]), draft.layers, x)


def test_layers_of_real_inputs_have_none(random):
    """A layer that is given real numbers has no integers to compare."""
    layer, shape = dense()
    layer.weight.data.copy_(torch.where(layer.weight < 0, -1.0, 1.0))
    network = nn.Sequential(nn.ReLU(), layer).eval().requires_grad_(False)
    draft = lowered(network, shape)
    x = torch.randn(5, *shape, generator=random)
    assert integers(network, packed(draft, shape), draft.layers, x) == (0, 0, 0)

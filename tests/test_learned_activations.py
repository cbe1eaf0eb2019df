"""A binary activation that is a module learns with the network, and is kept with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnnbench.binarization import binarize
from bnnbench.errors import PluginError
from bnnbench.handover import check_places
from bnnbench.layers import BinaryActivation, BinaryLinear, activation_bits, real_parameters
from bnnbench.roles import roles
from bnnbench.schedules import Linear, Scheduled
from bnnbench.training import Settings, Training
from bnnbench_plugins.binarizers import Quadratic, SignHardTanh

from .test_training import DATA, LOSS, METHODS


class Shifted(nn.Module):
    """size sign(x + shift), both learned."""

    def __init__(self, size=1.0):
        super().__init__()
        self.shift, self.size = nn.Parameter(torch.zeros(())), nn.Parameter(torch.tensor(size))

    def forward(self, x):
        return self.size * binarize(x + self.shift, Quadratic())


def model(seed=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        BinaryLinear(6, 8), nn.BatchNorm1d(8), BinaryActivation(Shifted()), BinaryLinear(8, 3)
    )


def test_autograd_differentiates_a_module():
    """Its gradients are the chain rule's: of size the mean sign, of shift and x the estimator's."""
    layer = BinaryActivation(Shifted(0.5)).double()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    g = torch.arange(9, dtype=torch.float64)

    out = layer(x)
    out.backward(g)

    signs = [1.0 if v >= 0 else -1.0 for v in x.tolist()]
    slopes = [max(2 - 2 * abs(v), 0.0) for v in x.tolist()]
    weighted = [0.5 * s * n for n, s in enumerate(slopes)]
    assert [0.5 * s for s in signs] == out.tolist()
    assert weighted == pytest.approx(x.grad.tolist())
    assert sum(n * s for n, s in enumerate(signs)) == pytest.approx(
        layer.binarizer.size.grad.item()
    )
    assert sum(weighted) == pytest.approx(layer.binarizer.shift.grad.item())


def test_what_it_learns_are_real_parameters():
    """They have names and roles, and the network's activations one bit."""
    network = model()

    learned = {"2.binarizer.shift", "2.binarizer.size"}
    assert learned <= real_parameters(network).keys()
    assert {"real"} == {r["role"] for r in roles(network) if r["parameter"] in learned}
    assert 1 == activation_bits(network)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("after", [1, 3])
def test_it_learns_and_is_taken_up(precision, after):
    """Its parameters move; a training that goes on has them, and the selected network too."""

    def begun():
        return Training(
            model(), METHODS["ste"], DATA, LOSS, Settings(4, 10, 0, precision=precision)
        )

    calm, first, second = begun(), begun(), begun()
    list(calm)
    for _ in first:
        if first.epoch == after:
            break
    second.load(first.state())
    list(second)

    end = calm.network()
    assert end["2.binarizer.shift"] != 0
    assert end["2.binarizer.size"] != 1
    assert all(torch.equal(tensor, second.network()[name]) for name, tensor in end.items())


def test_it_is_handed_over_by_name():
    """Another network takes what was learned."""
    one, other = model(), model(5)
    with torch.no_grad():
        one[2].binarizer.shift.fill_(0.7)

    check_places(one.state_dict(), other, "one")
    other.load_state_dict(one.state_dict())

    assert 0.7 == pytest.approx(other[2].binarizer.shift.item())


def test_a_module_is_not_scheduled():
    """Built anew at every step it would forget."""
    with pytest.raises(PluginError, match="cannot be scheduled, got Shifted; hand over the module"):
        BinaryActivation(Scheduled(Shifted, size=Linear(1.0, 2.0)))


def test_it_is_printed_once():
    """A module stands below its activation, a plain binarizer beside it."""
    assert 1 == repr(BinaryActivation(Shifted())).count("Shifted")
    assert "BinaryActivation(SignHardTanh())" == repr(BinaryActivation(SignHardTanh()))

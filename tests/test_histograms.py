"""The histogram probe counts what numpy counts, at the epochs that were chosen, and at the last."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.training import Settings, train
from bnnbench_plugins.bop import bop
from bnnbench_plugins.histograms import Histograms, figures
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.ste import ste

EDGES = [i / 20 for i in range(-20, 21)]
SPECIAL = [*EDGES, 0.999, -0.999, 0.9985, 1.0005, -1.5, 7.0, math.nextafter(1, 2)]


def expected(w, bound):
    """All figures by numpy, in double precision; its histogram closes the last bin as well."""
    u = np.array(w, dtype=np.float64) / bound
    inside, _ = np.histogram(u, EDGES)
    shares = [np.count_nonzero(u < -1), *inside, np.count_nonzero(u > 1)]
    return {
        "latent_mean": np.mean(w),
        "latent_sd": np.std(w),
        "latent_saturated": np.mean(np.abs(u) >= 0.999),
        "latent_distance": np.mean(np.abs(1 - np.abs(u))),
    } | {f"latent_bin_{i:02}": count / len(w) for i, count in enumerate(shares)}


@settings(max_examples=60, deadline=None)
@given(
    w=st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(-1.2, 1.2)), min_size=1, max_size=40),
    bound=st.sampled_from([1.0, 0.5, 0.0127]),
)
def test_numpy_counts_the_same(w, bound):
    """Every figure, on random latents with edges, bounds and zeros among them, for any H."""
    latent = torch.tensor(w, dtype=torch.float64).view(1, -1)

    found, wanted = figures(latent, bound), expected(w, bound)

    assert found.keys() == wanted.keys()
    assert sum(found[f"latent_bin_{i:02}"] for i in range(42)) == pytest.approx(1, abs=1e-12)
    for name, value in wanted.items():
        assert math.isclose(value, found[name], rel_tol=1e-9, abs_tol=1e-12), name


def test_single_precision_bounds():
    """A latent that was clipped to 1 in single precision is saturated, and not outside."""
    found = figures(torch.tensor([[1.0, -1.0, 0.9991, -0.9985]]))

    assert [0.5, 0.5] == [found["latent_bin_01"], found["latent_bin_40"]]
    assert [0.0, 0.0] == [found["latent_bin_00"], found["latent_bin_41"]]
    assert 0.75 == found["latent_saturated"]


def run(method, probe, epochs=3):
    """The probe's own measurements of a training."""
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryConv2d(1, 2, 2, bias=False), nn.Flatten(), BinaryLinear(8, 3, bias=False)
    )
    data = Dataset(*(Split(torch.randn(20, 1, 3, 3), torch.randint(3, (20,))),) * 3, classes=3)
    measured = list(train(model, method, data, squared_hinge(), Settings(epochs, 10, 0), [probe]))
    return [[m for m in found if m.metric.startswith("latent_")] for found in measured]


def test_layers():
    """The first binary layer alone, unless all are asked for; 46 numbers for each."""
    first = run(ste(lr=0.1), Histograms())[1]
    both = run(ste(lr=0.1), Histograms(layers="all"))[1]

    assert {"0"} == {m.layer for m in first}
    assert (46, 92) == (len(first), len(both))
    assert {"0", "2"} == {m.layer for m in both}
    assert first == both[:46]


@pytest.mark.parametrize(
    ("epochs", "named", "wanted"),
    [
        (13, (), [0, 1, 2, 5, 10, 13]),
        (5, (), [0, 1, 2, 5]),
        (6, (3, 70), [3, 6]),
        (3, (0, 3), [0, 3]),
    ],
)
def test_chosen_epochs(epochs, named, wanted):
    """Round epochs or those that are named, and always the last; none is looked at twice."""
    found = run(ste(lr=0.1), Histograms(epochs=named), epochs)

    assert wanted == [m.epoch for each in found for m in each if m.metric == "latent_mean"]


def test_all_of_bop_is_in_two_bins():
    """From the first epoch on Bop's latents are -1 and +1: saturated, with no way to go."""
    for found in run(bop(gamma=0.1, tau=1e-3), Histograms(layers="all"))[1:3]:
        for layer in ("0", "2"):
            values = {m.metric: m.value for m in found if m.layer == layer}
            assert values["latent_bin_01"] + values["latent_bin_40"] == 1.0
            assert (1.0, 0.0) == (values["latent_saturated"], values["latent_distance"])
            assert values["latent_mean"] == pytest.approx(
                values["latent_bin_40"] - values["latent_bin_01"]
            )


def test_before_training_the_networks_own_weights_are_seen():
    """Epoch 0 is of the weights that the architecture made."""
    before = run(bop(gamma=0.1, tau=1e-3), Histograms())[0]
    torch.manual_seed(0)
    weight = BinaryConv2d(1, 2, 2, bias=False).weight.detach().double()

    found = {m.metric: m.value for m in before}

    assert found["latent_mean"] == pytest.approx(weight.mean().item(), rel=1e-12)
    assert found["latent_sd"] == pytest.approx(weight.numpy().std(), rel=1e-12)

"""Training with products in bf16: an option, said wherever its results stand."""

from __future__ import annotations

import json

import pytest
import torch

from bnnbench.experiments import Workbench
from bnnbench.interfaces import Dataset, Split
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part, Run
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste

RUN = Run(
    Part("digits"), Part("mlp", {"depth": 1, "width": 16}), Part("squared-hinge"), Part("ste"),
    seed=1, epochs=2, batch_size=100,
)  # fmt: skip


class Watch:
    """A probe that looks at what the network computed with, and at the latents."""

    def __init__(self, model):
        self.model, self.types, self.values = model, set(), set()

    def step(self, latents):
        for name, latent in latents.tensors.items():
            weight = latents.weights[name]
            self.types |= {latent.dtype, weight.dtype}
            self.values |= set(weight.detach().abs().flatten().tolist())

    def epoch(self, latents):
        return []


def trained(precision, method, way="separate"):
    torch.manual_seed(0)
    model = mlp(shape=(20,), classes=3, depth=2, width=32)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(300, 20, generator=generator)
    split = Split(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0))
    data = Dataset(split, split, split, classes=3)
    seen = []

    def loss(outputs, inputs, targets):
        seen.append(outputs.dtype)
        return squared_hinge()(outputs, inputs, targets)

    watch = Watch(model)
    settings = Settings(8, 30, 0, update=way, precision=precision)
    training = Training(model, method, data, loss, settings, [watch])
    measured = [m for epoch in training for m in epoch]
    return measured, watch, set(seen)


def best(measured, mode):
    return max(
        m.value for m in measured if (m.metric, m.split, m.mode) == ("accuracy", "validation", mode)
    )


@pytest.mark.parametrize("way", ["separate", "compiled"])
@pytest.mark.parametrize(("method", "mode"), [(ste(lr=1e-2), "binary"), (real(lr=1e-2), "real")])
def test_bf16_rounds_and_learns_all_the_same(method, mode, way):
    """Losses differ from those of fp32 by rounding, and the task is learned as well."""
    exact, *_ = trained("fp32", method, way)
    rounded, *_ = trained("bf16", method, way)
    first = [
        next(m.value for m in measured if (m.metric, m.split, m.epoch) == ("loss", "train", 1))
        for measured in (exact, rounded)
    ]

    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.1)
    assert best(exact, mode) > 60  # chance: 50
    assert best(rounded, mode) > best(exact, mode) - 10


def test_bf16_leaves_weights_latents_and_losses_in_fp32():
    """Only the products are rounded: the weights are exactly +-1, and nothing is kept in bf16."""
    _, watch, losses = trained("bf16", ste())

    assert {torch.float32} == watch.types == losses
    assert {1.0} == watch.values


def test_bf16_is_said_and_named():
    """The run has another key, and the remark that stands in every table."""
    bench = Workbench(load_plugins())
    run = Run(**{**vars(RUN), "precision": "bf16"})

    assert run.key != RUN.key
    assert run == Run.from_json(run.to_json())
    before = json.loads(RUN.to_json())
    assert "fp32" == before.pop("precision")  # as kept by versions that knew no other
    assert RUN == Run.from_json(json.dumps(before))
    assert "trained in bf16" == bench.prepare(run).facts["remark"]
    assert "" == bench.prepare(RUN).facts["remark"]

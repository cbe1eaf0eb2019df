"""A run's network as it would be deployed: packed, found to be the same network, and timed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bnnbench.deployments import BATCHES, Deployment
from bnnbench.environment import Neighbours, describe_environment
from bnnbench.packing.export import export
from bnnbench.packing.largest import timed_layers
from bnnbench.packing.layers import Alone
from bnnbench.packing.timing import timed
from bnnbench.summary import summarize

if TYPE_CHECKING:
    from torch import nn

    from bnnbench.interfaces import Dataset
    from bnnbench.plugins import Plugins


def deployment(
    network: nn.Module, data: Dataset, rounds: int, threads: int, plugins: Plugins
) -> Deployment:
    """Return what a network with binary weights is once it is packed.

    Args:
        network: trained, in evaluation mode.
        data: on whose test split it is compared with its packed form; its first examples are timed.
        rounds: visits of each way to compute a batch.
        threads: of torch and of the packed kernels.
        plugins: what the environment names.

    Raises:
        UsageError: something in it cannot be packed.
        ParityError: the packed network is another.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        made = export(network, data, Path(folder) / "network.safetensors")
    inputs, _ = next(data.test.batches(min(max(BATCHES), len(data.test))))
    neighbours = Neighbours()
    timings = [
        timing
        for batch in BATCHES
        for timing in timed(network, made.packed, inputs[:batch].contiguous(), rounds)
    ]
    size, summary = made.packed.size(), summarize(network, data.shape)
    layers = timed_layers(network, Alone(made.packed, made.nodes), summary.layers, inputs, rounds)
    return Deployment(
        bytes={kind: size[kind] for kind in ("binary", "thresholds", "real")},
        float32=size["float32"],
        macs=summary.macs,
        examples=made.compared.examples,
        differing=made.compared.differing,
        strays=made.compared.strays,
        accuracy=made.compared.accuracy,
        rounds=rounds,
        threads=threads,
        foreign=neighbours.foreign_share(),
        environment=describe_environment(plugins, "cpu"),
        timings=tuple(timings),
        layers=layers,
    )

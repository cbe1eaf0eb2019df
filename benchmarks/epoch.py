"""What a binarized epoch costs against a real-valued one: ``python -m benchmarks.epoch``.

The MLP 784-1024-1024-1024-10 with batches of 100 on random inputs, flips counted at every step
(off the training clock). The methods take turns, one short training each, so that a machine that
slows down slows them all; the first round is warm-up. Of a method with several phases the longest
is timed. Prints JSON: for each method the median seconds of an epoch of 20 steps, and the median
and range of its ratio to the real-valued epoch of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

from bnnbench.interfaces import Dataset, Split
from bnnbench.probes import FlipProbe
from bnnbench.training import Settings, train
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.bop2 import bop2
from bnnbench_plugins.frozen import frozen_random
from bnnbench_plugins.losses import squared_hinge
from bnnbench_plugins.proxquant import proxquant
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste
from bnnbench_plugins.ternary import ternary
from bnnbench_plugins.twostep import two_step
from bnnbench_plugins.xnor import xnor

METHODS = {
    "real": real(),
    "ste": ste(),
    "binaryconnect-det": binaryconnect(),
    "binaryconnect-stoch": binaryconnect(binarization="stochastic"),
    "bop": bop(),
    "bop2": bop2(),
    "bmd": bmd(),
    "bnew": bnew(),
    "xnor": xnor(),
    "two-step": two_step(share=0.4),
    "proxquant": proxquant(),
    "ternary": ternary(),
    "frozen-random": frozen_random(),
}


def examples(count: int) -> Split:
    """Random inputs of MNIST's shape."""
    return Split(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)))


def seconds(name: str, data: Dataset, activation: str) -> float:
    """The training time of the last epoch of the longest phase."""
    method = METHODS[name]
    shares = [phase.share for phase in method.phases]
    longest, count = shares.index(max(shares)), 2 * len(shares)
    model = mlp(shape=data.shape, classes=data.classes, activation=activation)
    settings = Settings(epochs=count, batch_size=100, seed=0)
    epochs = train(model, method, data, squared_hinge(), settings, [FlipProbe()])
    times = {m.epoch: m.value for e in epochs for m in e if m.metric == "seconds.train"}
    return times[method.spans(count)[longest][1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--activation", choices=["relu", "sign"], default="relu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Dataset(examples(2000), examples(100), examples(100), classes=10)
    rounds = [
        {name: seconds(name, data, arguments.activation) for name in METHODS}
        for _ in range(arguments.rounds + 1)
    ]
    found = {**vars(arguments), "methods": {}}
    for name in METHODS:
        ratios = [each[name] / each["real"] for each in rounds[1:]]
        found["methods"][name] = {
            "seconds": round(statistics.median(each[name] for each in rounds[1:]), 4),
            "ratio": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""How a step's cost grows with width, batch, layers and threads: ``python -m benchmarks.growth``.

Stochastic BinaryConnect with Adam in the compiled pass, in turns with the same network's
real-valued step (fused Adam) and with forward and backward alone. One size changes at a time; the
others are those of the MLP 784-1024-1024-1024-10, batch 100, one thread. Prints a line for each
network, or JSON with ``--json``: milliseconds, and the ratio to the real-valued step.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch

from benchmarks.step import Task, floor_step, method_step, real_step
from benchmarks.turns import rounds
from bnnbench.environment import cores
from bnnbench.pace import pace_of
from bnnbench.updates import OnePass

METHOD = "bc-stochastic adam"
USUAL = {"width": 1024, "batch": 100, "depth": 3, "threads": 1}
TRIED: dict[str, tuple[int, ...]] = {
    "width": (128, 256, 512, 1024, 2048),
    "batch": (25, 50, 100, 200, 400),
    "depth": (1, 2, 3, 5),
    "threads": (1, cores()),
}


def measured(sizes: dict[str, int], count: int) -> dict[str, Any]:
    """The milliseconds of a step, of the real-valued step and of the products, and the ratio."""
    torch.set_num_threads(sizes["threads"])
    task = Task(**{name: size for name, size in sizes.items() if name != "threads"})
    batch = (task.batch, *task.shape)
    pace_of(task.network(), batch, sizes["threads"], sizes["threads"]).set()
    seconds = rounds(
        {
            "step": method_step(task, METHOD, OnePass),
            "real": real_step(task, torch.optim.Adam, {"lr": 1e-4, "fused": True}),
            "products": floor_step(task),
        },
        count,
    )
    ratios = [a / b for a, b in zip(seconds["step"], seconds["real"], strict=True)]
    ms = {name: round(statistics.median(spent) * 1e3, 2) for name, spent in seconds.items()}
    return {**sizes, **ms, "ratio": round(statistics.median(ratios), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    for name, sizes in TRIED.items():
        for size in sizes:
            found.append(measured(USUAL | {name: size}, arguments.rounds))
            if not arguments.json:
                told = ", ".join(f"{key} {value:,}" for key, value in found[-1].items())
                print(f"{name:8} {told}", flush=True)
    if arguments.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

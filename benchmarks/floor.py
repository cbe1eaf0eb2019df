"""What no training step can fall below, by arithmetic: ``python -m benchmarks.floor``.

The operations and the bytes of a step of the MLP 784-1024-1024-1024-10, batch 100, against two
ceilings that are measured here: of products, the most operations a second that a square product
reaches, and of memory, the most bytes a second that a sum of two large arrays reads and writes.
For a batch of B and layers of n_in x n_out weights, of 4 bytes each:

    forward             2 B sum n_in n_out      operations; every weight is read
    backward, weights   2 B sum n_in n_out      every gradient is written
    backward, inputs    the same without the first layer; its weights are read again
    update, Adam        w, g, m and v are read, w, m, v and the binary weight written

Each part takes the longer of its two times; activations, a few hundred kilobytes a layer, stay in
cache and count for nothing. Beside the floor stand a step of deterministic BinaryConnect through
the compiled pass, and its products alone. With ``--json``: the ceilings, the parts, the floor and
the step in milliseconds, and the load of the machine as it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.step import Task, floor_step, method_step
from benchmarks.turns import rounds, timed
from bnnbench.environment import processor
from bnnbench.layers import binary_layers
from bnnbench.pace import pace_of
from bnnbench.updates import OnePass

METHOD = "bc-deterministic adam"
NUMBER = 4  #: bytes of a float32
SIDES = (1024, 2048)  #: of the square products
ARRAY = 2**24  #: numbers of an array that is in no cache
MOVED = 8  #: arrays that Adam's pass reads or writes


class Part(NamedTuple):
    """A part of a step."""

    name: str
    operations: int
    bytes: int


def parts(sizes: list[tuple[int, int]], batch: int) -> list[Part]:
    """Return the parts of a step, for layers of n_in x n_out weights, the first first.

    >>> [(part.operations, part.bytes) for part in parts([(3, 2), (2, 1)], 10)]
    [(160, 32), (160, 32), (40, 8), (0, 256)]
    """
    weights = [n_in * n_out for n_in, n_out in sizes]
    all_of, later = sum(weights), sum(weights[1:])
    return [
        Part("forward", 2 * batch * all_of, NUMBER * all_of),
        Part("backward, weights", 2 * batch * all_of, NUMBER * all_of),
        Part("backward, inputs", 2 * batch * later, NUMBER * later),
        Part("update, Adam", 0, MOVED * NUMBER * all_of),
    ]


def quickest(work: Callable[[], object], count: int) -> float:
    """The least seconds that some work takes: what the machine can do."""
    return min([timed(work) for _ in range(count + 1)][1:])  # the first sets up memory


def product_ceiling(count: int) -> float:
    """Operations a second."""
    squares = [(torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)) for n in SIDES]
    return max(
        2 * len(a) ** 3 / quickest(lambda a=a, b=b, c=c: torch.mm(a, b, out=c), count)  # type: ignore[misc]
        for a, b, c in squares
    )


def memory_ceiling(count: int) -> float:
    """Bytes a second, of two arrays that are read and one that is written."""
    a, b, c = (torch.rand(ARRAY) for _ in range(3))
    return 3 * NUMBER * ARRAY / quickest(lambda: torch.add(a, b, out=c), count)


def milliseconds(part: Part, products: float, memory: float) -> float:
    """What a part takes at the ceilings."""
    return 1e3 * max(part.operations / products, part.bytes / memory)


def measured(threads: int, count: int) -> dict[str, Any]:
    task = Task()
    model = task.network()
    pace = pace_of(model, (task.batch, *task.shape), threads, threads)
    pace.set()
    weights = [layer.get_parameter("weight") for layer in binary_layers(model).values()]
    sizes = [(weight.shape[1], weight.shape[0]) for weight in weights]
    products, memory = product_ceiling(count), memory_ceiling(count)
    found = [
        {**part._asdict(), "ms": round(milliseconds(part, products, memory), 2)}
        for part in parts(sizes, task.batch)
    ]
    seconds = rounds({"step": method_step(task, METHOD, OnePass), "alone": floor_step(task)}, count)
    step, alone = (round(statistics.median(spent) * 1e3, 2) for spent in seconds.values())
    floor = round(sum(part["ms"] for part in found), 2)
    return {
        "processor": processor(), "torch": torch.__version__, "threads": threads,
        "products": pace.products, "load": round(os.getloadavg()[0], 1),
        "gflop_per_second": round(products / 1e9, 1), "gb_per_second": round(memory / 1e9, 1),
        "parts": found, "floor_ms": floor, "products_alone_ms": alone, "step_ms": step,
        "step_to_floor": round(step / floor, 2),
    }  # fmt: skip


def lines(told: dict[str, Any]) -> str:
    """The parts in a table, between the machine and the step."""
    facts = ("processor", "torch", "threads", "products", "load")
    head = ", ".join(f"{fact} {told[fact]}" for fact in facts)
    rows = [
        f"{part['name']:20} {part['operations'] / 1e9:6.3f} Gflop"
        f" {part['bytes'] / 1e6:7.1f} MB {part['ms']:7.2f} ms"
        for part in told["parts"]
    ]
    return "\n".join([
        head,
        f"ceilings: {told['gflop_per_second']} Gflop/s, {told['gb_per_second']} GB/s",
        *rows,
        f"floor {told['floor_ms']} ms, products alone {told['products_alone_ms']} ms,"
        f" step {told['step_ms']} ms: {told['step_to_floor']} of the floor",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    told = measured(arguments.threads, arguments.rounds)
    print(json.dumps(told, indent=2) if arguments.json else lines(told))


if __name__ == "__main__":
    main()

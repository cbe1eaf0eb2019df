"""Means to move binary weights, one against another: ``python -m benchmarks.backends``.

Deterministic BinaryConnect with Adam over 2.9 million weights, on one thread: step, clip, sign and
flip count. All means take turns; times are of the processor, so that others at work are not in
them. A ratio is the median over the rounds of the ratio to torch's fused Adam alone.

    fused Adam       torch's own, and nothing else
    separate         fused Adam, clamp, sign and comparison, each by torch
    compiled (torch) the same by ``torch.compile``; needs a C++ compiler
    native           one pass in C, built with the C compiler of this machine, -O3 -march=native
    numba, layers    the pass of :mod:`bnnbench.kernels`, called for each of four layers
    numba, flat      the same over one buffer that has them all

What a machine cannot build is left out, and named. Prints a line each, or JSON with ``--json``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnnbench import kernels
from bnnbench.elementwise import passed
from bnnbench_plugins.binarizers import Sign
from bnnbench_plugins.optimizers import ADAM, ClippedAdam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (784 * 1024, 1024 * 1024, 1024 * 1024, 1024 * 10)
REFERENCE = "fused Adam"
WARMUP = 3
NATIVE = """
#include <math.h>
long pass(float *w, const float *g, float *m, float *v, float *out, long n, float rate,
          float share1, float beta2, float share2, float eps, float root, float bound) {
    int flips = 0;
    for (long i = 0; i < n; i++) {
        float moved = m[i] + share1 * (g[i] - m[i]);
        float square = beta2 * v[i] + share2 * g[i] * g[i];
        float now = w[i] - rate * moved / (sqrtf(square) / root + eps);
        now = now < -bound ? -bound : now > bound ? bound : now;
        flips += (now >= 0) != (w[i] >= 0);
        w[i] = now, m[i] = moved, v[i] = square;
        out[i] = now >= 0 ? 1.0f : -1.0f;
    }
    return flips;
}
"""


class Weights:
    """Weights, gradients, moments and outputs of their own for each means."""

    def __init__(self, sizes: tuple[int, ...] = SIZES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.w = [torch.rand(n, generator=generator) * 2 - 1 for n in sizes]
        self.g = [torch.randn(n, generator=generator) * 1e-3 for n in sizes]
        self.m, self.v, self.out = ([torch.zeros(n) for n in sizes] for _ in range(3))
        self.optimizer = ClippedAdam([{"params": [w]} for w in self.w], lr=1e-4)
        for w, g in zip(self.w, self.g, strict=True):
            w.grad = g

    def numbers(self) -> tuple[float, ...]:
        """What the rule is given in a tenth step."""
        return self.optimizer.elementwise(self.optimizer.param_groups[0], 10).numbers


def fused_adam() -> Callable[[], object]:
    weights = Weights()
    optimizer = torch.optim.Adam(weights.w, lr=1e-4, fused=True)
    return lambda: optimizer.step()  # type: ignore[no-any-return,no-untyped-call]


def separate() -> Callable[[], object]:
    weights = Weights()

    def step() -> int:
        before = [w >= 0 for w in weights.w]
        weights.optimizer.step()
        for w, out in zip(weights.w, weights.out, strict=True):
            out.copy_(Sign().forward(w))
        pairs = zip(weights.w, before, strict=True)
        return sum(int(torch.count_nonzero((w >= 0) ^ codes)) for w, codes in pairs)

    return step


def compiled_by_torch() -> Callable[[], object]:
    weights = Weights((sum(SIZES),))
    bound, rate, share1, beta2, share2, eps, _, root = weights.numbers()

    def move(w: Any, g: Any, m: Any, v: Any, out: Any) -> Any:
        m.copy_(m + share1 * (g - m))
        v.copy_(beta2 * v + share2 * g * g)
        now = torch.clamp(w - rate * m / (torch.sqrt(v) / root + eps), -bound, bound)
        flips = ((now >= 0) ^ (w >= 0)).sum()
        w.copy_(now)
        out.copy_(torch.where(now >= 0, 1.0, -1.0))
        return flips

    compiled = torch.compile(move)
    arrays = [each[0] for each in (weights.w, weights.g, weights.m, weights.v, weights.out)]

    def step() -> object:
        with torch.no_grad():
            return compiled(*arrays)

    step()
    return step


def native() -> Callable[[], object]:
    weights, compiler = Weights(), shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "pass.c", Path(folder) / "pass.so"
        source.write_text(NATIVE)
        flags = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared")
        command = [compiler, *flags, "-fPIC", str(source), "-o", str(library), "-lm"]
        subprocess.run(command, check=True)
        call = ctypes.CDLL(str(library))["pass"]
    call.restype = ctypes.c_long
    bound, rate, share1, beta2, share2, eps, _, root = weights.numbers()
    numbers = list(map(ctypes.c_float, (rate, share1, beta2, share2, eps, root, bound)))

    def step() -> int:
        rows = zip(weights.w, weights.g, weights.m, weights.v, weights.out, strict=True)
        return sum(call(*map(_address, row), ctypes.c_long(len(row[0])), *numbers) for row in rows)

    return step


def _address(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def by_numba(sizes: tuple[int, ...]) -> Callable[[], object]:
    weights = Weights(sizes)
    moved = weights.optimizer.elementwise(weights.optimizer.param_groups[0], 10)
    sign = Sign().elementwise(weights.w[0].view(1, -1))
    rules, numbers = (moved.rule, sign.forward, passed, False), (moved.numbers, (), sign.numbers)
    assert moved.moments == ADAM

    def step() -> int:
        rows = zip(weights.w, weights.g, weights.m, weights.v, weights.out, strict=True)
        return sum(
            kernels.run(rules, (w, g, out), [m, v], numbers, (0, 0), parallel=False)
            for w, g, m, v, out in rows
        )

    return step


MEANS: dict[str, Callable[[], Callable[[], object]]] = {
    REFERENCE: fused_adam,
    "separate": separate,
    "compiled (torch)": compiled_by_torch,
    "native": native,
    "numba, layers": lambda: by_numba(SIZES),
    "numba, flat": lambda: by_numba((sum(SIZES),)),
}


def built() -> Iterator[tuple[str, Callable[[], object]]]:
    """The means that this machine can build."""
    for name, build in MEANS.items():
        try:
            yield name, build()
        except Exception as error:
            print(f"{name}: left out, {str(error).splitlines()[0]}")


def measured(rounds: int) -> dict[str, list[float]]:
    """The seconds of each means in each round."""
    means = dict(built())
    found: dict[str, list[float]] = {name: [] for name in means}
    for number in range(rounds + WARMUP):
        for name, step in means.items():
            begun = time.process_time()
            step()
            if number >= WARMUP:
                found[name].append(time.process_time() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measured(arguments.rounds)
    told = {
        name: {
            "ms": round(statistics.median(spent) * 1e3, 2),
            "ratio": round(
                statistics.median(a / b for a, b in zip(spent, seconds[REFERENCE], strict=True)), 2
            ),
        }
        for name, spent in seconds.items()
    }
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        for name, figures in told.items():
            print(f"{name:18} {figures['ms']:7.2f} ms  {figures['ratio']:5.2f}")


if __name__ == "__main__":
    main()

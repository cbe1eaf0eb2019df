"""What it costs to feed a network: ``python -m benchmarks.data``.

Augmenting a standardized batch of 128 images of CIFAR's shape against making it of one PIL image
after the other, cropped, mirrored, converted and standardized; reading an epoch of MNIST's shape in
a random order against copying its bytes; preparing GCN and ZCA of CIFAR-10 (the files below
BNNBENCH_DATA where they are, else random bytes) against reading the result from the cache.

What is compared takes turns, the quickest of several by the processor's clock; the first round is
warm-up. The rest is timed by the clock on the wall. Prints JSON: medians of milliseconds or
seconds, medians and ranges of the ratios of each round.

``--svhn`` only prepares 630,420 random images of SVHN's shape and says what memory that took; it
needs 9.7 GB of disk for some minutes, in the folder for temporary files.

Peak memory is that of a process of its own, torch and the mapped bytes included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from bnnbench.downloads import data_root
from bnnbench.interfaces import Split
from bnnbench_plugins.augmentations import augmentation
from bnnbench_plugins.datasets.images import Images
from bnnbench_plugins.prepared import Prepared, prepare
from bnnbench_plugins.preprocessing import recipe
from bnnbench_plugins.preprocessing.pixels import BNEW

BATCH, SIDE, PADDING = 128, 32, 4
TURN = 0.2  #: seconds of each turn
SVHN = {"train": 598_388, "validation": 6_000, "test": 26_032}
CIFAR = {"train": 45_000, "validation": 5_000, "test": 10_000}
RECORD = 1 + 3 * SIDE * SIDE  #: bytes of an image in CIFAR-10's binary version


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quickest(work: Callable[[], object]) -> float:
    """The least of the processor's time that it took: what else ran then is not in it."""
    times: list[float] = []
    while sum(times) < TURN:
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def compared(
    works: dict[str, Callable[[], object]], base: str, rounds: int
) -> dict[str, dict[str, object]]:
    """Milliseconds of the processor's time for each work, and how many times those of ``base``."""
    times = [{name: quickest(work) for name, work in works.items()} for _ in range(rounds + 1)]
    found: dict[str, dict[str, object]] = {}
    for name in works:
        ratios = [each[name] / each[base] for each in times[1:]]
        found[name] = {
            "milliseconds": round(1e3 * statistics.median(each[name] for each in times[1:]), 3),
            "ratio": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return found


def pil_parts(photographs: list[Image.Image]) -> list[Image.Image]:
    """Each image padded, cropped and, or not, mirrored."""
    parts = []
    for photograph in photographs:
        padded = ImageOps.expand(photograph, PADDING)
        left, top = random.randint(0, 2 * PADDING), random.randint(0, 2 * PADDING)
        part = padded.crop((left, top, left + SIDE, top + SIDE))
        parts.append(ImageOps.mirror(part) if random.random() < 0.5 else part)
    return parts


def pil_batch(parts: list[Image.Image]) -> torch.Tensor:
    """PIL images as the batch that a network needs, each converted and standardized as it comes."""
    mean, sd = (torch.tensor(values).view(3, 1, 1) for values in (BNEW.mean, BNEW.sd))
    tensors = [torch.from_numpy(np.array(part)).permute(2, 0, 1).float() for part in parts]
    return torch.stack([each.div_(255).sub_(mean).div_(sd) for each in tensors])


def augmenting(rounds: int) -> dict[str, dict[str, object]]:
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    photographs = [Image.fromarray(each) for each in pixels]
    inputs, targets = pil_batch(photographs), torch.zeros(BATCH, dtype=torch.int64)
    black = pil_batch([Image.new("RGB", (1, 1))]).flatten()
    augment, resize = augmentation("crop-flip", black), augmentation("resized-crop-flip", black)
    assert augment is not None
    assert resize is not None
    generator = torch.Generator().manual_seed(0)
    works: dict[str, Callable[[], object]] = {
        "crop-flip": lambda: augment(inputs, targets, generator),
        "resized-crop-flip": lambda: resize(inputs, targets, generator),
        "PIL, to a batch": lambda: pil_batch(pil_parts(photographs)),
        "PIL, images only": lambda: pil_parts(photographs),
        "copy": lambda: inputs.clone(),
    }
    return compared(works, "crop-flip", rounds)


def reading(rounds: int) -> dict[str, dict[str, object]]:
    split = Split(torch.rand(50_000, 1, 28, 28), torch.zeros(50_000, dtype=torch.int64))
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        for _ in split.batches(100, torch.randperm(len(split), generator=generator)):
            pass

    kept = split.inputs.clone()
    works: dict[str, Callable[[], object]] = {
        "epoch in batches of 100": epoch,
        "copy": lambda: split.inputs.clone(),
        "copy over another": lambda: kept.copy_(split.inputs),
    }
    return compared(works, "copy", rounds)


def cifar() -> tuple[str, Images]:
    """The 60,000 images of CIFAR-10, or random ones; and which."""
    files = sorted((data_root() / "cifar10" / "cifar-10-batches-bin").glob("*_batch*.bin"))
    if not files:
        size = (sum(CIFAR.values()), 3, SIDE, SIDE)
        return "random", Images([np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)])
    records = [np.fromfile(path, np.uint8).reshape(-1, RECORD)[:, 1:] for path in files]
    return "CIFAR-10", Images([each.reshape(-1, 3, SIDE, SIDE) for each in records])


def split_up(images: Images, sizes: dict[str, int]) -> dict[str, Images]:
    rows = np.split(np.arange(len(images)), np.cumsum(list(sizes.values()))[:-1])
    return {name: images.subset(each) for name, each in zip(sizes, rows, strict=True)}


def gigabytes() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def touched(prepared: Prepared) -> None:
    for inputs in prepared.inputs.values():
        inputs.sum()


def whitening() -> dict[str, object]:
    """Seconds of fitting, of applying, and of both with the cache around them; peak memory."""
    name, images = cifar()
    splits = split_up(images, CIFAR)
    began = time.perf_counter()
    transform = recipe("gcn-zca").fit(splits["train"].chunks())
    fit = time.perf_counter() - began
    apply = seconds(lambda: deque((transform(chunk) for chunk in images.chunks()), maxlen=0))
    prepare_ = seconds(lambda: touched(prepare("gcn-zca", splits, {"benchmark": name})))
    load = statistics.median(
        seconds(lambda: touched(prepare("gcn-zca", splits, {"benchmark": name}))) for _ in range(5)
    )
    return {
        "images": f"{len(images):,} of {name}",
        "fit_seconds": round(fit, 2),
        "apply_seconds": round(apply, 2),
        "prepare_and_touch_seconds": round(prepare_, 2),
        "load_and_touch_seconds": round(load, 3),
        "preparing_is_times_loading": round(prepare_ / load, 1),
        "peak_gigabytes": gigabytes(),
    }


def svhn() -> dict[str, object]:
    """Seconds and peak memory of preparing as many images as SVHN has, from a mapped file."""
    shape = (sum(SVHN.values()), 3, SIDE, SIDE)
    path = Path(os.environ["BNNBENCH_CACHE"]) / "svhn"
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, shape[0], 10_000):
            file.write(generator.bytes((min(start + 10_000, shape[0]) - start) * (RECORD - 1)))
    splits = split_up(Images([np.memmap(path, np.uint8, "r", shape=shape)]), SVHN)
    before = gigabytes()
    took = seconds(lambda: prepare("gcn-lcn", splits, {"benchmark": "svhn"}))
    return {
        "images": f"{shape[0]:,}, random",
        "prepare_seconds": round(took, 1),
        "peak_gigabytes": gigabytes(),
        "peak_gigabytes_before": before,
    }


def alone(part: str) -> dict[str, object]:
    """Run one part in a process of its own, with a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.data", "--part", part]
        environment = {**os.environ, "BNNBENCH_CACHE": cache}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return dict(json.loads(done.stdout))


PARTS = {"whitening": whitening, "svhn": svhn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="torch's; numpy's are OMP's")
    parser.add_argument("--svhn", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.part:
        found: dict[str, object] = PARTS[arguments.part]()
    elif arguments.svhn:
        found = {"svhn, gcn-lcn": alone("svhn")}
    else:
        found = {
            "cifar-10, gcn-zca": alone("whitening"),
            "augmenting a batch": augmenting(arguments.rounds),
            "reading an epoch": reading(arguments.rounds),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

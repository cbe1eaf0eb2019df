"""The promises of a data set: its splits, their batches, and that they hold different examples."""

from __future__ import annotations

import hashlib
import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.interfaces import Dataset, Examples
from bnnbench.metrics import UNLABELLED
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.stage import difference
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

KIND = "datasets"
SPLITS = ("train", "validation", "test")
NUMBERS = 2**22  #: of a split's inputs, as many as are looked at
SHARED = 0.01  #: what share of a split's examples may lie in another; published sets have some


def dataset(subject: Subject) -> Dataset:
    """Return the data set, loaded once."""
    made: Dataset = _loaded(subject.target, tuple(sorted(subject.values.items(), key=str)))
    return made


@lru_cache(maxsize=1)
def _loaded(target: Callable[..., Any], values: tuple[tuple[str, Any], ...]) -> Any:
    return target(**dict(values))


def splits(subject: Subject) -> dict[str, Examples]:
    """Return the splits by name."""
    made = dataset(subject)
    return {name: getattr(made, name) for name in SPLITS}


def order(examples: Examples, most: int = 40) -> Tensor:
    """Return the numbers of a few examples of a split, spread over it, in random order."""
    spread = torch.linspace(0, len(examples) - 1, min(most, len(examples))).long().unique()
    places = torch.randperm(len(spread), generator=torch.Generator().manual_seed(0))
    shuffled: Tensor = spread[places]
    return shuffled


def seen(
    examples: Examples, numbers: Tensor, size: int = 16, seed: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Return batches of some examples, as copies; with a seed they are augmented."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = examples.batches(size, numbers, generator)
    return [(inputs.clone(), targets.clone()) for inputs, targets in batches]


def _joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It makes a Dataset with examples in each of its three splits.

    If not: return bnnbench.interfaces.Dataset(train, validation, test, classes), with Splits.
    """
    made = dataset(subject)
    if not isinstance(made, Dataset):
        raise Failure(f"it makes a {type(made).__name__}, which is no bnnbench Dataset")
    for name, examples in splits(subject).items():
        if not len(examples):
            raise Failure(f"the {name} split is empty")
        if tuple(examples.shape) != tuple(made.shape):
            raise Failure(f"{name} has inputs of {examples.shape}, and train of {made.shape}")


@check(KIND, "works")
def inputs(subject: Subject) -> None:
    """Inputs are finite float32 of the shape that the split tells, for training and judging.

    If not: convert them once, as the data set is loaded.
    """
    for name, examples in splits(subject).items():
        for x, _ in seen(examples, order(examples)):
            if x.dtype != torch.float32 or tuple(x.shape[1:]) != tuple(examples.shape):
                got = f"{tuple(x.shape[1:])} of {x.dtype}"
                raise Failure(f"inputs of {name} must be {examples.shape} of float32, got {got}")
            if not x.isfinite().all():
                raise Failure(f"an input of {name} is not a finite number")


@check(KIND, "works")
def targets(subject: Subject) -> None:
    """Targets are int64 in [0, classes), one for each example, or for each of its pixels.

    If not: number the classes from 0, and convert with .long(); only pixels may have no label.
    """
    made = dataset(subject)
    pixels = made.task == "segmentation"
    for name, examples in splits(subject).items():
        for x, y in seen(examples, order(examples, 400)):
            wanted = (len(x), *(x.shape[2:] if pixels else ()))
            if y.dtype != torch.int64 or tuple(y.shape) != wanted:
                got = f"{tuple(y.shape)} of {y.dtype}"
                raise Failure(f"targets of {name} must be {wanted} of torch.int64, got {got}")
            labelled = y[y != UNLABELLED] if pixels else y
            if ((labelled < 0) | (labelled >= made.classes)).any():
                told = f"{labelled.min()} to {labelled.max()}"
                raise Failure(f"targets of {name} are {told}, of {made.classes} classes")


@check(KIND, "works")
def moves(subject: Subject) -> None:
    """Splits can be put on a device, where they hold the same examples.

    If not: return the split itself, or a copy whose batches are on the device, from to().
    """
    for name, examples in splits(subject).items():
        there, numbers = examples.to("cpu"), order(examples)
        if len(there) != len(examples) or there.fingerprint() != examples.fingerprint():
            raise Failure(f"{name} moved to the CPU is not what it was")
        if difference(seen(examples, numbers), seen(there, numbers)):
            raise Failure(f"{name} moved to the CPU has other batches")


@check(KIND, "conforms")
def order_is_honoured(subject: Subject) -> None:
    """Batches hold the examples that are asked for, in their order, the last one the rest.

    If not: look examples up by the numbers in ``order``; shuffle nothing yourself.
    """
    for name, examples in splits(subject).items():
        numbers = order(examples, 21)
        batches = seen(examples, numbers, size=8)
        sizes = [len(part) for part in numbers.split(8)]
        if [len(x) for x, _ in batches] != sizes or [len(y) for _, y in batches] != sizes:
            got = [len(x) for x, _ in batches]
            raise Failure(f"{name} in batches of 8 must be {sizes} examples, got {got}")
        alone = [seen(examples, number[None], size=1)[0] for number in numbers]
        if difference(_joined(batches), _joined(alone)):
            raise Failure(f"{name} in another order has other examples")


@check(KIND, "conforms")
def all_as_they_lie(subject: Subject) -> None:
    """Without an order there are all examples, as they lie.

    If not: let batches(size) go through the split from its first example to its last.
    """
    for name, examples in splits(subject).items():
        first, _ = next(examples.batches(8))
        numbers = torch.arange(min(8, len(examples)))
        if difference(first, _joined(seen(examples, numbers, size=8))[0]):
            raise Failure(f"{name} without an order does not begin with its first examples")
        if math.prod(examples.shape) * len(examples) <= NUMBERS:
            count = sum(len(y) for _, y in examples.batches(64))
            if count != len(examples):
                raise Failure(f"{name} has {len(examples)} examples, and batches of {count}")


@check(KIND, "conforms")
def equal_chances(subject: Subject) -> None:
    """The same order and the same state of a generator give the same batches.

    If not: let an augmentation draw from the generator that it is given, and from no other.
    """
    train = splits(subject)["train"]
    numbers = order(train)
    torch.manual_seed(1)
    once = seen(train, numbers, seed=3)
    torch.manual_seed(2)
    if difference(once, seen(train, numbers, seed=3)):
        raise Failure("with an equal generator the batches of train are others")
    plain = _joined(seen(train, numbers))
    if difference([t.shape for t in _joined(once)], [t.shape for t in plain]):
        raise Failure("augmented, examples of train have another shape")
    if once and once[0][0].dtype != torch.float32:
        raise Failure(f"augmented, inputs of train are {once[0][0].dtype}")


@check(KIND, "conforms")
def nothing_is_changed(subject: Subject) -> None:
    """Augmenting leaves the examples themselves as they are.

    If not: let an augmentation return new tensors, and change none in place.
    """
    train = splits(subject)["train"]
    numbers = torch.arange(min(16, len(train)))
    before = seen(train, numbers)
    for x, _ in train.batches(16, numbers, torch.Generator().manual_seed(1)):
        x.sum()
    for x, _ in itertools.islice(train.batches(16, None, torch.Generator().manual_seed(1)), 2):
        x.sum()
    if difference(before, seen(train, numbers)):
        raise Failure("after they were augmented, the examples of train are others")


@check(KIND, "conforms")
def splits_are_apart(subject: Subject) -> None:
    """No example lies in two splits (of published sets, one in a hundred at most).

    If not: split by example, after removing what occurs twice; where it must be so, say why in the
    suite's ``shared``.
    """
    if why := subject.options.get("shared"):
        raise Skipped(f"examples are shared: {why}")
    found = {name: _digests(examples) for name, examples in splits(subject).items()}
    for one, other in itertools.combinations(SPLITS, 2):
        both = found[one] & found[other]
        least = min(len(found[one]), len(found[other]))
        if len(both) > SHARED * least:
            raise Failure(f"{one} and {other} have {len(both)} of {least} examples in common")


def _digests(examples: Examples) -> set[bytes]:
    """What stands for the inputs of a split, or for many of them."""
    most = max(64, NUMBERS // math.prod(examples.shape))
    batches = examples.batches(64, order(examples, most).sort().values)
    return {
        hashlib.sha256(each.contiguous().numpy().tobytes()).digest()
        for inputs, _ in batches
        for each in inputs
    }


@check(KIND, "conforms")
def fingerprints(subject: Subject) -> None:
    """Each split has a short fingerprint of its own, the same when the data set is made anew.

    If not: let it depend on the examples and their order, as bnnbench.interfaces.fingerprint does.
    """
    told: dict[str, Any] = {
        name: examples.fingerprint() for name, examples in splits(subject).items()
    }
    if bad := [n for n, t in told.items() if not (isinstance(t, str) and 0 < len(t) <= 64)]:
        raise Failure(f"the fingerprint of {bad[0]} must be a short text")
    if len(set(told.values())) < len(told):
        raise Failure("two splits have one fingerprint")
    anew: Dataset = subject.build()
    for name, text in told.items():
        if getattr(anew, name).fingerprint() != text:
            raise Failure(f"made anew, {name} has another fingerprint: it is not the same data")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It leaves all generators, and what holds for the whole process, as they are.

    If not: let chance come from a generator of your own, with a seed of its own.
    """
    with untouched(may_draw=False):
        made: Dataset = subject.build()
        seen(made.train, order(made.train), seed=1)

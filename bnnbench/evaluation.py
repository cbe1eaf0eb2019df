"""Judging a network with the weights of an inference mode."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from bnnbench.metrics import TALLIES, UNLABELLED
from bnnbench.readings import numbers
from bnnbench.seeds import RandomState, derive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bnnbench.interfaces import Examples, InferenceMode, Loss, Task
    from bnnbench.latents import Latents

BATCH = 1000  #: most examples in one forward pass, and
NUMBERS = 2**22  #: most numbers in its inputs; the result does not depend on them


class Score(NamedTuple):
    """The mean ``loss`` over a split's labels, and its task's metrics in percent, by name.

    Without a single label there is no such mean: it is not a number.
    """

    loss: float
    metrics: Mapping[str, float]


def evaluate(
    model: nn.Module,
    latents: Latents,
    mode: InferenceMode,
    examples: Examples,
    loss: Loss,
    task: Task = "classification",
    seed: int = 0,
) -> Score:
    """Return the score of the network on a split, computing with the weights of the mode.

    With several draws the outputs of the sampled networks are averaged (BinaryConnect, section
    2.6, third option). The draws depend on ``seed`` alone, and the caller's generators are left
    as they were. The network is left in the mode it was found in, its binary weights changed.
    """
    found = scored(model, latents, mode, examples, loss, task, seed)
    values = dict(zip(found, numbers(list(found.values())), strict=True))
    return Score(values.pop("loss"), values)


@torch.no_grad()
def scored(
    model: nn.Module,
    latents: Latents,
    mode: InferenceMode,
    examples: Examples,
    loss: Loss,
    task: Task = "classification",
    seed: int = 0,
) -> dict[str, Any]:
    """Return the metrics and, last, the "loss" of :func:`evaluate`, as tensors on the device."""
    training = model.training
    model.eval()
    tally, mean = TALLIES[task](), _Mean()
    with RandomState(derive(seed, "evaluation")).in_force():
        for outputs, inputs, targets in _answers(model, latents, mode, examples):
            tally.add(outputs, targets)
            mean.add(loss(outputs, inputs, targets), targets)
    model.train(training)
    return {**tally.metrics(), "loss": mean.value()}


class _Mean:
    """The mean loss over all labels, from those of the batches; one without labels has no say."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.counts: list[Tensor] = []

    def add(self, loss: Tensor, targets: Tensor) -> None:
        labelled = (targets != UNLABELLED).sum()
        self.losses.append(torch.where(labelled > 0, loss.double() * labelled, 0))
        self.counts.append(labelled)

    def value(self) -> Tensor:
        return torch.stack(self.losses).sum() / torch.stack(self.counts).sum()


def _answers(
    model: nn.Module, latents: Latents, mode: InferenceMode, examples: Examples
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Outputs, inputs and targets, batch by batch."""
    if mode.draws == 1:
        latents.project(mode.view)
        for inputs, targets in batches_of(examples):
            yield model(inputs), inputs, targets
        return
    means = _averages(model, latents, mode, examples)
    for outputs, (inputs, targets) in zip(means, batches_of(examples), strict=True):
        yield outputs, inputs, targets


def batches_of(examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets in batches of a size that fits into memory."""
    size = max(1, min(BATCH, NUMBERS // math.prod(examples.shape)))
    return examples.batches(size)


def _averages(
    model: nn.Module, latents: Latents, mode: InferenceMode, examples: Examples
) -> list[Tensor]:
    """The mean outputs of the sampled networks, batch by batch.

    Each network sees the whole split before the next is drawn: there is room for one set of outputs
    and a batch of another.
    """
    means: list[Tensor] = []
    for draw in range(mode.draws):
        latents.project(mode.view)
        for place, (inputs, _) in enumerate(batches_of(examples)):
            outputs = model(inputs) / mode.draws
            if draw:
                means[place] += outputs
            else:
                means.append(outputs)
    return means


@contextmanager
def reestimated(
    model: nn.Module, latents: Latents, mode: InferenceMode, batches: list[Tensor]
) -> Iterator[None]:
    """Let batch normalization hold the statistics of the mode's own weights, until the block ends.

    The running statistics belong to the weights they were gathered with; a network judged with
    other weights may want its own. They are the plain averages over ``batches`` of training
    inputs; dropout is off. An empty list changes nothing.
    """
    if not batches:
        yield
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(m, m.momentum, {k: v.clone() for k, v in m.named_buffers()}) for m in norms]
    training = model.training
    try:
        _reestimate(model, latents, mode, norms, batches)
        yield
    finally:
        model.train(training)
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)


@torch.no_grad()
def _reestimate(
    model: nn.Module,
    latents: Latents,
    mode: InferenceMode,
    norms: list[nn.modules.batchnorm._BatchNorm],
    batches: list[Tensor],
) -> None:
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    with RandomState(derive(0, "reestimation")).in_force():
        for count, inputs in enumerate(batches, 1):
            for norm in norms:  # a plain average; torch's None asks the device for the count
                norm.momentum = 1 / count
            latents.project(mode.view)
            model(inputs)


def weight_bits(views: Mapping[str, Tensor]) -> int:
    """Return how many bits a weight has: 1, 2 or 32.

    One if every filter of every layer takes at most two values, two if at most four. Measured on
    the weights themselves, whatever the method says of them. Without binary layers all weights are
    real: 32.
    """
    if not views:
        return 32
    values = max(_values_of_a_filter(weight) for weight in views.values())
    return 1 if values <= 2 else 2 if values <= 4 else 32


def _values_of_a_filter(weight: Tensor) -> int:
    """The number of different values in the filter that has the most of them."""
    ordered = weight.flatten(1).sort(1).values
    return 1 + int((ordered[:, 1:] != ordered[:, :-1]).sum(1).max())

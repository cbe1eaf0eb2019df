"""Whether a training can be divided: each process with a part of every batch, the sum unchanged.

It can where a network treats examples one by one, but for batch normalization, and draws in layers
without parts; and where a loss is a mean over its targets. All of it is tried on a few examples
before anything is trained: the whole at once, and part by part.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from bnnbench.errors import UsageError
from bnnbench.parallel.normalization import plain_norms
from bnnbench.parallel.parts import Parts, WholeDraws, share
from bnnbench.seeds import RandomState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from bnnbench.interfaces import Examples, Loss

ALIKE = 0.05  #: of the largest output: so much less is rounding, and signs that it turns
EXACT = 1e-5  #: of the loss, beside what the outputs differ by
WAY_OUT = "train it with --processes-per-run 1"


def divided(
    network: nn.Module, loss: Loss, batch: tuple[Tensor, Tensor], size: int
) -> list[nn.Module]:
    """Return the layers that draw, once a batch could be divided among ``size`` processes.

    The network is left as it is.

    Raises:
        UsageError: several processes would not train what one trains.
    """
    inputs, targets = batch
    with RandomState(0).in_force(), _in_training(network):
        drawing = _drawing(network, lambda: loss(network(inputs), inputs, targets))
        outputs, whole = _passed(network, loss, inputs, targets)
        sliced, total = _part_by_part(network, loss, batch, drawing, size)
    strayed = (outputs - sliced).abs().max().item()
    if not strayed <= ALIKE * outputs.abs().max().item():
        raise UsageError(
            "a network that is trained in several processes must treat examples one by one but for"
            f" torch's batch normalization, this one gives other outputs for parts of a batch;"
            f" {WAY_OUT}"
        )
    if not abs(whole.item() - total) <= EXACT * abs(whole.item()) + 4 * strayed:
        raise UsageError(
            "a loss that is computed in several processes must be a mean over the targets, this one"
            f" is {whole.item():.6g} for a batch and {total:.6g} for its parts; {WAY_OUT}"
        )
    return drawing


def few(examples: Examples, batch_size: int, size: int) -> tuple[Tensor, Tensor]:
    """Return a batch to try, of two or three examples for each process.

    Raises:
        UsageError: a batch has fewer examples than there are processes.
    """
    if batch_size < size:
        raise UsageError(
            f"each process of a run needs an example of every batch, got batch_size {batch_size}"
            f" and --processes-per-run {size}; take fewer processes, or a larger batch_size"
        )
    return next(examples.batches(min(batch_size, 3 * size - 1)))


def _passed(
    network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = network(inputs)
    return outputs.detach(), loss(outputs, inputs, targets)


def _part_by_part(
    network: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, Tensor],
    drawing: list[nn.Module],
    size: int,
) -> tuple[Tensor, float]:
    """The outputs of all parts, and their losses by their shares, with the same chance for all."""
    inputs, targets = batch
    outputs, total = [], 0.0
    for rank in range(size):
        parts = Parts(rank, size)
        with RandomState(0).in_force(), _whole_draws(drawing, parts), parts.of(len(targets)) as own:
            answered, value = _passed(network, loss, inputs[own], targets[own])
        outputs.append(answered)
        total += float(value.detach() * share(targets[own], targets))
    return torch.cat(outputs), total


@contextmanager
def _whole_draws(layers: list[nn.Module], parts: Parts) -> Iterator[None]:
    hooks = [WholeDraws(layer, parts) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _in_training(network: nn.Module) -> Iterator[None]:
    """Let a network be in training, its normalizations excepted, until the block ends."""
    modes = {module: module.training for module in network.modules()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    for norm in plain_norms(network):
        norm.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])


def _drawing(network: nn.Module, run: Callable[[], object]) -> list[nn.Module]:
    """The layers that draw random numbers as something runs.

    Raises:
        UsageError: something else draws, which nobody can divide.
    """
    found: dict[nn.Module, None] = {}
    states: dict[nn.Module, list[Tensor]] = {}

    def before(layer: nn.Module, given: object) -> None:
        states[layer] = _chance()

    def after(layer: nn.Module, given: object, output: object) -> None:
        if not _equal(states[layer], _chance()):
            found[layer] = None
            _set_chance(states[layer])

    with ExitStack() as hooks:
        for layer in network.modules():
            if not list(layer.children()):
                hooks.enter_context(layer.register_forward_pre_hook(before))
                hooks.enter_context(layer.register_forward_hook(after))
        start = _chance()
        run()
        if not _equal(start, _chance()):
            raise UsageError(
                "a network that is trained in several processes may draw in layers without parts"
                f" alone (Dropout, binarizers), this one draws between them, or its loss does;"
                f" {WAY_OUT}"
            )
    return list(found)


def _chance() -> list[Tensor]:
    """The states of the generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


def _set_chance(states: list[Tensor]) -> None:
    cpu, *cuda = states
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)


def _equal(states: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(states, others, strict=True))

"""Trainings that a way of moving weights has to stand: the checks of methods and optimizers."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.seeds import derive
from bnnbench.spaces import Choice, Float, Int
from bnnbench.testing.checks import Failure, Skipped
from bnnbench.testing.stage import (
    SEED,
    convolutions,
    copied,
    difference,
    end,
    epochs_of,
    finish,
    network,
    training,
)
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from bnnbench.latents import Latents
    from bnnbench.methods import Method
    from bnnbench.spaces import Hyperparameter

EPOCHS = 32  #: of the task that is to be learned
LEARNED = 50.0  #: percent of its four classes
POINTS = 5  #: of a search space
_LOSS = ("loss", "train")


class Watcher:
    """A probe that measures nothing and calls a function after every step."""

    def __init__(self, watch: Callable[[Latents], None], begin: Callable[[Latents], None]) -> None:
        self.watch, self.begin, self.begun = watch, begin, False

    def step(self, latents: Latents) -> None:
        """Call it."""
        self.watch(latents)

    def epoch(self, latents: Latents) -> tuple[()]:
        """Look at the latents before the first step."""
        if not self.begun:
            self.begin(latents)
        self.begun = True
        return ()

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember nothing."""


def trains(method: Method) -> None:
    """Train networks of no, one and three binary layers, and one of convolutions."""
    epochs = epochs_of(method)
    made = {f"{n} binary layers": network(n) for n in (0, 1, 3)}
    for name, model in (made | {"convolutions and frozen parameters": convolutions()}).items():
        under_way = training(method, epochs, model)
        finish(under_way)
        if not all(w.isfinite().all() for w in under_way.latents.tensors.values()):
            raise Failure(f"with {name} a latent is not a finite number after {epochs} epochs")


def half(method: Method) -> None:
    """Train with products in bfloat16."""
    under_way = training(method, epochs_of(method), precision="bf16")
    finish(under_way)
    for name, w in under_way.latents.tensors.items():
        if w.dtype != torch.float32 or not w.isfinite().all():
            raise Failure(f"the latents of {name} must be finite numbers of float32, got {w.dtype}")


def equal(make: Callable[[], Method]) -> None:
    """Train twice with one seed."""
    ends = []
    for _ in range(2):
        method = make()
        under_way = training(method, epochs_of(method))
        ends.append((finish(under_way), end(under_way)))
    if found := difference(ends[0], ends[1]):
        raise Failure(f"two trainings with one seed differ in {found}")


def taken_up(make: Callable[[], Method]) -> None:
    """Break a training off after each of its epochs, and take it up with new parts."""
    method = make()
    epochs = epochs_of(method)
    states: list[Any] = []
    whole = training(method, epochs)
    for _ in whole:
        if 0 < whole.epoch < epochs:
            states.append(copied(whole.state(), "the training's state"))
    for state in states:
        again = training(make(), epochs, network(seed=9))
        again.load(state)
        finish(again)
        if found := difference(end(whole), end(again)):
            told = f"taken up after epoch {state['epoch']} of {epochs}"
            raise Failure(f"{told}, a training ends with another {found}")


def flips(method: Method) -> None:
    """Count flips one by one, and compare with what the harness has counted."""
    before: dict[str, list[bool]] = {}

    def look(latents: Latents) -> dict[str, list[bool]]:
        return {n: [w >= 0 for w in t.flatten().tolist()] for n, t in latents.tensors.items()}

    def compare(latents: Latents) -> None:
        counted, now = latents.flips.by_layer(), look(latents)
        for name, codes in now.items():
            there = sum(a != b for a, b in zip(codes, before[name], strict=True))
            if there != int(counted[name]):
                raise Failure(f"in {name} a step flips {there} weights, {counted[name]} counted")
        before.update(now)

    probe = Watcher(compare, lambda latents: before.update(look(latents)))
    finish(training(method, epochs_of(method), probes=[probe]))


def global_state(make: Callable[[], Method]) -> None:
    """Train, and look at what belongs to the process before, after and at every step."""
    seeds: set[int] = set()

    def look(latents: Latents) -> None:
        seeds.add(torch.initial_seed())

    with untouched(may_draw=False):
        method = make()
        finish(training(method, epochs_of(method), probes=[Watcher(look, lambda latents: None)]))
    if seeds != {derive(SEED, "training")}:
        raise Failure("it changes the seed of torch's generator, which is the run's, in training")


def binary(method: Method) -> None:
    """Train, and look at the weights that the binary network would have."""
    modes = method.inference_modes()
    if "binary" not in modes:
        raise Failure(f"its inference modes are {', '.join(modes)}, and none of them 'binary'")
    for model in (network(), convolutions()):
        under_way = training(method, epochs_of(method), model)
        finish(under_way)
        for name, latent in under_way.latents.tensors.items():
            weight = modes["binary"].view(latent)
            of_one_bit(weight, name)
            if not torch.equal(weight, latent):  # it is not kept binary, so that it may be 0
                zeros = latent.masked_fill(torch.arange(latent.shape[-1]) % 3 == 0, 0.0)
                of_one_bit(modes["binary"].view(zeros), f"{name} with latents of 0")


def of_one_bit(weight: Tensor, name: str) -> None:
    """Refuse weights that are not +-alpha, of one alpha above 0 for each filter.

    Raises:
        Failure: there is a 0, or another size.
    """
    size = weight.detach().abs().flatten(1)
    zeros = int((size == 0).sum())
    if zeros:
        raise Failure(f"{zeros} binary weights of {name} are 0, which is no value of one bit")
    if not size.isfinite().all():
        raise Failure(f"binary weights of {name} are not finite numbers")
    if not torch.equal(size, size[:, :1].expand_as(size)):
        raise Failure(f"binary weights of {name} have more than one size in a filter")


def learns(method: Method) -> None:
    """Train on the easy task a network that has binary weights and no other parameters.

    Raises:
        Failure: the loss does not fall, or the accuracy is that of chance.
        Skipped: no weight has been moved.
    """
    under_way = training(method, max(EPOCHS, epochs_of(method)), network(affine=False))
    begun = under_way.latents.codes()
    told = finish(under_way)
    if not difference(begun, under_way.latents.codes()):
        raise Skipped("it moves no weight, so that there is nothing to be learned by it")
    losses = [m.value for m in told if (m.metric, m.split) == _LOSS]
    if not losses[-1] < losses[0]:
        raise Failure(f"the training loss goes from {losses[0]:.3g} to {losses[-1]:.3g}")
    judged = (m for m in told if m.metric == "accuracy" and m.mode == method.judged)
    best = max(m.value for m in judged)
    if best < LEARNED:
        raise Failure(
            f"an easy task of four classes is learned to {best:.0f} %; chance is 25 %, and"
            f" {LEARNED:.0f} % the least"
        )


def loss_falls(method: Method) -> None:
    """Train for some epochs: the loss of the last is below that of the first."""
    told = finish(training(method, EPOCHS, network(affine=False)))
    losses = [m.value for m in told if (m.metric, m.split) == _LOSS]
    if not losses[-1] < losses[0]:
        change = f"from {losses[0]:.3g} to {losses[-1]:.3g}"
        raise Failure(f"in {EPOCHS} epochs the training loss goes {change}")


def points(known: Mapping[str, Hyperparameter]) -> Iterator[dict[str, Any]]:
    """Yield points of a search space, its corners first.

    Raises:
        Skipped: there is none.
    """
    spaces = {name: hyper.space for name, hyper in known.items() if hyper.space is not None}
    if not spaces:
        raise Skipped("it has no search space")
    for place in (0, -1):
        yield {name: _ends(space)[place] for name, space in spaces.items()}
    drawing = random.Random(0)  # noqa: S311  # no secret
    for _ in range(POINTS - 2):
        yield {name: _drawn(space, drawing) for name, space in spaces.items()}


def _ends(space: Float | Int | Choice) -> tuple[Any, ...]:
    return space.options if isinstance(space, Choice) else (space.low, space.high)


def _drawn(space: Float | Int | Choice, drawing: random.Random) -> Any:
    if isinstance(space, Choice):
        return drawing.choice(space.options)
    if isinstance(space, Int):
        return drawing.randint(space.low, space.high)
    share = drawing.random()
    if space.log:
        return float(space.low * (space.high / space.low) ** share)
    return space.low + (space.high - space.low) * share


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as torch.compile traces it, run as it is: what is quick to make."""
    torch._dynamo.reset()  # it gives up after a few functions of one name
    made: Callable[..., Any] = torch.compile(function, backend="eager")
    return made


def run_compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that may be a compiled one.

    Raises:
        Skipped: torch cannot compile it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of torch's compiler
            return function(*arguments)
    except Exception as error:
        if type(error).__module__.startswith("torch._dynamo"):
            raise Skipped(f"torch cannot compile it: {str(error).splitlines()[0]}") from None
        raise

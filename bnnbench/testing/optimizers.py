"""The promises of an optimizer: a torch.optim.Optimizer class, over one group for each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.elementwise import Movement, has_rule
from bnnbench.schedules import Progress, Scheduled
from bnnbench.testing import trials
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.common import another, known
from bnnbench.testing.growth import check_flat
from bnnbench.testing.stage import copied, difference, method_of
from bnnbench.testing.surroundings import untouched
from bnnbench.updates import requires_closure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

KIND = "optimizers"
SHAPES = ((5, 7), (3, 2, 3, 3))  #: a dense layer and a convolution
START = Progress(0, 1, 0, 1)


def latents(shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 0) -> list[Tensor]:
    """Return latents of [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes]


def scheduled(subject: Subject, **values: Any) -> Scheduled[torch.optim.Optimizer]:
    """Return the optimizer with its hyperparameters, some of them changed."""
    return Scheduled(subject.target, **(subject.values | values))


def over(subject: Subject, weights: Sequence[Tensor], **values: Any) -> torch.optim.Optimizer:
    """Return the optimizer over some latents, as a phase builds it."""
    groups = [{"params": [w], "layer": str(n)} for n, w in enumerate(weights)]
    return scheduled(subject, **values).optimizer(groups, START)


def push(
    optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], steps: int = 3, seed: int = 0
) -> None:
    """Take some steps with random gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        take(optimizer, weights, generator)


def take(
    optimizer: Any, weights: Sequence[Tensor], generator: torch.Generator, step: Any = None
) -> None:
    """Take a step, with random gradients there or, where it asks for them, from a closure."""
    asked, step = Gradients(weights, generator), step or optimizer.step
    if requires_closure(optimizer):
        step(asked)
    else:
        asked()
        step()
    optimizer.zero_grad()


class Gradients:
    """A :class:`bnnbench.interfaces.Closure` that leaves random gradients."""

    examples = 100

    def __init__(self, weights: Sequence[Tensor], generator: torch.Generator) -> None:
        self.weights, self.generator = weights, generator

    def __call__(self) -> Tensor:
        """Leave a gradient at each latent; return a loss."""
        for w in self.weights:
            w.grad = torch.randn(w.shape, generator=self.generator, dtype=w.dtype)
        return torch.ones(())


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It is a torch.optim.Optimizer, and is built over groups of parameters by its defaults.

    If not: derive the class from torch.optim.Optimizer and call super().__init__(params, defaults)
    with a dict of all hyperparameters.
    """
    made = over(subject, latents())
    if not isinstance(made, torch.optim.Optimizer):
        raise Failure(f"it makes a {type(made).__name__}, which is no torch.optim.Optimizer")
    if len(made.param_groups) != len(SHAPES):
        raise Failure(f"of {len(SHAPES)} groups it has made {len(made.param_groups)}")


@check(KIND, "works")
def steps(subject: Subject) -> None:
    """A few steps leave finite numbers in every latent, in place, of the same shape and type.

    If not: change the latents in place (w.add_(...), under torch.no_grad()), and divide by nothing
    that can be 0.
    """
    weights = latents()
    before = [(w.shape, w.dtype, w.data_ptr()) for w in weights]
    push(over(subject, weights), weights)
    if not all(w.isfinite().all() for w in weights):
        raise Failure("after three steps a latent is not a finite number")
    if before != [(w.shape, w.dtype, w.data_ptr()) for w in weights]:
        raise Failure("a step puts another tensor in the place of a latent")


@check(KIND, "works")
def trains(subject: Subject) -> None:
    """With the signs of its latents a network is trained, of no, one and three binary layers.

    If not: the exception tells; step() is called after every batch, with all gradients there.
    """
    trials.trains(method_of(binary=scheduled(subject)))


@check(KIND, "conforms")
def hyperparameters_are_keys(subject: Subject) -> None:
    """Every hyperparameter of the signature is a key of each parameter group, with its value.

    If not: put all of them into the dict that is handed to torch.optim.Optimizer: a schedule
    writes there, by name.
    """
    made = over(subject, latents())
    for name in known(subject):
        for group in made.param_groups:
            if name not in group or name not in made.defaults:
                raise Failure(f"{name!r} is a parameter of the class, and no key of param_groups")
            if group[name] != subject.values[name]:
                told = f"{subject.values[name]!r}, and its group has {group[name]!r}"
                raise Failure(f"it was given {name} = {told}")


@check(KIND, "conforms")
def groups_are_read(subject: Subject) -> None:
    """A value that is written into the groups does what it would have done from the start.

    If not: read hyperparameters from the group in step(), not from self.
    """
    found = {n: another(h, subject.values[n]) for n, h in known(subject).items()}
    changes = {name: value for name, value in found.items() if value is not None}
    if not changes:
        raise Skipped("it has no hyperparameter whose value could be changed")
    for name, value in changes.items():
        told, written = latents(), latents()
        torch.manual_seed(0)
        push(over(subject, told, **{name: value}), told)
        late = over(subject, written)
        scheduled(subject, **{name: value}).update(late, START)
        torch.manual_seed(0)
        push(late, written)
        if difference(told, written):
            raise Failure(f"{name} = {value!r} in the groups is not what it is in the signature")


@check(KIND, "conforms")
def groups_are_apart(subject: Subject) -> None:
    """A group's own value moves the group's parameters and no others, however many there are.

    If not: let each group of param_groups use its own hyperparameters, and each of its parameters
    its own state.
    """
    found = {n: another(h, subject.values[n]) for n, h in known(subject).items()}
    names = [name for name, value in found.items() if value is not None]
    change = {names[0]: found[names[0]]} if names else {}
    shapes = (*SHAPES, (4, 4))
    together, apart = latents(shapes), latents(shapes)
    made = scheduled(subject).optimizer([{"params": together[:2]}, {"params": together[2:]}], START)
    made.param_groups[1].update(change)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    push(made, together)
    if not torch.equal(before, torch.get_rng_state()):
        raise Skipped("it draws random numbers, in the order of the parameters")
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    for generator, part, values in zip(
        generators, (slice(0, 2), slice(2, 3)), ({}, change), strict=True
    ):
        mine = over(subject, apart[part], **values)
        for _ in range(3):
            take(mine, apart, generator)
    if found_ := difference(together, apart):
        raise Failure(f"parameters {found_} depend on the other groups")


@check(KIND, "conforms")
def missing_gradients(subject: Subject) -> None:
    """A parameter without a gradient, as a frozen one has none, is no error.

    If not: pass over the parameters whose grad is None.
    """
    weights = latents()
    made = over(subject, weights)
    take(made, weights[:1], torch.Generator().manual_seed(0))
    if not all(w.isfinite().all() for w in weights):
        raise Failure("a latent is not a finite number once another has no gradient")


@check(KIND, "conforms")
def equal_seeds(subject: Subject) -> None:
    """Equal latents, gradients and seeds give equal bits.

    If not: draw random numbers from torch's generator alone, whose state belongs to the run.
    """
    ends = []
    for _ in range(2):
        weights = latents()
        torch.manual_seed(3)
        push(over(subject, weights), weights, steps=5)
        ends.append(weights)
    if difference(ends[0], ends[1]):
        raise Failure("two trainings alike end with different weights")


@check(KIND, "conforms")
def state_goes_on(subject: Subject) -> None:
    """A new optimizer that is given state_dict() goes on bit for bit where the first one stood.

    If not: keep all that it remembers of a parameter in self.state[parameter], as tensors and
    numbers, and let load_state_dict() be torch's.
    """
    first = latents()
    one = over(subject, first)
    torch.manual_seed(3)
    push(one, first, seed=1)
    saved, second = copied(one.state_dict(), "state_dict()"), [w.clone() for w in first]
    other = _over_loaded(subject, second, first, saved)
    for made, weights in ((one, first), (other, second)):
        torch.manual_seed(4)
        push(made, weights, steps=4, seed=2)
    if found := difference(first, second):
        raise Failure(f"after load_state_dict() latent {found} goes another way")


def _over_loaded(
    subject: Subject, weights: list[Tensor], as_they_were: Sequence[Tensor], saved: Any
) -> torch.optim.Optimizer:
    """An optimizer as a training that is taken up builds it: made, loaded, latents put back."""
    made = over(subject, weights)
    made.load_state_dict(saved)
    with torch.no_grad():
        for w, was in zip(weights, as_they_were, strict=True):
            w.copy_(was)
    return made


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It seeds nobody's generator and sets nothing that holds for the whole process.

    If not: remove torch.manual_seed, numpy.random.seed and their like: the harness seeds a run.
    """
    weights = latents()
    with untouched(may_draw=True):
        push(over(subject, weights), weights)


@check(KIND, "conforms")
def flips_are_counted(subject: Subject) -> None:
    """The harness counts as many flips as there are, weight by weight.

    If not: change latents in step() alone, in place.
    """
    trials.flips(method_of(binary=scheduled(subject)))


@check(KIND, "conforms")
def memory_is_flat(subject: Subject) -> None:
    """What it keeps does not grow with the number of its steps.

    If not: keep the latest of what is remembered, not a list of all of it, and no graph: detach.
    """
    weights = latents()
    made = over(subject, weights)
    check_flat(lambda steps: push(made, weights, steps), subject.target)


@check(KIND, "conforms")
def taken_up(subject: Subject) -> None:
    """A training that is broken off and taken up ends with the bits of one that was not.

    If not: keep nothing that training depends on outside of state_dict().
    """
    trials.taken_up(lambda: method_of(binary=scheduled(subject)))


@check(KIND, "conforms")
def half_precision(subject: Subject) -> None:
    """It trains where the products are computed in bfloat16.

    If not: the latents and their gradients are float32 all the same; take their type as it is.
    """
    trials.half(method_of(binary=scheduled(subject)))


@check(KIND, "conforms")
def rule(subject: Subject) -> None:
    """Its rule for one weight, where it has one, moves a weight as its step does.

    If not: write elementwise() anew from step(), or leave it out: then step() alone is used.
    """
    weights = latents()
    made: Any = over(subject, weights)
    if not has_rule(made):
        raise Skipped("it has no rule for one weight")
    ruled = [w.clone() for w in weights]  # as they are once it is built
    moments: list[list[Tensor] | None] = [None] * len(ruled)
    for step in range(1, 5):
        generator = torch.Generator().manual_seed(step)
        for w in weights:
            w.grad = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for n, group in enumerate(made.param_groups):
            moved: Movement = made.elementwise(group, step)
            old = moments[n] or [torch.zeros_like(ruled[n]) for _ in moved.moments]
            new = moved.rule(ruled[n], weights[n].grad, *old, *moved.numbers)
            ruled[n], *moments[n] = new if isinstance(new, tuple) else (new,)
        made.step()
        for n, (w, mine) in enumerate(zip(weights, ruled, strict=True)):
            if not torch.allclose(w, mine, rtol=1e-4, atol=1e-6):
                raise Failure(f"at step {step} its rule moves weights otherwise than its step")
            ruled[n] = w.clone()  # what is rounded does not add up


@check(KIND, "conforms")
def learns(subject: Subject) -> None:
    """With it a small network learns an easy task: the loss falls, accuracy is above chance.

    If not: look at the sign of the update, and whether the defaults are of a useful size.
    """
    trials.learns(method_of(binary=scheduled(subject)))


@check(KIND, "strict")
def search_space(subject: Subject) -> None:
    """Wherever its search space allows, its steps leave finite numbers.

    If not: narrow the search space of Annotated[...].
    """
    for values in trials.points(known(subject)):
        weights = latents()
        push(over(subject, weights, **values), weights)
        if not all(w.isfinite().all() for w in weights):
            raise Failure(f"with {values} a latent is not a finite number after three steps")


@check(KIND, "strict")
def compiles(subject: Subject) -> None:
    """torch.compile can take its step, with the same result.

    If not: let step() be plain operations on tensors; numbers that change belong into the groups.
    """
    plain, traced = latents(), latents()
    one, other = over(subject, plain), over(subject, traced)
    step = trials.compiled(other.step)
    for number in range(2):
        for made, weights, how in ((one, plain, one.step), (other, traced, step)):
            torch.manual_seed(number)
            generator = torch.Generator().manual_seed(number)
            trials.run_compiled(take, made, weights, generator, how)
    if not all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, traced, strict=True)):
        raise Failure("compiled, its step moves the latents otherwise")

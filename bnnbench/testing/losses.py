"""The promises of a loss: a scalar of outputs, inputs and targets that is to be made small."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from bnnbench.metrics import UNLABELLED
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.growth import check_flat
from bnnbench.testing.stage import CLASSES, NUMBERS, difference, network
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

KIND = "losses"


class Scene(NamedTuple):
    """A loss, the network that it judges, its teacher if it has one, and a batch.

    The targets are the classes that the teacher would say.
    """

    loss: Callable[..., Any]
    student: nn.Module
    teacher: nn.Module
    inputs: Tensor
    targets: Tensor

    def of(self, outputs: Tensor, targets: Tensor | None = None) -> Any:
        """Return the loss of some outputs."""
        return self.loss(outputs, self.inputs, self.targets if targets is None else targets)


def scene(subject: Subject, *, learning: bool = False, batch: int = 12) -> Scene:
    """Return a loss with all that it takes; the student is in evaluation unless it learns."""
    student, teacher = network(seed=1), network(seed=2).eval()
    inputs = torch.randn(batch, NUMBERS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        targets = teacher(inputs).argmax(1)
    given = {"teacher": teacher, "student": student}
    taken = inspect.signature(subject.target).parameters
    loss = subject.build(**{name: net for name, net in given.items() if name in taken})
    return Scene(loss, student.train(learning), teacher, inputs, targets)


def right(found: Scene) -> Tensor:
    """Return good outputs: sure of the targets, and as the teacher has them."""
    with torch.no_grad():
        taught: Tensor = found.teacher(found.inputs)
    return taught + 3 * nn.functional.one_hot(found.targets, CLASSES)


def _number(value: Any, told: str) -> float:
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.ndim:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise Failure(f"{told} must be a tensor of no dimensions, got {shape}")
    if not value.isfinite():
        raise Failure(f"{told} is {value.item()}")
    return value.item()


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It makes a function of outputs, inputs and targets; teacher and student are handed over.

    If not: write def my_loss(*, weight=...) and return a function (outputs, inputs, targets).
    """
    made: Any = scene(subject).loss
    if not callable(made):
        raise Failure(f"it makes a {type(made).__name__}, which cannot be called")


@check(KIND, "works")
def is_a_number(subject: Subject) -> None:
    """The loss of a batch is one finite number, as a tensor without dimensions.

    If not: end with .mean(), and return the tensor itself, not its item().
    """
    found = scene(subject)
    _number(found.of(found.student(found.inputs)), "the loss of a batch")


@check(KIND, "works")
def has_a_gradient(subject: Subject) -> None:
    """It is differentiable: a network's parameters get finite gradients that are not all 0.

    If not: keep to differentiable operations on outputs; no detach(), item() or argmax() of them.
    """
    found = scene(subject, learning=True)
    value = found.of(found.student(found.inputs))
    if not value.requires_grad:
        raise Failure("the loss has no gradient at the outputs")
    value.backward()
    grads = [p.grad for p in found.student.parameters() if p.grad is not None]
    if not all(g.isfinite().all() for g in grads):
        raise Failure("a gradient of the loss is not a finite number")
    if not any(g.any() for g in grads):
        raise Failure("the gradient of the loss is 0 everywhere")


@check(KIND, "conforms")
def right_is_lower(subject: Subject) -> None:
    """Right answers have a lower loss than wrong ones.

    If not: look at its sign; a loss is to be made small.
    """
    found = scene(subject)
    good = right(found)
    bad = good.roll(1, dims=1)
    values = [_number(found.of(each), "the loss of a batch") for each in (good, bad)]
    if not values[0] < values[1]:
        raise Failure(f"right answers have the loss {values[0]:.4g}, wrong ones {values[1]:.4g}")


@check(KIND, "conforms")
def is_a_mean(subject: Subject) -> None:
    """The loss of a batch does not depend on how many examples are in it.

    If not: take the mean over the examples, not the sum: Bop's threshold, and the harness's mean
    over a split, depend on it.
    """
    few = scene(subject)
    outputs = few.student(few.inputs)
    once = _number(few.of(outputs), "the loss of a batch")
    twice = few._replace(inputs=few.inputs.repeat(2, 1), targets=few.targets.repeat(2))
    doubled = _number(twice.of(outputs.repeat(2, 1)), "the loss of a batch")
    if not math.isclose(once, doubled, rel_tol=1e-3, abs_tol=1e-6):
        raise Failure(f"a batch that holds every example twice has {doubled:.4g}, not {once:.4g}")


@check(KIND, "conforms")
def is_finite(subject: Subject) -> None:
    """Outputs of 0 and outputs far from it have finite losses and gradients.

    If not: take log_softmax in place of log(softmax), and clamp what is divided by.
    """
    found = scene(subject)
    for scale in (0.0, 1.0, 1e4):
        outputs = (right(found).roll(1, dims=1) * scale).requires_grad_()
        value = found.of(outputs)
        _number(value, f"the loss of outputs of size {scale:g}")
        found_grad: Any = torch.autograd.grad(value, outputs, allow_unused=True)[0]
        if found_grad is None or not found_grad.isfinite().all():
            raise Failure(f"the gradient at outputs of size {scale:g} is not a finite number")


@check(KIND, "conforms")
def changes_nothing(subject: Subject) -> None:
    """It leaves outputs, inputs, targets and the networks' weights as they are, and repeats itself.

    If not: change nothing in place, and draw no random numbers.
    """
    found = scene(subject)
    outputs = found.student(found.inputs).detach()
    before = outputs.clone(), found.inputs.clone(), found.targets.clone()
    weights = [{n: t.clone() for n, t in net.state_dict().items()} for net in found[1:3]]
    values = [_number(found.of(outputs), "the loss of a batch") for _ in range(2)]
    if difference(before, (outputs, found.inputs, found.targets)):
        raise Failure("it changes outputs, inputs or targets in place")
    if values[0] != values[1]:
        raise Failure(f"asked twice, it says {values[0]:.6g} and {values[1]:.6g}")
    if difference(weights, [dict(net.state_dict()) for net in found[1:3]]):
        raise Failure("it changes the weights of a network")


@check(KIND, "conforms")
def pixels(subject: Subject) -> None:
    """Where it takes a class for each pixel, pixels without a label do not count.

    If not: leave out targets of bnnbench.metrics.UNLABELLED, or let it refuse such targets.
    """
    if {"teacher", "student"} & set(inspect.signature(subject.target).parameters):
        raise Skipped("the checks have no teacher of pixels")
    loss, generator = subject.build(), torch.Generator().manual_seed(4)
    outputs = torch.randn(2, CLASSES, 4, 4, generator=generator)
    targets = torch.randint(CLASSES, (2, 4, 4), generator=generator)
    targets[0, 0] = UNLABELLED
    inputs, other = torch.zeros(2, 3, 4, 4), outputs.clone()
    other[0, :, 0] = outputs[0, :, 0].flip(0) * 3
    try:
        values = [loss(each, inputs, targets) for each in (outputs, other)]
    except Exception as error:  # a loss of classes alone may raise what it likes
        raise Skipped(f"it takes no class for each pixel: {type(error).__name__}") from None
    one, two = (_number(each, "the loss of pixels") for each in values)
    if not math.isclose(one, two, rel_tol=1e-5):
        raise Failure("the outputs at a pixel without a label change the loss")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It draws no random numbers and sets nothing that holds for the whole process.

    If not: remove torch.manual_seed and its like, and what is drawn.
    """
    with torch.random.fork_rng(devices=[]):
        found = scene(subject)
        outputs = found.student(found.inputs)
    with untouched(may_draw=False):
        found.of(outputs)


@check(KIND, "conforms")
def memory_is_flat(subject: Subject) -> None:
    """What it keeps does not grow with the number of batches.

    If not: keep no list of what it has seen, and no graph: detach.
    """
    found = scene(subject)

    def steps(count: int) -> None:
        for _ in range(count):
            found.of(found.student(found.inputs)).backward()

    check_flat(steps, subject.target)


@check(KIND, "conforms")
def learns(subject: Subject) -> None:
    """Steps against its gradient make it smaller.

    If not: look at its gradient; torch.autograd.gradcheck helps.
    """
    found = scene(subject, learning=True, batch=64)
    optimizer = torch.optim.Adam(found.student.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        value = found.of(found.student(found.inputs))
        values.append(_number(value, "the loss of a batch"))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if not values[-1] < values[0]:
        raise Failure(f"30 steps of Adam take it from {values[0]:.4g} to {values[-1]:.4g}")

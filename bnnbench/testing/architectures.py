"""The promises of an architecture: a function from the data's shape to a network."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnnbench.errors import UsageError
from bnnbench.layers import binary_layers, real_parameters
from bnnbench.roles import roles
from bnnbench.testing import trials
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.stage import difference
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

KIND = "architectures"
BATCH = 3

#: inputs to try, smallest first, and their numbers of classes; a network may refuse some
SHAPES: Mapping[tuple[int, ...], int] = {
    (1, 8, 8): 3,
    (3, 16, 16): 5,
    (1, 28, 28): 10,
    (3, 32, 32): 10,
    (3, 64, 64): 7,
    (3, 224, 224): 10,
}


def network(subject: Subject, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Return the network for some inputs."""
    torch.manual_seed(seed)
    made: nn.Module = subject.build(shape=shape, classes=_asked(subject)[shape])
    return made


def inputs(shape: tuple[int, ...], batch: int = BATCH) -> Tensor:
    """Return a batch of inputs."""
    return torch.randn((batch, *shape), generator=torch.Generator().manual_seed(7))


def _asked(subject: Subject) -> Mapping[tuple[int, ...], int]:
    shapes: Mapping[tuple[int, ...], int] = subject.options.get("shapes", SHAPES)
    return shapes


def taken(subject: Subject) -> list[tuple[int, ...]]:
    """Return the two smallest inputs that the network takes, or the only one.

    Raises:
        UsageError: it takes none.
    """
    shapes, refused = _taken(subject.target, repr(subject.values), _Held(subject))
    if not shapes and refused is not None:
        raise refused
    return shapes


class _Held:
    """A subject that does not tell one search for shapes from another."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.subject.options == other.subject.options

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=4)
def _taken(
    target: Any, values: str, held: _Held
) -> tuple[list[tuple[int, ...]], UsageError | None]:
    shapes, refused = [], None
    for shape in _asked(held.subject):
        try:
            network(held.subject, shape)(inputs(shape))
        except UsageError as error:
            refused = refused or error
        else:
            shapes.append(shape)
        if len(shapes) == 2:
            break
    return shapes, refused


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It makes a torch.nn.Module of shape and classes, which are handed over by name.

    If not: write def net(*, shape, classes, ...) and return the module. Inputs that it cannot take
    are refused by bnnbench.errors.UsageError; the suite's ``shapes`` names some that it takes.
    """
    made = network(subject, taken(subject)[0])
    if not isinstance(made, nn.Module):
        raise Failure(f"it makes a {type(made).__name__}, which is no torch.nn.Module")


@check(KIND, "works")
def outputs(subject: Subject) -> None:
    """From inputs (batch, *shape) it gives finite outputs (batch, classes), or one for each pixel.

    If not: let the last layer have ``classes`` outputs, and its sizes follow from ``shape``.
    """
    shape = taken(subject)[0]
    _outputs(subject, shape)


def _outputs(subject: Subject, shape: tuple[int, ...]) -> None:
    found: Any = network(subject, shape)(inputs(shape))
    classes = _asked(subject)[shape]
    wanted = [(BATCH, classes), (BATCH, classes, *shape[1:])]
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in wanted:
        got = tuple(getattr(found, "shape", ())) or type(found).__name__
        told = f"inputs {(BATCH, *shape)} and {classes} classes"
        raise Failure(f"of {told} it makes outputs {got}, and not {wanted[0]}")
    if not found.isfinite().all():
        raise Failure(f"of random inputs {(BATCH, *shape)} an output is not a finite number")


@check(KIND, "works")
def binary_layers_learn(subject: Subject) -> None:
    """It has binary layers, and each of them takes part in the loss.

    If not: make them of bnnbench.layers.BinaryLinear and BinaryConv2d, and use each in forward().
    """
    shape = taken(subject)[0]
    made = network(subject, shape)
    layers = binary_layers(made)
    if not layers:
        raise Failure("it has no binary layer, so that a method has nothing to train")
    made(inputs(shape)).square().sum().backward()
    for name, layer in layers.items():
        grad = layer.get_parameter("weight").grad
        if grad is None:
            raise Failure(f"the binary layer {name!r} takes no part in the loss")
        if not grad.isfinite().all():
            raise Failure(f"the gradient of the binary layer {name!r} is not a finite number")


@check(KIND, "conforms")
def several_shapes(subject: Subject) -> None:
    """Shape and classes are honoured where they are others too.

    If not: write no size of inputs or outputs into the network.
    """
    shapes = taken(subject)
    if len(shapes) < 2:
        raise Skipped(f"of the shapes that were tried it takes {shapes[0]} alone")
    _outputs(subject, shapes[1])


@check(KIND, "conforms")
def roles_are_complete(subject: Subject) -> None:
    """Every parameter is binary or real, once, and no binary weight is shared or frozen.

    If not: give every binary layer a weight of its own, and register what is learned as
    torch.nn.Parameter.
    """
    made = network(subject, taken(subject)[0])
    told = roles(made)
    names = [role["parameter"] for role in told]
    if sorted(names) != sorted(dict(made.named_parameters())):
        raise Failure("the roles are not those of its parameters, each once")
    weights = [layer.get_parameter("weight") for layer in binary_layers(made).values()]
    if len({id(weight) for weight in weights}) != len(weights):
        raise Failure("two binary layers have one weight")
    if not all(weight.requires_grad for weight in weights):
        raise Failure("a binary weight is frozen (requires_grad is off)")
    count = {role: sum(t["role"] == role for t in told) for role in ("binary", "real")}
    if count != {"binary": len(weights), "real": len(real_parameters(made))}:
        raise Failure(f"of its parameters {count} are said to be binary and real")


@check(KIND, "conforms")
def equal_seeds(subject: Subject) -> None:
    """Equal seeds give equal weights, other seeds give others, and one network equal outputs.

    If not: draw the weights from torch's generator alone, whose seed is the run's.
    """
    shape = taken(subject)[0]
    one, same, other = (network(subject, shape, seed) for seed in (1, 1, 2))
    if found := difference(one.state_dict(), same.state_dict()):
        raise Failure(f"two networks with one seed differ in {found}")
    if not difference(one.state_dict(), other.state_dict()):
        raise Failure("networks of two seeds have the same weights")
    one.eval(), same.eval()
    with torch.no_grad():
        if difference(one(inputs(shape)), same(inputs(shape))):
            raise Failure("two networks with the same weights answer differently")


@check(KIND, "conforms")
def of_float32(subject: Subject) -> None:
    """Parameters, statistics and outputs are float32.

    If not: leave the type to torch; precision is a setting of the training.
    """
    shape = taken(subject)[0]
    made = network(subject, shape)
    for name, tensor in made.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise Failure(f"{name} is {tensor.dtype}")
    with torch.no_grad():
        if (dtype := made(inputs(shape)).dtype) != torch.float32:
            raise Failure(f"its outputs are {dtype}")


@check(KIND, "conforms")
def judged_alone(subject: Subject) -> None:
    """In evaluation an example's outputs depend on it alone, and asking changes nothing.

    If not: let whatever looks at the batch, or counts, do so where self.training is set.
    """
    shape = taken(subject)[0]
    made, batch = network(subject, shape).eval(), inputs(shape)
    before = {name: t.clone() for name, t in made.state_dict().items()}
    with torch.no_grad():
        whole, again = made(batch), made(batch)
        alone = torch.cat([made(each[None]) for each in batch])
    if difference(whole, again):
        raise Failure("asked twice in evaluation, it gives two answers")
    if not torch.allclose(whole, alone, rtol=1e-3, atol=1e-4):
        raise Failure("in evaluation an example's outputs depend on the others in its batch")
    if found := difference(before, made.state_dict()):
        raise Failure(f"asking it in evaluation changes {found}")


@check(KIND, "conforms")
def weights_are_kept(subject: Subject) -> None:
    """A network that is given another's state_dict() answers as that one does.

    If not: register what it learns as parameters and what it counts as buffers.
    """
    shape = taken(subject)[0]
    one, other = network(subject, shape, seed=1), network(subject, shape, seed=2)
    one(inputs(shape))  # statistics move
    other.load_state_dict(one.state_dict())
    one.eval(), other.eval()
    with torch.no_grad():
        if difference(one(inputs(shape)), other(inputs(shape))):
            raise Failure("with the same state_dict() two networks answer differently")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It seeds nobody's generator and sets nothing that holds for the whole process.

    If not: remove torch.manual_seed and its like: the harness seeds the weights of a run.
    """
    shape = taken(subject)[0]
    with untouched(may_draw=True):
        made: nn.Module = subject.build(shape=shape, classes=_asked(subject)[shape])
        made(inputs(shape)).sum().backward()


@check(KIND, "conforms")
def half_precision(subject: Subject) -> None:
    """Its outputs and gradients are finite where products are computed in bfloat16.

    If not: let layers of your own take the type that they are given.
    """
    shape = taken(subject)[0]
    made = network(subject, shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(inputs(shape))
    found.float().square().mean().backward()
    grads = [p.grad for p in made.parameters() if p.grad is not None]
    if not all(t.isfinite().all() for t in (found, *grads)):
        raise Failure("in bfloat16 an output or a gradient is not a finite number")


@check(KIND, "strict")
def compiles(subject: Subject) -> None:
    """torch.compile can take the network, with the same outputs.

    If not: let forward() be plain operations on tensors.
    """
    shape = taken(subject)[0]
    made = network(subject, shape).eval()
    with torch.no_grad():
        wanted = made(inputs(shape))
        found = trials.run_compiled(trials.compiled(made), inputs(shape))
    if not torch.allclose(wanted, found, rtol=1e-3, atol=1e-4):
        raise Failure("compiled, it gives other outputs")

"""The promises of a binarizer: what the network computes with, and the gradient of the latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnnbench.binarization import sign
from bnnbench.chance import draw_key, uniform
from bnnbench.elementwise import has_rule
from bnnbench.interfaces import Binarizer, InferenceMode
from bnnbench.layers import BinaryActivation
from bnnbench.schedules import Scheduled
from bnnbench.testing import trials
from bnnbench.testing.checks import Failure, Skipped, Subject, check
from bnnbench.testing.common import known
from bnnbench.testing.growth import check_flat
from bnnbench.testing.stage import difference, method_of
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

KIND = "binarizers"


def latents() -> Iterator[tuple[str, Tensor]]:
    """Yield latents of many sizes, in dense layers and convolutions, and what they are."""
    generator = torch.Generator().manual_seed(0)
    for name, shape in {
        "a dense layer": (5, 8),
        "a convolution": (4, 3, 3, 3),
        "a layer of one input": (4, 1),
        "a layer of one filter": (1, 6),
    }.items():
        yield name, torch.rand(shape, generator=generator) * 2 - 1
    far = torch.randn((6, 8), generator=generator) * 1e3
    far[0] = 0.0
    far[1, ::2] = 0.0
    far[2] = 1e-30
    far[3, :2] = torch.tensor([1.0, -1.0])
    yield "a layer with zeros and latents far from 0", far


def gradients(like: Tensor) -> Tensor:
    """Return a gradient of the shape of a latent."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


def _shaped(told: str, result: Any, latent: Tensor) -> None:
    if not isinstance(result, torch.Tensor):
        raise Failure(f"{told} is a {type(result).__name__}, and no tensor")
    if (result.shape, result.dtype) != (latent.shape, latent.dtype):
        shapes = f"{tuple(result.shape)} of {result.dtype}, of {tuple(latent.shape)}"
        raise Failure(f"{told} must have the latent's shape and type, got {shapes}")
    if not result.isfinite().all():
        raise Failure(f"{told} is not a finite number everywhere")


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It has forward, backward and inference_modes, and "binary" is one of the modes.

    If not: write the three methods of bnnbench.interfaces.Binarizer.
    """
    made = subject.build()
    if not isinstance(made, Binarizer):
        wanted = ("forward", "backward", "inference_modes")
        missing = [name for name in wanted if not hasattr(made, name)]
        raise Failure(f"it makes a {type(made).__name__}, which has no {' and no '.join(missing)}")
    modes: Mapping[str, Any] = made.inference_modes()
    if "binary" not in modes:
        raise Failure(f"its inference modes are {', '.join(modes)}, and none of them 'binary'")
    if bad := [n for n, mode in modes.items() if not isinstance(mode, InferenceMode)]:
        raise Failure(f"the inference mode {bad[0]!r} is no bnnbench.interfaces.InferenceMode")


@check(KIND, "works")
def forward(subject: Subject) -> None:
    """The weight has the latent's shape and type, is finite, and the latent is left as it is.

    If not: return a new tensor (or the latent itself), and divide by nothing that can be 0.
    """
    for name, latent in latents():
        before = latent.clone()
        _shaped(f"forward of {name}", subject.build().forward(latent), latent)
        if difference(before, latent):
            raise Failure(f"forward of {name} changes the latent")


@check(KIND, "works")
def backward(subject: Subject) -> None:
    """The latent's gradient has its shape and type, is finite, and nothing is changed in place.

    If not: return a new tensor, or the gradient itself; let no power or quotient overflow.
    """
    for name, latent in latents():
        grad = gradients(latent)
        before = latent.clone(), grad.clone()
        _shaped(f"the gradient of {name}", subject.build().backward(latent, grad), latent)
        if difference(before, (latent, grad)):
            raise Failure(f"backward of {name} changes what it is given")


@check(KIND, "works")
def trains(subject: Subject) -> None:
    """With it a network is trained by Adam, of no, one and three binary layers.

    If not: the exception tells; forward() is called before every batch, backward() after it.
    """
    trials.trains(method_of(Scheduled(subject.target, **subject.values)))


@check(KIND, "conforms")
def one_bit(subject: Subject) -> None:
    """In the mode "binary" the weights of a filter are +-alpha with one alpha, and never 0.

    If not: take bnnbench.binarization.sign, for which 0 is +1 (torch.sign has 0 for
    it), and keep a scale above 0, as with clamp_min(1e-6).
    """
    view = subject.build().inference_modes()["binary"].view
    plain = {name: latent for name, latent in latents()}  # noqa: C416
    for name, latent in plain.items():
        trials.of_one_bit(view(sign(latent)), f"{name} whose latents are binary already")
    if all(torch.equal(view(latent.clone()), latent) for latent in plain.values()):
        raise Skipped(
            "its binary weights are the latents themselves, so that whatever moves them must keep"
            " them binary"
        )
    for name, latent in plain.items():
        trials.of_one_bit(view(latent), name)


@check(KIND, "conforms")
def modes(subject: Subject) -> None:
    """Every inference mode maps a latent to a finite weight of its shape.

    If not: a mode's view is a function of the latent alone; its draws are a whole number above 0.
    """
    for mode_name, mode in subject.build().inference_modes().items():
        if not (isinstance(mode.draws, int) and mode.draws >= 1):
            raise Failure(f"the mode {mode_name!r} has {mode.draws!r} draws")
        for name, latent in latents():
            before = latent.clone()
            _shaped(f"{name} in the mode {mode_name!r}", mode.view(latent), latent)
            if difference(before, latent):
                raise Failure(f"the mode {mode_name!r} changes the latent of {name}")


@check(KIND, "conforms")
def equal_seeds(subject: Subject) -> None:
    """Equal latents and seeds give equal bits, forward and backward, in a new binarizer too.

    If not: a binarizer is built anew for every step: let it remember nothing, and draw from
    torch's generator alone.
    """
    ends = []
    for _ in range(2):
        torch.manual_seed(3)
        made = [(subject.build(), latent) for _, latent in latents()]
        ends.append([(b.forward(w), b.backward(w, gradients(w))) for b, w in made])
    if found := difference(ends[0], ends[1]):
        raise Failure(f"asked twice, {found} differs")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It seeds nobody's generator and sets nothing that holds for the whole process.

    If not: remove torch.manual_seed, numpy.random.seed and their like: the harness seeds a run.
    """
    with untouched(may_draw=True):
        for _, latent in latents():
            made = subject.build()
            made.backward(made.forward(latent), gradients(latent))
            for mode in made.inference_modes().values():
                mode.view(latent)


@check(KIND, "conforms")
def taken_up(subject: Subject) -> None:
    """A training that is broken off and taken up ends with the bits of one that was not.

    If not: a binarizer is built anew for every step: let it remember nothing.
    """
    trials.taken_up(lambda: method_of(Scheduled(subject.target, **subject.values)))


@check(KIND, "conforms")
def half_precision(subject: Subject) -> None:
    """It trains where the products are computed in bfloat16.

    If not: take the type of what is given; name none.
    """
    trials.half(method_of(Scheduled(subject.target, **subject.values)))


@check(KIND, "conforms")
def memory_is_flat(subject: Subject) -> None:
    """What it keeps does not grow with the number of its steps.

    If not: a binarizer remembers nothing.
    """
    made, (_, latent) = subject.build(), next(latents())

    def steps(count: int) -> None:
        for _ in range(count):
            made.backward(latent, made.forward(latent))

    check_flat(steps, subject.target)


@check(KIND, "conforms")
def activation(subject: Subject) -> None:
    """As an activation it hands a finite gradient on.

    If not: let nothing depend on the number of dimensions: activations are (batch, features, ...).
    """
    for shape in ((4, 6), (2, 3, 4, 4)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
        y = BinaryActivation(subject.build())(x)
        _shaped("an activation", y, x)
        y.square().sum().backward()
        _shaped("an activation's gradient", x.grad, x)


@check(KIND, "conforms")
def rule(subject: Subject) -> None:
    """Its rule for one weight, where it has one, is what forward and backward do.

    If not: write elementwise() anew from forward() and backward(), or leave it out.
    """
    made: Any = subject.build()
    if not has_rule(made):
        raise Skipped("it has no rule for one weight")
    for name, latent in latents():
        ruled, grad = made.elementwise(latent), gradients(latent)
        torch.manual_seed(5)
        drawn = (uniform(latent, draw_key()),) if ruled.random else ()
        mine = ruled.forward(latent, *drawn, *ruled.numbers)
        torch.manual_seed(5)
        _alike(f"forward of {name}", mine, made.forward(latent))
        mine = ruled.backward(latent, grad, *ruled.numbers)
        _alike(f"backward of {name}", mine, made.backward(latent, grad))


def _alike(told: str, ruled: Any, plain: Tensor) -> None:
    ruled = torch.as_tensor(ruled, dtype=plain.dtype)
    if not torch.allclose(ruled, plain, rtol=1e-4, atol=1e-6):
        raise Failure(f"its rule and its {told} differ")


@check(KIND, "conforms")
def loss_falls(subject: Subject) -> None:
    """With it the loss of an easy task falls, moved by Adam.

    If not: look at the sign and the size of the gradient that backward() returns.
    """
    trials.loss_falls(method_of(Scheduled(subject.target, **subject.values)))


@check(KIND, "strict")
def search_space(subject: Subject) -> None:
    """Wherever its search space allows, weights and gradients are finite.

    If not: narrow the search space of Annotated[...].
    """
    for values in trials.points(known(subject)):
        made = subject.target(**(subject.values | values))
        for name, latent in latents():
            _shaped(f"with {values}, forward of {name}", made.forward(latent), latent)
            grad = made.backward(latent, gradients(latent))
            _shaped(f"with {values}, the gradient of {name}", grad, latent)


@check(KIND, "strict")
def compiles(subject: Subject) -> None:
    """torch.compile can take its forward, with the same result.

    If not: let forward() be plain operations on tensors.
    """
    made = subject.build()
    step = trials.compiled(made.forward)
    for name, latent in latents():
        torch.manual_seed(1)
        wanted = made.forward(latent)
        torch.manual_seed(1)
        if not torch.allclose(wanted, trials.run_compiled(step, latent), atol=1e-6):
            raise Failure(f"compiled, its forward of {name} is another")

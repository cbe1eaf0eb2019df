"""The promises of a method: a function from hyperparameters to a bnnbench.methods.Method."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bnnbench.latents import Latents
from bnnbench.layers import real_parameters
from bnnbench.methods import Method
from bnnbench.schedules import Progress
from bnnbench.testing import trials
from bnnbench.testing.checks import Failure, Subject, check
from bnnbench.testing.common import known
from bnnbench.testing.growth import STEPS, check_flat
from bnnbench.testing.stage import epochs_of, finish, network, training

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "methods"
START = Progress(0, 1, 0, 1)


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It makes a Method whose judged mode is one of its inference modes, "binary" among them.

    If not: return bnnbench.methods.Method(name, phases), and name one of the modes of the last
    phase's binarizer.
    """
    made = subject.build()
    if not isinstance(made, Method):
        raise Failure(f"it makes a {type(made).__name__}, which is no bnnbench.methods.Method")
    modes = made.inference_modes()
    if missing := [mode for mode in ("binary", made.judged) if mode not in modes]:
        told = f"its inference modes are {', '.join(modes)}"
        raise Failure(f"{told}, and none of them {missing[0]!r}")


@check(KIND, "works")
def trains(subject: Subject) -> None:
    """It trains networks of no, one and three binary layers, and one of convolutions.

    If not: the exception tells; each phase builds a binarizer for every step and its optimizers as
    it begins.
    """
    trials.trains(subject.build())


@check(KIND, "works")
def shortest(subject: Subject) -> None:
    """It trains with as many epochs as it has phases, and with batches of nearly all examples.

    If not: let no schedule divide by a number of steps or epochs that can be 0.
    """
    made = subject.build()
    finish(training(made, len(made.phases), batch_size=200))


@check(KIND, "conforms")
def hyperparameters_are_keys(subject: Subject) -> None:
    """What its phases schedule are hyperparameters of their optimizers, by name.

    If not: name in Scheduled(...) what the optimizer keeps in its param_groups; else the value is
    written where nobody reads it.
    """
    model = network()
    real = [{"params": list(real_parameters(model).values())}]
    for phase in subject.build().phases:
        for role, scheduled in (("binary", phase.binary), ("real", phase.real)):
            groups = Latents(model).groups() if role == "binary" else real
            made = scheduled.optimizer(groups, START)
            for name in scheduled.hyper:
                if name not in made.defaults:
                    kind = getattr(scheduled.kind, "__name__", scheduled.kind)
                    raise Failure(f"{role}: {name!r} is no key of the param_groups of {kind}")


@check(KIND, "conforms")
def equal_seeds(subject: Subject) -> None:
    """Two trainings with one seed end with the same bits.

    If not: draw random numbers from torch's generator alone, whose state belongs to the run.
    """
    trials.equal(subject.build)


@check(KIND, "conforms")
def taken_up(subject: Subject) -> None:
    """A training that is broken off after any epoch and taken up ends with the same bits.

    If not: keep all that training depends on in the optimizers' state; views and schedules
    remember nothing.
    """
    trials.taken_up(subject.build)


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It seeds nobody's generator and sets nothing that holds for the whole process.

    If not: remove torch.manual_seed, numpy.random.seed and their like: the harness seeds a run.
    """
    trials.global_state(subject.build)


@check(KIND, "conforms")
def one_bit(subject: Subject) -> None:
    """After training, the weights of a filter in the mode "binary" are +-alpha, and never 0.

    If not: take bnnbench.binarization.sign, for which 0 is +1 (torch.sign has 0 for
    it), and keep a scale above 0, as with clamp_min(1e-6).
    """
    trials.binary(subject.build())


@check(KIND, "conforms")
def flips_are_counted(subject: Subject) -> None:
    """The harness counts as many flips as there are, weight by weight.

    If not: change latents in the optimizer's step() and a phase's start alone.
    """
    trials.flips(subject.build())


@check(KIND, "conforms")
def half_precision(subject: Subject) -> None:
    """It trains where the products are computed in bfloat16.

    If not: the latents and their gradients are float32 all the same; take their type as it is.
    """
    trials.half(subject.build())


@check(KIND, "conforms")
def memory_is_flat(subject: Subject) -> None:
    """What it keeps does not grow with the number of its steps.

    If not: keep the latest of what is remembered, not a list of all of it, and no graph: detach.
    """
    made = subject.build()
    for phase in made.phases:
        alone = replace(phase, share=1.0, selectable=True, continues=False)
        under_way = training(
            replace(made, phases=(alone,)), epochs=40, train=2 * STEPS, batch_size=2
        )
        check_flat(partial(_steps, iter(under_way)), subject.target)


def _steps(epochs: Iterator[Any], count: int) -> None:
    """So many steps or more, in whole epochs."""
    for _ in range(-(-count // STEPS)):
        next(epochs)


@check(KIND, "conforms")
def learns(subject: Subject) -> None:
    """With it a small network learns an easy task: the loss falls, accuracy is above chance.

    If not: look at the sign of the update, and whether the defaults are of a useful size.
    """
    trials.learns(subject.build())


@check(KIND, "strict")
def search_space(subject: Subject) -> None:
    """Wherever its search space allows, it trains: no latent becomes infinite.

    If not: narrow the search space of Annotated[...].
    """
    for values in trials.points(known(subject)):
        made = subject.target(**(subject.values | values))
        under_way = training(made, epochs_of(made))
        finish(under_way)
        if not all(w.isfinite().all() for w in under_way.latents.tensors.values()):
            raise Failure(f"with {values} a latent is not a finite number")

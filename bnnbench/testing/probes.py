"""The promises of a probe: named numbers read from the latents, and no trace in the training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.measurements import Measurement
from bnnbench.testing.checks import Failure, Subject, check
from bnnbench.testing.growth import STEPS, check_flat
from bnnbench.testing.stage import (
    convolutions,
    copied,
    difference,
    end,
    finish,
    method_of,
    network,
    timeless,
    training,
)
from bnnbench.testing.surroundings import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.training import Training

KIND = "probes"
EPOCHS = 4
PARTS = ("step", "epoch", "state", "load")


def observed(subject: Subject, epochs: int = EPOCHS, **changes: Any) -> Training:
    """Return a training with a new probe, not yet begun."""
    return training(method_of(), epochs, probes=[subject.build()], **changes)


def _place(measured: Measurement) -> tuple[Any, ...]:
    return (measured.metric, measured.epoch, measured.split, measured.mode, measured.layer)


def own(subject: Subject, **changes: Any) -> list[Measurement]:
    """Return what the probe has measured, without what the harness measures."""
    without = {_place(m) for m in finish(training(method_of(), EPOCHS, **changes))}
    return [m for m in finish(observed(subject, **changes)) if _place(m) not in without]


@check(KIND, "works")
def is_built(subject: Subject) -> None:
    """It has step, epoch, state and load.

    If not: write the four methods of bnnbench.interfaces.Probe; those without work do nothing.
    """
    made = subject.build()
    if missing := [part for part in PARTS if not callable(getattr(made, part, None))]:
        raise Failure(f"it makes a {type(made).__name__}, which has no {' and no '.join(missing)}")


@check(KIND, "works")
def observes(subject: Subject) -> None:
    """It observes trainings of no, one and three binary layers, and of convolutions.

    If not: the exception tells; the latents are latents.tensors, by the layer's name.
    """
    for model in (network(0), network(1), network(3), convolutions()):
        finish(observed(subject, model=model))


@check(KIND, "works")
def numbers(subject: Subject) -> None:
    """It measures something, and each measurement is a named finite number in a place of its own.

    If not: yield bnnbench.measurements.Measurement(metric, float(value), layer=layer), each metric
    once an epoch for each layer, split and mode.
    """
    told = finish(observed(subject))
    m: Any
    for m in told:
        if not isinstance(m, Measurement):
            raise Failure(f"it yields a {type(m).__name__}, which is no Measurement")
        name: Any = m.metric
        if not (isinstance(name, str) and name):
            raise Failure(f"a measurement's name must be a text, got {m.metric!r}")
        if isinstance(m.value, bool) or not isinstance(m.value, int | float):
            raise Failure(f"{m.metric} must be a number, got {type(m.value).__name__}")
        if not math.isfinite(m.value):
            raise Failure(f"{m.metric} is {m.value} in epoch {m.epoch}")
    twice = {_place(m) for m in told if sum(_place(o) == _place(m) for o in told) > 1}
    if twice:
        metric, epoch = min(twice, key=str)[:2]
        raise Failure(f"{metric!r} is measured twice in epoch {epoch}, at the same place")
    if not own(subject):
        raise Failure(f"in a training of {EPOCHS} epochs it has measured nothing of its own")


@check(KIND, "works")
def layers(subject: Subject) -> None:
    """A measurement's layer is one of the network's, or empty.

    If not: name layers as latents.tensors does.
    """
    known = {"", *observed(subject).latents.tensors}
    if others := {m.layer for m in own(subject)} - known:
        raise Failure(f"it measures {min(others)!r}, which is no binary layer of the network")


@check(KIND, "conforms")
def state_goes_on(subject: Subject) -> None:
    """In a training that is taken up it measures what it would have measured.

    If not: let state() return all that the next epoch is compared with, and load() take it.
    """
    whole, told, states = observed(subject), [], []
    for measured in whole:
        told.append(timeless(measured))
        if 0 < whole.epoch < EPOCHS:
            states.append((copied(whole.state(), "the training's state"), len(told)))
    for state, done in states:
        again = observed(subject, model=network(seed=9))
        again.load(state)
        later = [timeless(measured) for measured in again]
        if difference(told[done:], later):
            raise Failure(f"taken up after epoch {state['epoch']}, it measures something else")


@check(KIND, "conforms")
def touches_nothing(subject: Subject) -> None:
    """With it, a training ends with the same bits as without it, and draws the same numbers.

    If not: change no latent in place, and leave torch's generator alone; in look() the harness
    puts weights and generators back.
    """
    ends = []
    for made in (observed(subject), training(method_of(), EPOCHS)):
        mine = finish(made)
        ends.append((end(made), made.random.cpu, {_place(m): m.value for m in mine}))
    if found := difference(ends[0][:2], ends[1][:2]):
        raise Failure(f"a training that it observes ends with other weights {found}")
    others = [p for p, value in ends[1][2].items() if difference(ends[0][2][p], value)]
    if others:
        raise Failure(f"it changes what the harness measures, {others[0][0]!r}")


@check(KIND, "conforms")
def equal_seeds(subject: Subject) -> None:
    """Two trainings with one seed give the same measurements.

    If not: draw from torch's generator in look() alone, where it belongs to the run and the epoch.
    """
    torch.manual_seed(1)
    once = finish(observed(subject))
    torch.manual_seed(2)
    if difference(once, finish(observed(subject))):
        raise Failure("observing the same training again, it measures something else")


@check(KIND, "conforms")
def nothing_global(subject: Subject) -> None:
    """It leaves all generators, and what holds for the whole process, as they are.

    If not: remove torch.manual_seed and its like, and draw numbers in look() alone.
    """
    with untouched(may_draw=False):
        finish(observed(subject))


@check(KIND, "conforms")
def memory_is_flat(subject: Subject) -> None:
    """What it keeps from one epoch to the next does not grow.

    If not: forget in epoch() what was gathered in step(), and keep no copy for every epoch.
    """
    under_way = iter(observed(subject, epochs=60, train=2 * STEPS, batch_size=2))
    check_flat(lambda count: _epochs(under_way, count), subject.target)


def _epochs(epochs: Iterator[Any], count: int) -> None:
    """So many steps or more, in whole epochs."""
    for _ in range(-(-count // STEPS)):
        next(epochs)

"""Methods timed in turns on one task.

    round      the reference first, then the others in an order drawn anew
    visit      some training steps of a method, as many for each; the first visit is warm-up
    seconds    of an epoch: seconds of a visit's steps / their number x steps of an epoch

A machine that slows down slows down whole rounds, which leaves the ratios within rounds as they
are. A method is built once and stays in training between its visits: what is compiled or cached is
ready after the first. Of a visit the first step and the last are not counted: the others follow
one another as in the middle of an epoch.

Each phase is trained by itself, from the network as it is before training; a method's seconds are
the mean of its phases', weighted by their epochs. What a method starts from or learns from is not
trained, for no time depends on its weights.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnnbench.buckets import TRAIN
from bnnbench.cells import Cell, check
from bnnbench.checkpoints import Checkpoints, Weights
from bnnbench.clock import Clock
from bnnbench.costs import Cost, Times, beside, cost
from bnnbench.environment import Neighbours, describe_environment
from bnnbench.errors import BnnbenchError, PluginError
from bnnbench.plugins import describe
from bnnbench.schedules import Progress
from bnnbench.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Generator, Tensor

    from bnnbench.experiments import Experiment, Workbench
    from bnnbench.interfaces import Dataset, Examples
    from bnnbench.methods import Method
    from bnnbench.training import Training

VISIT = 0.25  #: seconds of the reference's visit, where its steps are not given
PILOT = 3  #: steps of the visits by which their number is found
FEW = 2  #: examples that a visit ends with evaluating, off the clock
ENDS = 2  #: steps of a visit that are not counted: the first and the last


class Endless:
    """A split's examples over and over, ``count`` at a time: a visit passes for an epoch.

    They come in an order drawn once, so that neighbours lie as far apart as in a shuffled epoch.
    """

    def __init__(self, examples: Examples, count: int, seed: int) -> None:
        self.examples, self.count, self.begun = examples, count, 0
        generator = torch.Generator().manual_seed(derive(seed, "visits"))
        self.rows = torch.randperm(len(examples), generator=generator)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.examples.shape

    def __len__(self) -> int:
        """The number of examples at a time."""
        return self.count

    def batches(
        self, size: int, order: Tensor | None = None, generator: Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; after those in a given order it is the next examples' turn."""
        numbers = torch.arange(self.count) if order is None else order
        rows = self.rows[(self.begun + numbers) % len(self.rows)]
        if order is not None:
            self.begun += self.count
        return self.examples.batches(size, rows, generator)

    def to(self, device: str) -> Endless:
        """Return the same examples: they lie where they are wanted."""
        return self

    def fingerprint(self) -> str:
        """Return that of the split."""
        return self.examples.fingerprint()


class Untrained(Checkpoints):
    """Weights in memory, of runs that others build on, as they are before training.

    The folder holds nothing but what a workbench measures of this machine, once for all methods.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.kept: dict[str, Weights] = {}

    def save_weights(self, weights: Weights) -> None:
        """Keep the weights of a run."""
        self.kept[weights.run.key] = weights

    def weights(self, key: str) -> Weights:
        """Return the weights of a run."""
        return self.kept[key]


class StepClock(Clock):
    """A clock that remembers the seconds of each step of the latest epoch.

    The training loop leaves its bucket after every step, for the probes, and the last time at the
    epoch's end.
    """

    def lap(self) -> dict[str, float]:
        """Return the seconds in each bucket, as any clock does."""
        marks = self.marks
        seconds = super().lap()
        ends = [mark for _, mark in marks[1:]] + [self.marks[0][1]]
        stays = [
            self._between(begin, end)
            for (bucket, begin), end in zip(marks, ends, strict=True)
            if bucket == TRAIN
        ]
        self.steps = stays[:-1]
        return seconds


class Stint:
    """A phase of a method in training; a visit goes on where the one before it stopped."""

    def __init__(self, name: str, share: float, training: Training) -> None:
        self.name, self.share = name, share
        self.clock = training.clock = StepClock(training.settings.device)
        self.measured = iter(training)
        next(self.measured)  # of epoch 0, before training

    def visit(self) -> float:
        """Train for a visit; return the seconds of a step."""
        next(self.measured)
        return statistics.mean(self.clock.steps[1:-1])


class Clocked:
    """A method in training and, by phase, the seconds of a step in each of its visits."""

    def __init__(self, name: str, stints: Iterable[Stint]) -> None:
        self.name, self.stints = name, tuple(stints)
        self.visits: list[tuple[float, ...]] = []

    def visit(self, *, warmup: bool = False) -> None:
        """Visit every phase; what is broken off or is ``warmup`` leaves no trace.

        Raises:
            BnnbenchError: in one line, which method cannot be trained, and why.
        """
        try:
            seconds = tuple(stint.visit() for stint in self.stints)
        except BnnbenchError as error:
            raise type(error)(f"{self.name}: {error}") from error
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{self.name} cannot be trained: {describe(error)}") from error
        if not warmup:
            self.visits.append(seconds)

    def mean(self) -> list[float]:
        """Return the seconds of a step in each visit, the mean of the phases by their share."""
        return [
            sum(stint.share * each for stint, each in zip(self.stints, visit, strict=True))
            for visit in self.visits
        ]


def turns(
    reference: Clocked, others: Sequence[Clocked], rounds: int, seed: int
) -> Iterator[tuple[int, Clocked]]:
    """Visit all in each round; yield the round, of which 0 is warm-up, and who was visited."""
    for number in range(rounds + 1):
        generator = torch.Generator().manual_seed(derive(seed, "turns", number))
        drawn = torch.randperm(len(others), generator=generator).tolist()
        for clocked in (reference, *(others[place] for place in drawn)):
            clocked.visit(warmup=number == 0)
            yield number, clocked


class Timing:
    """The methods of one task, ready to be timed; iterate to let them take their turns.

    The workbench must have :class:`Untrained` checkpoints: others would be written over. ``steps``
    are those of a visit; by default as many as the reference takes in a quarter of a second.

    Raises:
        BnnbenchError: in one line, what cannot be loaded or built.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        workbench: Workbench,
        reference: str,
        *,
        rounds: int,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(workbench.checkpoints, Untrained):
            raise TypeError("methods are timed with a workbench of untrained checkpoints only")
        check(cells, workbench)
        self.rounds, self.seed, self.workbench = rounds, seed, workbench
        self.cell = next(cell for cell in cells if cell.method.name == reference)
        self.data = self._near(workbench.dataset(self.cell.parts["datasets"]))
        self.epoch = len(self.data.train) // self.cell.task.batch_size
        self.steps = steps or self._steps()
        self.clocked = [Clocked(c.method.name, self._stints(c, self.steps)) for c in cells]
        self.reference = next(clocked for clocked in self.clocked if clocked.name == reference)
        self.environment = describe_environment(workbench.plugins, workbench.device)
        self.neighbours: Neighbours | None = None

    @property
    def visits(self) -> int:
        """The number of visits, those of warm-up included."""
        return (self.rounds + 1) * len(self.clocked)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield the round, of which 0 is warm-up, and the name of each method that was visited."""
        others = [clocked for clocked in self.clocked if clocked is not self.reference]
        for number, clocked in turns(self.reference, others, self.rounds, self.seed):
            yield number, clocked.name
            if number == 0:
                self.neighbours = Neighbours()  # the last of round 0 begins the measurement

    def times(self) -> Times:
        """Return what is measured so far; methods without a visit that counts are left out."""
        task = self.cell.task
        return Times(
            task=task.name,
            dataset=task.dataset.name,
            note=self._note(),
            architecture=task.architecture.name,
            batch_size=task.batch_size,
            reference=self.reference.name,
            rounds=len(self.reference.visits),
            steps=self.steps,
            epoch=self.epoch,
            environment=self.environment,
            foreign=self.neighbours.foreign_share() if self.neighbours else None,
            costs=tuple(self._cost(clocked) for clocked in self.clocked if clocked.visits),
        )

    def _note(self) -> str:
        synthetic = "synthetic data" if self.data.synthetic else ""
        return ", ".join(filter(None, (synthetic, self.data.remark)))

    def _cost(self, clocked: Clocked) -> Cost:
        """The cost of a method, beside what is published of it."""
        study, task, reference = self.cell.study, self.cell.task.name, self.reference
        theirs, visits = self._epochs(reference.mean()), zip(*clocked.visits, strict=True)
        phases = [
            cost(stint.name, self._epochs(seconds), theirs, stint.share)
            for stint, seconds in zip(clocked.stints, visits, strict=True)
        ]
        return replace(
            cost(clocked.name, self._epochs(clocked.mean()), theirs),
            phases=tuple(phases) if len(phases) > 1 else (),
            published=tuple(beside(study.published, task, clocked.name, reference.name)),
        )

    def _epochs(self, steps: Iterable[float]) -> list[float]:
        """The seconds of epochs from those of their steps."""
        return [self.epoch * seconds for seconds in steps]

    def _near(self, data: Dataset) -> Dataset:
        """The data on the device, once for all methods."""
        device = self.workbench.device
        return replace(data, train=data.train.to(device), validation=data.validation.to(device))

    def _steps(self) -> int:
        """As many steps as the reference takes in a visit's time, by a short training before."""
        stint = next(self._stints(self.cell, PILOT))
        stint.visit()
        return max(PILOT, round(VISIT / stint.visit()))

    def _stints(self, cell: Cell, steps: int) -> Iterator[Stint]:
        """Every phase of a method, each with a network of its own."""
        method = self.workbench.method(cell.run({}, self.seed, test=False))
        spans = method.spans(cell.task.epochs)
        for number, (phase, (first, end)) in enumerate(zip(method.phases, spans, strict=True)):
            name = phase.name or f"phase {number + 1}"
            yield Stint(name, (end - first) / cell.task.epochs, self._training(cell, number, steps))

    def _training(self, cell: Cell, number: int, steps: int) -> Training:
        """A training in a phase of a method; its epochs are visits, and it is hardly evaluated.

        It has as many steps before it as the study's: its length may decide how it is done.
        """
        experiment, size, steps = self._experiment(cell), cell.task.batch_size, steps + ENDS
        epochs = max(math.ceil(cell.task.epochs * self.epoch / steps), self.rounds + 1)
        return replace(
            experiment,
            run=replace(experiment.run, epochs=epochs, reestimate=0, select="last"),
            data=replace(
                self.data,
                train=Endless(self.data.train, steps * size, self.seed),
                validation=Endless(self.data.validation, FEW, self.seed),
            ),
            method=alone(experiment.method, number),
        ).training()

    def _experiment(self, cell: Cell) -> Experiment:
        keys = {key: self._base(base) for key, base in cell.bases.items()}
        return self.workbench.prepare(cell.run({}, self.seed, test=False, bases=keys))

    def _base(self, cell: Cell) -> str:
        """The key of a run that others build on; its weights are at hand, but untrained."""
        run = cell.run({}, self.seed, test=False)
        state, judged = self.workbench.network(run).state_dict(), self.workbench.method(run).judged
        weights = Weights(run, state, {}, judged, 1, Progress(0, 1, 0, 1))
        self.workbench.checkpoints.save_weights(weights)
        return run.key


def alone(method: Method, number: int) -> Method:
    """Return a phase of a method as a method."""
    phase = replace(method.phases[number], share=1.0, continues=False, selectable=True)
    single = replace(method, phases=(phase,))
    modes = single.inference_modes()
    return single if single.judged in modes else replace(single, judged=next(iter(modes)))

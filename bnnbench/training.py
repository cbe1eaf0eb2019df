"""The one training loop, a generator of measurements. It reads as Algorithm 1 of BinaryConnect.

It knows no database, no plugin manager and no plot; what is done with the measurements is done
outside, between two epochs.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bnnbench import buckets
from bnnbench.clock import Clock
from bnnbench.errors import BnnbenchError
from bnnbench.evaluation import reestimated, scored, weight_bits
from bnnbench.interfaces import Onlooker, Scene
from bnnbench.latents import Latents
from bnnbench.layers import BinaryActivation, activation_bits
from bnnbench.looking import look
from bnnbench.measurements import Measurement
from bnnbench.readings import received
from bnnbench.schedules import Progress
from bnnbench.seeds import RandomState, derive
from bnnbench.selection import Selected
from bnnbench.stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from bnnbench.interfaces import Dataset, Examples, InferenceMode, Loss, Probe
    from bnnbench.methods import Method
    from bnnbench.parallel.lockstep import Parallel
    from bnnbench.updates import Way


class DivergedError(BnnbenchError):
    """A loss is no longer a finite number: a result, not a fault."""


@dataclass(frozen=True)
class Settings:
    """How a network is trained and judged, whatever the method.

    ``select`` says which epoch's network is judged at the end: the ``best`` on validation in the
    judged mode (of equals the latest, as in BinaryConnect's code) or the ``last``. ``test`` allows
    one look at the test split, at the selected epoch. ``update`` says how the binary weights are
    moved: see :mod:`bnnbench.updates`. ``precision`` "bf16" lets products be computed so in
    training; all else, and all judging, is fp32. ``reestimate`` is the number of training
    batches from which batch normalization is re-estimated before each evaluation; 0 leaves it.
    """

    epochs: int
    batch_size: int
    seed: int
    select: str = "best"
    test: bool = False
    reestimate: int = 0
    device: str = "cpu"
    update: Way = "auto"
    precision: str = "fp32"
    channels_last: bool = False


def train(
    model: nn.Module,
    method: Method,
    data: Dataset,
    loss: Loss,
    settings: Settings,
    probes: Sequence[Probe] = (),
    clock: Clock | None = None,
) -> Iterator[list[Measurement]]:
    """Train the network and yield the measurements of each epoch, then those of the end.

    The first list is of epoch 0, before training. Same settings and seed, same bits (on one
    machine, on CPU). The caller's random generators are never touched.

    Raises:
        DivergedError: a loss is not finite.
    """
    return iter(Training(model, method, data, loss, settings, probes, clock))


class Training:
    """A training under way: iterate for its measurements, ask for its state between two epochs.

    A training of the same parts that is given the state with :meth:`load` goes on where this one
    stood, bit for bit (on one machine, on CPU).
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        data: Dataset,
        loss: Loss,
        settings: Settings,
        probes: Sequence[Probe] = (),
        clock: Clock | None = None,
    ) -> None:
        self.model = model.to(settings.device)  # first: before, a GPU has no generator to seed
        self.random = RandomState(derive(settings.seed, "training"))
        self.method, self.loss, self.settings = method, loss, settings
        self.probes, self.clock = probes, clock or Clock(settings.device)
        self.examples, self.task = data.train.to(settings.device), data.task
        self.validation = data.validation.to(settings.device)
        self.test = data.test.to(settings.device) if settings.test else None
        self.steps = len(data.train) // settings.batch_size
        with self.random.in_force():
            self.latents = Latents(model, method.initialize)
        if settings.channels_last:  # not before: random numbers fall in memory order
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.latents.lie_as_weights()
        self.spans, self.stages = method.spans(settings.epochs), method.stages(settings.epochs)
        self.selected = Selected(settings.select)
        self.activations = [
            module
            for module in model.modules()
            if isinstance(module, BinaryActivation) and module.scheduled
        ]
        self.epoch = 0  # so many are finished
        self.stretch: Stretch | None = None
        self.parallel: Parallel | None = None  # where other processes train the same network
        self.warm = False

    def __iter__(self) -> Iterator[list[Measurement]]:
        """Yield the measurements of epoch 0, of each epoch that is left, and of the end."""
        if not self.epoch:
            yield self._outside(received(self._probed(0)))
        while self.epoch < self.settings.epochs:
            stretch = self._entered(self._phase(self.epoch))
            with self.random.in_force():
                measured = self._epoch(stretch)
            self.epoch += 1
            at = {"epoch": self.epoch, "phase": stretch.number}
            if stretch.phase.selectable:
                self.selected.offer(self, measured, at)
            yield self._outside([_placed(m, **at) for m in measured])
        yield self._outside(self._judged())

    def follow(self) -> None:
        """Train to the end beside the process that measures, and measure nothing."""
        while self.epoch < self.settings.epochs:
            stretch = self._entered(self._phase(self.epoch))
            with self.random.in_force():
                self._trained(stretch)
            self.epoch += 1

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on, as nested plain values and tensors.

        Ask between two epochs, not before the first.
        """
        if self.stretch is None:
            raise ValueError("a training has a state from its first epoch's end on")
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "latents": self.latents.state(),
            "optimizers": self.stretch.state(),
            "random": {"cpu": self.random.cpu, "cuda": list(self.random.cuda)},
            "selected": self.selected.saved(),
            "probes": [probe.state() for probe in self.probes],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that :meth:`state` gave."""
        self.epoch = state["epoch"]
        self.stretch = self.stretch_of(self._phase(self.epoch - 1))
        self.stretch.load(state["optimizers"])
        self.model.load_state_dict(state["model"])
        self.latents.load(state["latents"])
        self.random.cpu, self.random.cuda = state["random"]["cpu"], state["random"]["cuda"]
        self.selected.load(state["selected"])
        for probe, saved in zip(self.probes, state["probes"], strict=True):
            probe.load(_on(self.settings.device, saved))

    def network(self, mode: str = "") -> dict[str, Tensor]:
        """Return the state of the selected network in a mode, its own if none is named.

        Ask when all is over.
        """
        wanted = self.modes[mode or self.method.judged]
        batches = self._for_reestimation()
        with reestimated(self.model, self.latents, wanted, batches), self.random.in_force():
            self.latents.project(wanted.view)
            return copy.deepcopy(self.model.state_dict())

    def at(self, epoch: int, step: int) -> Progress:
        """How far the whole training has come at a step of an epoch, both counted from 0."""
        epochs, steps = self.settings.epochs, max(self.steps, 1)
        return Progress(epoch * steps + step, epochs * steps, epoch, epochs)

    def stretch_of(self, number: int) -> Stretch:
        """Return a new stretch of a phase."""
        first, end = self.stages[number]
        phase, begun = self.method.phases[number], self.spans[number][0]
        return Stretch(
            number,
            phase,
            self.latents,
            self.model,
            begun - first,
            end - first,
            max(self.steps, 1),
            self.settings.update,
            self.steps * self.settings.epochs,
            len(self.examples),
        )

    def _for_reestimation(self) -> list[Tensor]:
        batches = self.examples.batches(self.settings.batch_size)
        return [inputs for inputs, _ in itertools.islice(batches, self.settings.reestimate)]

    def _phase(self, epoch: int) -> int:
        """The number of the phase that an epoch, counted from 0, belongs to."""
        return next(number for number, (_, end) in enumerate(self.spans) if epoch < end)

    def _entered(self, number: int) -> Stretch:
        """The stretch of a phase: the present one, or a new one that begins."""
        if self.stretch is not None and self.stretch.number == number:
            return self.stretch
        before = self.stretch
        self.latents.flips.watch()
        stretch = self.stretch = self.stretch_of(number)
        with self.random.in_force():
            self.latents.become(stretch.phase.start)
        if stretch.phase.continues and before is not None:
            stretch.go_on_from(before)
        return stretch

    def _outside(self, measured: Iterable[Measurement]) -> list[Measurement]:
        measured = list(measured)
        self.clock.enter(buckets.DATABASE)
        return measured

    def _epoch(self, stretch: Stretch) -> list[Measurement]:
        measured = [Measurement("loss", self._trained(stretch), split="train")]
        try:
            measured = received(measured + self._looked_at(stretch))
        except Exception:
            self._check(received(measured[:1]))  # what fails on such numbers is not to blame
            raise
        self._check(measured)
        warmup, self.warm = not self.warm, True
        return measured + self._times(warmup=warmup)

    def _trained(self, stretch: Stretch) -> Any:
        """Train for an epoch; return the mean loss, a tensor that nobody has waited for."""
        with self.clock.within(buckets.TRAIN):
            mean_loss = self._steps(stretch)
        self.clock.enter(buckets.OTHER)
        if self.parallel is not None:
            self.parallel.agree()
        return mean_loss

    def _looked_at(self, stretch: Stretch) -> list[Measurement]:
        """What there is to say of an epoch's end, its values still on the device."""
        measured = stretch.hyperparameters()
        with self.clock.within(buckets.EVALUATION):
            measured += self._scores(self._each_epoch(stretch.modes), "validation", self.validation)
        return measured + self._probed(self.epoch + 1)

    def _check(self, measured: Iterable[Measurement]) -> None:
        """Refuse a loss that is not finite, in training or as the network is judged.

        Raises:
            DivergedError: in one line.
        """
        for m in measured:
            if m.metric != "loss" or math.isfinite(m.value):
                continue
            if m.split == "train":
                raise DivergedError(f"the training loss of epoch {self.epoch + 1} is {m.value}")
            if m.mode == self.method.judged:
                raise DivergedError(f"the {m.split} loss with {m.mode} weights is {m.value}")

    def _each_epoch(self, modes: Mapping[str, InferenceMode]) -> dict[str, InferenceMode]:
        """The modes that are cheap, and the one that selects; the others wait for the end."""
        judged = self.method.judged
        return {name: mode for name, mode in modes.items() if mode.draws == 1 or name == judged}

    def _steps(self, stretch: Stretch) -> Tensor:
        """One epoch of Algorithm 1 of BinaryConnect, for any method; the mean loss."""
        latents = self.latents
        total_loss = torch.zeros((), device=self.settings.device)
        self.model.train()
        epoch = self.epoch - self.spans[stretch.number][0]
        for step, (inputs, targets) in enumerate(self._batches(self.epoch)):
            stretch.build(stretch.progress(epoch, step))
            for activation in self.activations:
                activation.follow(self.at(self.epoch, step))
            gradient = partial(self._gradient, stretch, inputs, targets)  # 1. and 2.
            last = step + 1 == self.steps
            following = None if last else stretch.progress(epoch, step + 1)
            total_loss += stretch.step(gradient, following)  # 3. w <- update(w)
            self.clock.enter(buckets.PROBES)
            for probe in self.probes:
                probe.step(latents)
            latents.flips.clear()
            self.clock.enter(buckets.TRAIN)
        return total_loss / max(self.steps, 1)

    def _gradient(self, stretch: Stretch, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch; its gradient is left at the weights that the network computes with.

        Most optimizers want it once in a step, some as often as they like.
        """
        stretch.project()  # 1. w_b <- binarize(w)
        if self.parallel is not None:
            return self.parallel.gradient(inputs, targets)
        value = self.loss_of(inputs, targets)
        value.backward()  # 2. dL/dw_b
        return value.detach()

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch, or of a part of it."""
        return self.loss(self._outputs(inputs), inputs, targets)

    def _outputs(self, inputs: Tensor) -> Tensor:
        """The network's outputs, in the precision and the memory order of the settings."""
        if self.settings.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self.settings.precision == "fp32":
            outputs: Tensor = self.model(inputs)
            return outputs
        with torch.autocast(torch.device(self.settings.device).type, torch.bfloat16):
            outputs = self.model(inputs)
        return outputs.float()

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole batches in an order that depends on the seed and the epoch alone."""
        size, seed = self.settings.batch_size, self.settings.seed
        shuffling, augmenting = (
            torch.Generator().manual_seed(derive(seed, purpose, epoch))
            for purpose in ("order", "augmentation")
        )
        order = torch.randperm(len(self.examples), generator=shuffling)[: self.steps * size]
        return self.examples.batches(size, order, augmenting)

    def _scores(
        self, modes: Mapping[str, InferenceMode], name: str, examples: Examples
    ) -> Iterator[Measurement]:
        seed, batches = self.settings.seed, self._for_reestimation()
        for mode_name, mode in modes.items():
            with reestimated(self.model, self.latents, mode, batches):
                scores = scored(
                    self.model, self.latents, mode, examples, self.loss, self.task, seed
                )
            for metric, value in scores.items():
                yield Measurement(metric, value, split=name, mode=mode_name)

    def _probed(self, epoch: int) -> list[Measurement]:
        with self.clock.within(buckets.PROBES):
            return [measured for probe in self.probes for measured in self._told(probe, epoch)]

    def _told(self, probe: Probe, epoch: int) -> Iterator[Measurement]:
        """What a probe has to say at the end of an epoch."""
        yield from probe.epoch(self.latents)
        if isinstance(probe, Onlooker):
            yield from look(probe, self._scene(epoch), self.settings.seed)

    def _scene(self, epoch: int) -> Scene:
        if self.stretch is None:  # before training
            modes = self.method.phases[0].binarizer.build(self.at(0, 0)).inference_modes()
        else:
            modes = self.stretch.modes
        epochs = self.settings.epochs
        return Scene(epoch, epochs, self.model, self.latents, modes, self.validation)

    def _times(self, *, warmup: bool = False) -> list[Measurement]:
        """The seconds of each bucket since the last time; training's first epoch is warm-up."""
        laps = self.clock.lap()
        if warmup:
            laps[buckets.WARMUP] = laps.pop(buckets.TRAIN)
        return [Measurement(f"seconds.{bucket}", spent) for bucket, spent in laps.items() if spent]

    def _judged(self) -> list[Measurement]:
        """The selected network in every inference mode, on validation and, once, on test."""
        self.clock.enter(buckets.EVALUATION)
        modes, at = self.selected.restore(self)
        self.modes, self.judged = modes, modes[self.method.judged]
        measured = [
            Measurement("selected_epoch", at["epoch"]),
            Measurement("activation_bits", activation_bits(self.model)),
        ]
        with self.random.in_force():
            measured += [
                Measurement("weight_bits", weight_bits(self.latents.views(mode.view)), mode=name)
                for name, mode in modes.items()
            ]
        if self.test is not None:
            late = {name: m for name, m in modes.items() if name not in self._each_epoch(modes)}
            measured += self._scores(late, "validation", self.validation)
            measured += self._scores(modes, "test", self.test)
        measured = received(measured)
        self._check(measured)
        self.clock.enter(buckets.OTHER)
        after = self.settings.epochs + 1
        return [_placed(m, **at) for m in measured] + [
            m._replace(epoch=after) for m in self._times()
        ]


def _on(device: str, value: Any) -> Any:
    """A nested value with all its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _on(device, inner) for name, inner in value.items()}
    return type(value)(_on(device, v) for v in value) if isinstance(value, list | tuple) else value


def _placed(measured: Measurement, *, epoch: int, phase: int) -> Measurement:
    return measured._replace(epoch=epoch, phase=phase)

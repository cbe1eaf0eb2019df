"""What a plugin implements, all of it on one screen or two.

The parameter is what the network computes with; the latent is what the method remembers. A
:class:`Binarizer` goes between the two, an optimizer (any :class:`torch.optim.Optimizer`) moves the
latents, an :class:`Architecture` says by the type of its layers which weights are binary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from bnnbench.sending import sent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plotly.graph_objects import Figure as Drawing
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

    from bnnbench.latents import Latents
    from bnnbench.measurements import Measurement

View = Callable[["Tensor"], "Tensor"]  #: latent -> weight, of the same shape
Task = Literal["classification", "segmentation"]


class InferenceMode(NamedTuple):
    """One way to judge a trained network: the weights it answers with.

    ``view`` maps a latent to a weight of the same shape. With ``draws`` above 1 the view is
    sampled so many times and the outputs of the sampled networks are averaged.
    """

    view: View
    draws: int = 1


@runtime_checkable
class Binarizer(Protocol):
    """What the network computes with, and which gradient the latent is given.

    The same protocol serves weights (through :class:`bnnbench.latents.Latents`) and activations
    (through :class:`bnnbench.layers.BinaryActivation`, which also takes a module that learns). One
    that wants to know what moves its latents is :class:`Informed` too.
    """

    def forward(self, latent: Tensor) -> Tensor:
        """Return the weight that the network computes with; same shape as ``latent``."""
        ...

    def backward(self, latent: Tensor, grad: Tensor) -> Tensor:
        """Return the pseudo-gradient of the latent from ``grad``, the gradient at the weight."""
        ...

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return the ways to judge the network, by name; ``"binary"`` is always one of them."""
        ...


@runtime_checkable
class Informed(Protocol):
    """What a binarizer of weights is that looks at the optimizer which moves its latents.

    ``inform`` is called once on every such binarizer that a phase builds, before it is used. What
    the optimizer remembers of a latent is ``optimizer.state.get(latent)``: nothing before the first
    step, and whatever the selected epoch had when that epoch's network is judged. One that is asked
    for its inference modes outside a phase is never informed.
    """

    def inform(self, optimizer: Optimizer) -> None:
        """Hear which optimizer moves the latents; look at it, but leave it as it is."""
        ...


class Closure(Protocol):
    """What an optimizer of latents is given if its ``step`` requires a closure, as torch's may.

    A call projects the latents as they are now, with fresh chance, lets the network run forward and
    backward on the step's batch, and leaves at every latent its pseudo-gradient in place of an
    earlier one. The optimizer calls it at least once, and as often as it likes. Real parameters
    are then moved by the mean of their gradients, and batch normalization sees every call.

    ``examples`` is the size of the training set. The loss is a mean over the batch: a rule for the
    sum over all examples multiplies by it.
    """

    examples: int

    def __call__(self) -> Tensor:
        """Return the loss, a number without a graph."""
        ...


class Architecture(Protocol):
    """A function from the data's shape to a network; its other parameters are hyperparameters.

    Binary weights are those of :class:`bnnbench.layers.BinaryLinear` and
    :class:`bnnbench.layers.BinaryConv2d`; every other parameter is real.
    """

    def __call__(self, *, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Return a network from inputs (batch, ``*shape``) to outputs (batch, ``classes``)."""
        ...


class Loss(Protocol):
    """A scalar to be made small."""

    def __call__(self, outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (batch, classes) for inputs and integer targets (batch,)."""
        ...


class Augmentation(Protocol):
    """Chances taken with a whole batch of training examples."""

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and targets changed at random, by the CPU generator alone."""
        ...


class Examples(Protocol):
    """One split of a data set, in memory (:class:`Split`) or read as it is needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        ...

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def batches(
        self, size: int, order: Tensor | None = None, generator: Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs (batch, ``*shape``) and integer targets (batch, ...), ``size`` at a time.

        ``order`` are the numbers of the wanted examples (int64, on CPU), all as they lie if left
        out; the last batch may be smaller. With a CPU ``generator`` they are augmented, where the
        split has an augmentation: same order, same state of the generator, same batches.
        """
        ...

    def to(self, device: str) -> Examples:
        """Return the same examples, their batches on another device."""
        ...

    def fingerprint(self) -> str:
        """Return a short text that differs where the examples or their order differ."""
        ...


@dataclass(frozen=True)
class Split:
    """Examples in memory, or mapped into it: inputs (n, ``*shape``), integer targets (n, ...).

    A class for each example, or one for each pixel. ``augmentation`` is for training.
    """

    inputs: Tensor
    targets: Tensor
    augmentation: Augmentation | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[1:])

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.targets)

    def batches(
        self, size: int, order: Tensor | None = None, generator: Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see :meth:`Examples.batches`."""
        pairs, augment = self._pairs(size, order), self.augmentation
        if generator is None or augment is None:
            return pairs
        return (augment(inputs, targets, generator) for inputs, targets in pairs)

    def _pairs(self, size: int, order: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        if order is None:
            yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)
            return
        for chosen in sent(order, self.inputs.device).split(size):
            yield self.inputs[chosen], self.targets[chosen]

    def to(self, device: str) -> Split:
        """Return the same examples on another device."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def fingerprint(self) -> str:
        """Return a digest of all targets and of up to 256 inputs, spread over the split."""
        return fingerprint(tuple(self.inputs.shape), self.targets, few(self.inputs))


def few(inputs: Tensor) -> Tensor:
    """Return up to 256 inputs, spread over all."""
    return inputs[:: max(1, len(inputs) // 256)][:256]


def fingerprint(shape: tuple[int, ...], targets: Tensor, shown: Tensor) -> str:
    """Return a digest of the shape of all inputs, of all targets and of the inputs shown."""
    digest = hashlib.sha256(repr((shape, str(shown.dtype))).encode())
    for tensor in (targets, shown):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A task's examples, split once and for all.

    The tuner sees ``validation`` only; ``test`` is looked at once, at the end of a confirming run.
    In a classification targets are (n,) and outputs (batch, ``classes``), in a segmentation there
    is a class for each pixel: targets (n, height, width), outputs (batch, ``classes``, height,
    width). ``remark`` says in a few words what sets the data apart from the published ones, and
    stands wherever their results stand.
    """

    train: Examples
    validation: Examples
    test: Examples
    classes: int
    synthetic: bool = False
    task: Task = "classification"
    remark: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.train.shape


class Probe(Protocol):
    """Named numbers read from the latents, outside the training clock.

    A probe is made once for each run. ``step`` is called after every optimizer step and should be
    cheap; ``epoch`` is called at the end of an epoch (and once before the first, as epoch 0) and
    returns what there is to store. A value may be a tensor of one number, and better is, where the
    latents lie on a GPU: it is then read together with all others of the epoch. ``state`` and
    ``load`` carry what it remembers from one epoch
    to the next into a run that is taken up again. A probe may have a ``look`` too:
    see :class:`Onlooker`.
    """

    def step(self, latents: Latents) -> None:
        """Look at the latents after an optimizer step."""
        ...

    def epoch(self, latents: Latents) -> Iterable[Measurement]:
        """Return the measurements of the epoch that has just ended."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what it remembers: tensors, numbers, texts, and lists and dicts of them."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember it again."""
        ...


@dataclass(frozen=True)
class Scene:
    """A training as it stands at the end of an epoch, for a probe that looks at it.

    ``epoch`` is one of ``epochs``, 0 before training. ``modes`` are the ways to judge the network
    at this moment, by name. The network is in evaluation mode and lies with the ``validation``
    examples on the training's device; the test split is not in the scene.
    """

    epoch: int
    epochs: int
    model: nn.Module
    latents: Latents
    modes: Mapping[str, InferenceMode]
    validation: Examples

    @property
    def last(self) -> bool:
        """Whether no other scene of this training follows."""
        return self.epoch == self.epochs


@runtime_checkable
class Onlooker(Protocol):
    """What a probe is that looks at the network itself, and at data, not at the latents alone.

    ``look`` is called after :meth:`Probe.epoch`, without gradients. It may project the latents and
    let the network run: weights, modes and random numbers are put back afterwards. What it draws
    from torch's generators depends on the run's seed and the epoch alone.
    """

    def look(self, scene: Scene) -> Iterable[Measurement]:
        """Return the measurements of the scene, none where it is not of interest."""
        ...


@dataclass(frozen=True)
class Figure:
    """A figure of the report: what is drawn, its title, and a sentence that says how to read it.

    A figure plugin is a function from :class:`bnnbench.results.Results` to a Figure, or to None
    where the study has no data for it. ``summary`` says in a sentence what is seen, with the main
    numbers, to who does not see it. ``info`` is what is drawn, of plain values, named tuples and
    arrays; it goes into report.json. Without them the page takes both from the drawing.
    """

    title: str
    explanation: str
    drawing: Drawing
    summary: str = ""
    info: Any = None

"""What a plugin implements, all of it on one screen or two.

The parameter is what the network computes with; the latent is what the method remembers. A
:class:`Binarizer` goes between the two, an optimizer (any :class:`torch.optim.Optimizer`) moves the
latents, an :class:`Architecture` says by the type of its layers which weights are binary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plotly.graph_objects import Figure as Drawing
    from torch import Tensor, nn

    from bnnbench.latents import Latents
    from bnnbench.measurements import Measurement

View = Callable[["Tensor"], "Tensor"]  #: latent -> weight, of the same shape


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
    (through :class:`bnnbench.layers.BinaryActivation`).
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


class Split(NamedTuple):
    """Inputs (n, ``*shape``) and integer targets (n,), in memory."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: str) -> Split:
        """Return the same examples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """A task's examples, split once and for all.

    The tuner sees ``validation`` only; ``test`` is looked at once, at the end of a confirming run.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    synthetic: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train.inputs.shape[1:])


class Probe(Protocol):
    """Named numbers read from the latents, outside the training clock.

    A probe is made once for each run. ``step`` is called after every optimizer step and should be
    cheap; ``epoch`` is called at the end of an epoch (and once before the first, as epoch 0) and
    returns what there is to store. ``state`` and ``load`` carry what it remembers from one epoch
    to the next into a run that is taken up again.
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
class Figure:
    """A figure of the report: what is drawn, its title, and a sentence that says how to read it.

    A figure plugin is a function from :class:`bnnbench.results.Results` to a Figure, or to None
    where the study has no data for it.
    """

    title: str
    explanation: str
    drawing: Drawing

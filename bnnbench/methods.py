"""A method of training: phases, each with a view of the binary weights and a way to move them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from bnnbench.errors import UsageError
from bnnbench.schedules import Progress, Scheduled
from bnnbench.spaces import Float, parameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from bnnbench.interfaces import Binarizer, InferenceMode, View

MethodFactory = Callable[..., "Method"]


def unchanged(latent: Tensor) -> Tensor:
    """Return the latent as it is."""
    return latent


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one view of the binary weights and one way to move them.

    ``binary`` moves the latents, ``real`` every other parameter; both are built anew as the phase
    begins. ``start`` is what becomes of the latents at that moment. ``share`` is the phase's part
    of the epochs; the shares of a method add up to 1.

    A phase that ``continues`` the one before it goes on with its schedules and with its optimizer
    of the real parameters, as if they were one. A phase that is not ``selectable`` gives networks
    that are not what the method is after: no epoch of it is selected, and no pruner hears of it.
    """

    binarizer: Scheduled[Binarizer]
    binary: Scheduled[Optimizer]
    real: Scheduled[Optimizer]
    share: float = 1.0
    start: View = unchanged
    name: str = ""
    continues: bool = False
    selectable: bool = True


@dataclass(frozen=True)
class Method:
    """Phases in order, and how the result is judged.

    ``initialize`` maps the architecture's weight to a fresh network's first latent. ``judged``
    names the inference mode that the method's authors judge it with: the tuner follows it.
    """

    name: str
    phases: tuple[Phase, ...]
    judged: str = "binary"
    initialize: View = unchanged

    def __post_init__(self) -> None:
        total = sum(phase.share for phase in self.phases)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"phase shares of {self.name!r} must add up to 1, got {total:g}")
        if self.phases[0].continues or not self.phases[-1].selectable:
            raise ValueError(
                f"the first phase of {self.name!r} cannot continue another, and its last must be"
                " selectable"
            )

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return the ways to judge a network at the end of the last phase."""
        binarizer = self.phases[-1].binarizer.build(Progress(0, 1, 0, 1))
        return binarizer.inference_modes()

    def spans(self, epochs: int) -> list[tuple[int, int]]:
        """Return the 0-based (first, end) epochs of each phase, at least one epoch for each.

        >>> from types import SimpleNamespace as Phase
        >>> first, last = Phase(share=0.98, continues=False), Phase(share=0.02, selectable=True)
        >>> method = Method("m", (first, last))
        >>> method.spans(100), method.spans(2)
        ([(0, 98), (98, 100)], [(0, 1), (1, 2)])

        Raises:
            UsageError: there are fewer epochs than phases.
        """
        count = len(self.phases)
        if epochs < count:
            raise UsageError(
                f"{self.name} has {count} phases and needs as many epochs, got {epochs}"
            )
        marks, done = [0], 0.0
        for number, phase in enumerate(self.phases, start=1):
            done += phase.share
            earliest, latest = marks[-1] + 1, epochs - (count - number)
            marks.append(min(max(round(done * epochs), earliest), latest))
        return list(itertools.pairwise(marks))

    def stages(self, epochs: int) -> list[tuple[int, int]]:
        """Return the 0-based (first, end) epochs of the stage that each phase belongs to.

        A stage is a phase and those that continue it; schedules run over it.

        >>> from types import SimpleNamespace as Phase
        >>> a, b = Phase(share=0.5, continues=False), Phase(share=0.25, continues=False)
        >>> Method("m", (a, b, Phase(share=0.25, continues=True, selectable=True))).stages(8)
        [(0, 4), (4, 8), (4, 8)]
        """
        spans = self.spans(epochs)
        firsts: list[int] = []
        for phase, (first, _) in zip(self.phases, spans, strict=True):
            firsts.append(firsts[-1] if phase.continues else first)
        return [
            (first, max(e for f, (_, e) in zip(firsts, spans, strict=True) if f == first))
            for first in firsts
        ]


def cross(
    name: str, binarizer: Callable[..., Binarizer], optimizer: Callable[..., Optimizer]
) -> MethodFactory:
    """Return a method factory that crosses a registered binarizer with a registered optimizer.

    Its hyperparameters are the optimizer's, the binarizer's that the optimizer does not name too,
    and ``real_lr``, the learning rate of Adam for the real parameters.
    """
    ours = _hyperparameters(optimizer, skip=1)
    theirs = {k: v for k, v in _hyperparameters(binarizer).items() if k not in ours}

    def crossed(real_lr: float = 1e-3, **hyper: Any) -> Method:
        from torch.optim import Adam

        phase = Phase(
            binarizer=Scheduled(binarizer, **{k: v for k, v in hyper.items() if k in theirs}),
            binary=Scheduled(optimizer, **{k: v for k, v in hyper.items() if k in ours}),
            real=Scheduled(Adam, lr=real_lr),
        )
        return Method(name, (phase,))

    real_lr = inspect.Parameter(
        "real_lr",
        inspect.Parameter.KEYWORD_ONLY,
        default=1e-3,
        annotation=Annotated[float, Float(1e-4, 3e-2, log=True)],
    )
    known = {**ours, **theirs}
    known.setdefault("real_lr", real_lr)
    crossed.__signature__ = inspect.Signature(list(known.values()))  # type: ignore[attr-defined]
    parts = (f"{name}.", f"Binarizer: {inspect.getdoc(binarizer)}")
    crossed.__doc__ = "\n\n".join((*parts, f"Optimizer: {inspect.getdoc(optimizer)}"))
    crossed.__name__ = name
    return crossed


def _hyperparameters(component: Callable[..., Any], skip: int = 0) -> dict[str, inspect.Parameter]:
    given = tuple(inspect.signature(component).parameters)[:skip]
    named = parameters(component, given)
    return {name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in named.items()}

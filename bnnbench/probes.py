"""The flip probe: how often weights change their sign, exact at every step, for every method.

The code of a weight is the sign with which it would be deployed: of the latent for methods that
have one, of the weight itself where the latent is the weight (Bop); never a stochastic sample.

    flip_step    mean over the epoch's steps of the share of codes that changed in the step
    flip_epoch   share of codes that differ from those at the end of the epoch before
    flip_init    share of codes that differ from those before training
    pi           ln(flip_step + e^-9), Helwegen et al. 2019, section 5.1

What a phase makes of the latents as it begins counts with the phase's first step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.measurements import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bnnbench.latents import Latents

Codes = dict[str, "Tensor"]


class FlipProbe:
    """Counts flips, per layer and in total; see the module for the four figures."""

    def __init__(self) -> None:
        self.start: Codes = {}
        self.before: Codes = {}
        self.flips: dict[str, Tensor | int] = {}
        self.steps = 0

    def step(self, latents: Latents) -> None:
        """Add the codes that changed in this step."""
        for name, flips in latents.flips.by_layer().items():
            self.flips[name] += flips
        self.steps += 1

    def epoch(self, latents: Latents) -> Iterator[Measurement]:
        """Return the four figures of the epoch, and begin the next."""
        now = latents.codes()
        if self.start:
            yield from self._figures(now)
        else:
            self.start = now
        self._begin(now)

    def state(self) -> dict[str, Any]:
        """Return the codes that the next epoch is compared with; ask between two epochs."""
        return {"start": self.start, "before": self.before}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on between the same two epochs."""
        self.start = dict(state["start"])
        self._begin(dict(state["before"]))

    def _begin(self, now: Codes) -> None:
        self.before = now
        self.steps = 0
        self.flips = dict.fromkeys(now, 0)

    def _figures(self, now: Codes) -> Iterator[Measurement]:
        sizes = {name: code.numel() for name, code in now.items()}
        counts: dict[str, Mapping[str, Any]] = {
            "flip_step": self.flips,
            "flip_epoch": _differences(now, self.before),
            "flip_init": _differences(now, self.start),
        }
        for metric, flips in counts.items():
            looks = max(self.steps, 1) if metric == "flip_step" else 1
            shares = {name: _share(flips[name], looks * size) for name, size in sizes.items()}
            shares[""] = _share(sum(flips.values()), looks * max(sum(sizes.values()), 1))
            for layer, share in shares.items():
                yield Measurement(metric, share, layer=layer)
                if metric == "flip_step":
                    yield Measurement("pi", pi(share), layer=layer)


def pi(share: Any) -> Any:
    """Return ln(share + e^-9), the logarithm of a flip rate with a floor at -9.

    A tensor of one number stays one.

    >>> [round(pi(share), 3) for share in (0, 1e-5, 1e-3)]
    [-9.0, -8.922, -6.791]
    """
    raised = share + math.exp(-9)
    return raised.log() if isinstance(raised, torch.Tensor) else math.log(raised)


def _share(count: Any, of: int) -> Any:
    return count.double() / of if isinstance(count, torch.Tensor) else count / of


def _differences(now: Codes, then: Codes) -> dict[str, Tensor]:
    return {name: torch.count_nonzero(code ^ then[name]) for name, code in now.items()}

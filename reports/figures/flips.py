"""How often binary weights change their sign: from step to step, by epoch, and since the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, lines
from bnnbench_reports.figures.summaries import of_curves
from bnnbench_reports.readings import Bundle, bundles
from bnnbench_reports.thinning import Thinned, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results

CURVES = 100  #: of each figure but the first, as they are many


class Kind(NamedTuple):
    """How one of the flip probe's figures is drawn, and what it says."""

    title: str
    axis: str
    hover: str
    explanation: str
    log: bool
    unit: str = ""


GAP = " Epochs without a single flip have no place on a logarithmic axis and leave a gap."
KINDS = {
    "flip_step": Kind(
        "Flip rate per epoch",
        "flip rate: share of weights per step",
        "%{y:.3g}",
        "Share of the binary weights whose deployed sign changed from one optimizer step to the"
        " next, mean over the epoch's steps (flip_step), counted at every step.",
        log=True,
    ),
    "flip_epoch": Kind(
        "Weights that an epoch changed",
        "share of weights in %",
        "%{y:.3g} %",
        "Share of the binary weights whose sign at the end of an epoch is not the one at the end of"
        " the epoch before (flip_epoch). A weight that flips and flips back within an epoch counts"
        " in the flip rate, not here. Where it falls, signs come to rest; that they rest does not"
        " show that they are right.",
        log=True,
        unit=" %",
    ),
    "flip_init": Kind(
        "Weights changed since the start",
        "share of weights in %",
        "%{y:.2f} %",
        "Share of the binary weights whose sign differs from the one before training (flip_init)."
        " Signs that have nothing to do with the first ones differ in 50 %. What stays low says"
        " that training kept most of the first signs, not that it learned little: a few signs may"
        " decide much. A run that starts from another one's weights is compared with those.",
        log=False,
        unit=" %",
    ),
    "pi": Kind(
        "Flip rate π per epoch",
        "π = ln(flip rate + e⁻⁹), no unit",
        "%{y:.2f}",
        "The logarithm of the flip rate with a floor, as Helwegen et al. (2019) draw it: -9 where"
        " nothing flips, -6.8 where one weight in 1,000 flips in a step, -4.6 where one in 100"
        " does. Unlike the flip rate on a logarithmic axis it has the epochs without a flip too.",
        log=False,
    ),
}


def info(results: Results, metric: str = "flip_step") -> list[Bundle]:
    """Return ``flip_step`` or another figure of the flip probe over all binary weights.

    ``flip_epoch`` and ``flip_init`` are in percent, ``flip_step`` is a share in [0, 1].
    """
    found = bundles(results, metric)
    percent = metric in ("flip_epoch", "flip_init")
    return [each._replace(values=100 * each.values) if percent else each for each in found]


def flips_figure(results: Results, metric: str = "flip_step") -> Figure | None:
    """Draw the flip rate over the epochs, on a logarithmic axis."""
    found = info(results, metric)
    if not found:
        return None
    kind = KINDS[metric]
    count = count_of(len(bundle.seeds) for bundle in found)
    drawn = thinned(found) if metric == "flip_step" else fewer(found)
    shown = drawn.explained("Faint lines are seeds, the strong line is their mean.")
    drawing = lines(results, drawn, kind.axis, kind.hover, log=kind.log)
    if kind.log:
        drawing.update_yaxes(exponentformat="power")
    return Figure(
        title=f"{kind.title} ({count} seeds)",
        explanation=f"{kind.explanation} {shown}{GAP if kind.log else ''}",
        drawing=drawing,
        summary=of_curves(kind.title, found, f"{count} seeds", kind.unit, ".3g"),
        info=found,
    )


def fewer(found: Sequence[Bundle]) -> Thinned:
    """Return what is drawn where there are several figures of as many curves."""
    drawn, curves = thinned(found), sum(len(bundle.seeds) for bundle in found)
    return drawn._replace(many=curves) if curves > CURVES else drawn


def epoch_figure(results: Results) -> Figure | None:
    """Draw the share of weights that each epoch changed."""
    return flips_figure(results, "flip_epoch")


def start_figure(results: Results) -> Figure | None:
    """Draw the share of weights that differ from those before training."""
    return flips_figure(results, "flip_init")


def pi_figure(results: Results) -> Figure | None:
    """Draw the logarithm of the flip rate."""
    return flips_figure(results, "pi")

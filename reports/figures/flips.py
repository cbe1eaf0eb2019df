"""Flip rate per epoch: how often binary weights change their sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, lines
from bnnbench_reports.readings import Bundle, bundles
from bnnbench_reports.thinning import thinned

if TYPE_CHECKING:
    from bnnbench.results import Results


def info(results: Results) -> list[Bundle]:
    """Return ``flip_step`` over all binary weights, a share in [0, 1]."""
    return bundles(results, "flip_step")


def flips_figure(results: Results) -> Figure | None:
    """Draw the flip rate over the epochs, on a logarithmic axis."""
    found = info(results)
    if not found:
        return None
    count = count_of(len(bundle.seeds) for bundle in found)
    drawn = thinned(found)
    shown = drawn.explained("Faint lines are seeds, the strong line is their mean.")
    drawing = lines(results, drawn, "flip rate: share of weights per step", "%{y:.3g}", log=True)
    drawing.update_yaxes(exponentformat="power")
    return Figure(
        title=f"Flip rate per epoch ({count} seeds)",
        explanation=(
            "Share of the binary weights whose deployed sign changed from one optimizer step to the"
            f" next, mean over the epoch's steps (flip_step), counted at every step. {shown} Epochs"
            " without a single flip have no place on a logarithmic axis and leave a gap."
        ),
        drawing=drawing,
    )

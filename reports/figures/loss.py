"""Training loss per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, lines
from bnnbench_reports.figures.summaries import of_curves
from bnnbench_reports.readings import Bundle, bundles
from bnnbench_reports.thinning import thinned

if TYPE_CHECKING:
    from bnnbench.results import Results


def info(results: Results) -> list[Bundle]:
    """Return the mean training loss of each epoch."""
    return bundles(results, "loss", split="train")


def loss_figure(results: Results) -> Figure | None:
    """Draw the training loss over the epochs."""
    found = info(results)
    if not found:
        return None
    count = count_of(len(bundle.seeds) for bundle in found)
    smallest = min(float(bundle.values.min()) for bundle in found)
    drawn = thinned(found)
    shown = drawn.explained("Faint lines are seeds, the strong line is their mean.")
    drawing = lines(results, drawn, "training loss (no unit)", "%{y:.4g}", log=smallest > 0)
    if smallest > 0:
        drawing.update_yaxes(dtick="D2" if narrow(found) else None)
    return Figure(
        title=f"Training loss per epoch ({count} seeds)",
        explanation=(
            "Mean over the epoch's batches of the loss that is minimized, with the weights that the"
            " network computed with at that moment (no unit). Losses of different tasks, or of"
            f" methods with other losses, do not compare. {shown}"
        ),
        drawing=drawing,
        summary=of_curves("Training loss", found, f"{count} seeds", form=".4g"),
        info=found,
    )


def narrow(found: list[Bundle]) -> bool:
    """Whether all losses lie within less than two decades, where ticks would be few."""
    low = min(float(bundle.values.min()) for bundle in found)
    return max(float(bundle.values.max()) for bundle in found) < 100 * low

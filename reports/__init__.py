"""The report of a study: its figures, and the command that writes them into one HTML file.

Everything is given by reference, so that naming it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.hookspecs import API_VERSION, hookimpl

if TYPE_CHECKING:
    from bnnbench.hookspecs import Register

requires_api = API_VERSION


@hookimpl
def register_figures(register: Register) -> None:
    """Register the figures in the order in which they stand in the report."""
    register("test-accuracy", "bnnbench_reports.figures.scores:scores_figure")
    register("test-top5", "bnnbench_reports.figures.scores:top5_figure")
    register("test-mean-iou", "bnnbench_reports.figures.scores:mean_iou_figure")
    register("accuracy", "bnnbench_reports.figures.accuracy:accuracy_figure")
    register("relaxation", "bnnbench_reports.figures.relaxation:relaxation_figure")
    register("loss", "bnnbench_reports.figures.loss:loss_figure")
    register("flips", "bnnbench_reports.figures.flips:flips_figure")
    register("flips-by-layer", "bnnbench_reports.figures.layers:layers_figure")
    register("latents", "bnnbench_reports.figures.histograms:histograms_figure")
    register("angles", "bnnbench_reports.figures.angles:angles_figure")
    register("dimension", "bnnbench_reports.figures.angles:dimension_figure")
    register("dot-products", "bnnbench_reports.figures.products:products_figure")
    register("times", "bnnbench_reports.figures.times:times_figure")

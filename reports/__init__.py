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
    register("coverage", "bnnbench_reports.figures.coverage:coverage_figure")
    register("differences", "bnnbench_reports.figures.differences:differences_figure")
    register("ranks", "bnnbench_reports.figures.ranks:ranks_figure")
    register("profiles", "bnnbench_reports.figures.profiles:profiles_figure")
    register("accuracy", "bnnbench_reports.figures.accuracy:accuracy_figure")
    register("relaxation", "bnnbench_reports.figures.relaxation:relaxation_figure")
    register("loss", "bnnbench_reports.figures.loss:loss_figure")
    register("flips", "bnnbench_reports.figures.flips:flips_figure")
    register("pi", "bnnbench_reports.figures.flips:pi_figure")
    register("flips-by-epoch", "bnnbench_reports.figures.flips:epoch_figure")
    register("flips-since-start", "bnnbench_reports.figures.flips:start_figure")
    register("oscillation", "bnnbench_reports.figures.oscillation:oscillation_figure")
    register("flips-by-layer", "bnnbench_reports.figures.layers:layers_figure")
    register("latents", "bnnbench_reports.figures.histograms:histograms_figure")
    register("saturation", "bnnbench_reports.figures.trends:saturation_figure")
    register("angles", "bnnbench_reports.figures.angles:angles_figure")
    register("dimension", "bnnbench_reports.figures.dimension:dimension_figure")
    register("geometry-by-epoch", "bnnbench_reports.figures.trends:geometry_figure")
    register("dot-products", "bnnbench_reports.figures.products:products_figure")
    register("times", "bnnbench_reports.figures.times:times_figure")
    register("time-ratios", "bnnbench_reports.figures.ratios:ratios_figure")
    register("time-shares", "bnnbench_reports.figures.shares:shares_figure")
    register("accuracy-time", "bnnbench_reports.figures.pareto:pareto_figure")
    register("deployment", "bnnbench_reports.figures.deployment:deployment_figure")
    register("tuning-history", "bnnbench_reports.figures.history:history_figure")
    register("tuning-best-of", "bnnbench_reports.figures.bestof:bestof_figure")
    register("tuning-slices", "bnnbench_reports.figures.slices:slices_figure")
    register("tuning-importance", "bnnbench_reports.figures.importance:importance_figure")
    register("tuning-budget", "bnnbench_reports.figures.budgets:budgets_figure")

"""Validation accuracy per epoch, with the weights with which each method is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.interfaces import Figure
from bnnbench_reports.figures.drawing import count_of, lines
from bnnbench_reports.figures.summaries import of_curves
from bnnbench_reports.readings import Bundle, accuracy_name, bundles
from bnnbench_reports.thinning import thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results


def info(results: Results) -> list[Bundle]:
    """Return the validation accuracy in percent of every method in its judged mode."""
    return bundles(results, "accuracy", split="validation", judged=True)


def accuracy_figure(results: Results) -> Figure | None:
    """Draw the validation accuracy over the epochs."""
    found = info(results)
    if not found:
        return None
    count = count_of(len(bundle.seeds) for bundle in found)
    name = accuracy_name(results, found)
    drawn = thinned(found)
    shown = drawn.explained(
        "Faint lines are the confirming runs, one for each seed; the strong line is their mean."
    )
    return Figure(
        title=f"Validation {name} per epoch ({count} seeds)",
        explanation=(
            f"Share of the validation split that is classified rightly after each epoch. {shown}"
            f"{modes_sentence(found)}"
        ),
        drawing=lines(results, drawn, f"validation {name} in %", "%{y:.2f} %"),
        summary=of_curves(f"Validation {name}", found, f"{count} seeds", " %"),
        info=found,
    )


def modes_sentence(found: Sequence[Bundle]) -> str:
    """Say which method is judged in which mode, where they differ."""
    by_mode: dict[str, list[str]] = {}
    for bundle in found:
        methods = by_mode.setdefault(bundle.mode or "unknown", [])
        if bundle.method not in methods:
            methods.append(bundle.method)
    if len(by_mode) < 2:
        return f" All are judged with {next(iter(by_mode))} weights." if by_mode else ""
    parts = [f"{mode} weights: {', '.join(methods)}" for mode, methods in sorted(by_mode.items())]
    return f" The methods are not all judged alike: {'; '.join(parts)}."

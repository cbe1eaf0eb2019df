"""What the best of k trials is expected to be: what a smaller budget would have found.

    v_1 <= ... <= v_n    validation accuracies of the n completed trials
    E_k                  sum_i v_i C(i - 1, k - 1) / C(n, k): the mean, over all choices of k of the
                         n trials, of the best among them

source: Dodge et al., "Show your work" (2019), who draw with replacement
departs from it: k trials are drawn without replacement, so that E_n is the best that was found
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.interfaces import Figure
from bnnbench_reports.colours import looks
from bnnbench_reports.figures.drawing import Panel, add, count_of, panels, plain, whole
from bnnbench_reports.figures.summaries import Value, called, summary
from bnnbench_reports.figures.trials import left_out, searches
from bnnbench_reports.readings import accuracy_name, tasks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.results import Results
    from bnnbench_reports.colours import Look
    from bnnbench_reports.readings import Array


class Best(NamedTuple):
    """The expected best accuracy in percent of k = 1, 2, ... n trials of a (task, method)."""

    task: str
    method: str
    expected: tuple[float, ...]


def info(results: Results) -> list[Best]:
    """Return the expected best of each (task, method) with at least two completed trials."""
    return [
        Best(search.task, search.method, tuple(expected_best(search.accuracies).tolist()))
        for search in searches(results)
        if len(search.accuracies) > 1
    ]


def expected_best(values: Sequence[float]) -> Array:
    """Return the mean of the best of k values, over all choices of k, for k = 1 ... n.

    >>> expected_best([80.0, 90.0, 85.0]).round(2).tolist()
    [85.0, 88.33, 90.0]
    """
    n, ranked = len(values), np.sort(np.asarray(values, dtype=float))
    chance = np.full(n, 1 / n)  # that the i-th is the best of k, first of k = 1
    found: Array = np.empty(n)
    i = np.arange(1, n + 1)
    for k in range(1, n + 1):
        found[k - 1] = chance @ ranked
        chance = chance * (i - k) / k * (k + 1) / max(n - k, 1)
    return found


def bestof_figure(results: Results) -> Figure | None:
    """Draw a line for each method, one panel for each task."""
    found = info(results)
    if not found:
        return None
    name = accuracy_name(results, found)
    return Figure(
        title=f"Best of k trials ({count_of(len(each.expected) for each in found)} trials)",
        explanation=(
            f"The validation {name} that the best of k trials has on average, over all choices of"
            " k of the completed trials; at the right end the best that was found. It says which"
            " method wins with a small budget and which one needs a large one. A sampler that"
            " learns from its trials finds better ones late, so that fewer of them would have done"
            " a little worse than the line says. It is no estimate of the accuracy on test, and"
            " trials that were pruned or failed cost budget too."
            f"{left_out(searches(results))}"
        ),
        drawing=draw(results, found, f"expected best validation {name} in %"),
        summary=summary(
            f"Gain of validation {name} from one trial to all of them, expected",
            [Value(called(e, found), e.expected[-1] - e.expected[0]) for e in found],
            f"{count_of(len(each.expected) for each in found)} trials",
            " points",
        ),
        info=found,
    )


def draw(results: Results, found: list[Best], y: str) -> Any:
    """Return the lines."""
    look, tasks, named = looks(results.study), tasks_of(found), set[str]()
    drawing = panels([Panel(task, 300) for task in tasks], "number of trials k", y)
    whole(drawing, max(len(each.expected) for each in found))
    for each in found:
        add(drawing, _line(each, look[each.method]), tasks.index(each.task) + 1, named)
    return drawing


def _line(each: Best, look: Look) -> Any:
    from plotly.graph_objects import Scatter

    name, n = plain(each.method), len(each.expected)
    return Scatter(
        x=np.arange(1, n + 1),
        y=np.asarray(each.expected),
        mode="lines+markers" if n <= 30 else "lines",
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"symbol": look.symbol, "size": 6},
        name=name,
        hovertemplate=f"{name}, best of %{{x}} of n = {n}: %{{y:.2f}} %<extra></extra>",
    )

"""The settings of the runs: those of a task once, and of each run what was set or tuned for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.store import CONFIRM
from bnnbench_reports.tables import NONE, Table, value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.rows import Row
    from bnnbench.runs import Part, Run
    from bnnbench_reports.readings import Cell

COLUMNS = ("task", "methods", "data", "network", "loss", "epochs", "batch size", "precision")


def settings_table(results: Results) -> Table:
    """Return what the confirming runs of a task have in common; several lines where not all do."""
    groups: dict[tuple[str, ...], dict[str, None]] = {}
    for entry in results.entries:
        if entry.role == CONFIRM:
            groups.setdefault((entry.task, *_settings(entry.run)), {})[entry.method] = None
    tasks = [task for task, *_ in groups]
    lines = [
        (task, "all" if tasks.count(task) == 1 else ", ".join(methods), *told)
        for (task, *told), methods in groups.items()
    ]
    return Table((*COLUMNS, "judged epoch", "probes"), lines, frozenset({5, 6}))


def _settings(run: Run) -> tuple[str, ...]:
    epoch = "best on validation" if run.select == "best" else run.select
    renewed = f", normalization renewed on {run.reestimate} batches" if run.reestimate else ""
    return (
        described(run.dataset),
        described(run.architecture),
        described(run.loss),
        f"{run.epochs:,}",
        f"{run.batch_size:,}",
        run.precision,
        f"{epoch}{renewed}",
        ", ".join(p if isinstance(p, str) else described(p) for p in run.probes) or NONE,
    )


def described(part: Part) -> str:
    """Return a component with its hyperparameters.

    >>> from bnnbench.runs import Part
    >>> described(Part("mlp", {"depth": 1, "dropout": 0.25})), described(Part("digits"))
    ('mlp (depth = 1, dropout = 0.25)', 'digits')
    """
    told = values(part.hyperparameters, part.hyperparameters)
    return f"{part.name} ({told})" if told else part.name


def values(hyperparameters: Mapping[str, object], names: Iterable[str]) -> str:
    """Return some hyperparameters with their values, in the order of their names."""
    known = [name for name in sorted(names) if name in hyperparameters]
    return ", ".join(f"{name} = {value(hyperparameters[name])}" for name in known)


def chosen(results: Results, rows: Sequence[Row]) -> dict[Cell, set[str]]:
    """Return the names of the hyperparameters that the study sets or tuned, by task and method.

    All others are the method's defaults.
    """
    tuned = {(row.task, row.method): set(row.tuned) for row in rows}
    methods = {method.name: set(method.hyperparameters) for method in results.study.methods}
    return {cell: methods[cell[1]] | tuned.get(cell, set()) for cell in results.asked}

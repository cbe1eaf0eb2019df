"""The tables that answer the question: results, hyperparameters, and what is missing."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.cli.comparisons import between, budget
from bnnbench.conformance import UNCHECKED
from bnnbench.metrics import OTHERS, accuracy_of
from bnnbench.plugins import singular
from bnnbench.store import CONFIRM, DIVERGED, DONE, ENDED, FAILED, PRUNED, TUNE
from bnnbench_reports.thinning import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnnbench.comparisons import Comparisons
    from bnnbench.results import Results
    from bnnbench.rows import Row, Spread
    from bnnbench.store import Entry
    from bnnbench.studies import Published
    from bnnbench_reports.readings import Cell

MOVERS = ("methods/", "binarizers/", "optimizers/")  #: the components that a method is made of
NONE = "–"  #: what a cell shows where there is no number
SPACE = "\u00a0"  #: where a line must not break


class Table(NamedTuple):
    """A table of text. ``numeric`` columns and ``faint`` rows are given by their index."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    faint: frozenset[int] = frozenset()


def results_table(
    rows: Sequence[Row], reference: str, comparisons: Comparisons | None = None
) -> Table:
    """Return a line for each (task, method, mode); all but the judged modes are faint.

    With ``comparisons`` there are the intervals of the means too, and the seconds of tuning.
    """
    others = [metric for metric in OTHERS if any(metric in row.others for row in rows)]
    accuracy = accuracy_of(row.kind for row in rows)
    columns = (
        "task",
        "method",
        "deployed weights",
        "bits",
        f"test {accuracy}, %",
        *(["95 % interval"] if comparisons else []),
        *(f"test {OTHERS[metric]}, %" for metric in others),
        "n",
        f"validation {accuracy}, %",
        "flip rate per step",
        "s per epoch",
        f"time ÷ {reference}" if reference else "time ratio",
        "trials",
        "published, %",
        "failures",
    )
    faint = frozenset(number for number, row in enumerate(rows) if not row.judged)
    numeric = frozenset(range(4, columns.index("trials")))
    lines = [_result(row, others) for row in rows]
    if comparisons:
        places = columns.index("95 % interval"), columns.index("trials")
        lines = [
            _compared(line, row, comparisons, *places)
            for line, row in zip(lines, rows, strict=True)
        ]
    return Table(columns, lines, numeric, faint)


def _compared(
    line: Sequence[str], row: Row, comparisons: Comparisons, interval: int, trials: int
) -> tuple[str, ...]:
    """A line of the table with an interval, and what tuning took."""
    cell, told = comparisons.cells[row.task, row.method, row.mode], list(line)
    told.insert(interval, between(cell.interval) or NONE)
    if row.judged and cell.tuning.trials:
        told[trials] = budget(cell.tuning)
    return tuple(told)


def noted(table: Table, notes: Mapping[str, str]) -> Table:
    """Return the table with each task followed by what sets its data apart.

    >>> noted(Table(["task"], [["mnist"], ["shapes"]]), {"shapes": "synthetic data"}).rows
    [['mnist'], ['shapes (synthetic data)']]
    """
    if not notes or "task" not in table.columns:
        return table
    place = list(table.columns).index("task")
    rows = [list(row) for row in table.rows]
    for row in rows:
        if note := notes.get(row[place]):
            row[place] += f" ({note})"
    return table._replace(rows=rows)


def _result(row: Row, others: Sequence[str]) -> tuple[str, ...]:
    once = (
        (
            row.flips and f"{row.flips.mean:.2g}",
            row.seconds is not None and digits(row.seconds),
            row.ratio and f"{row.ratio.format()} (n = {row.ratio.n})",
            _counts(row.trials),
        )
        if row.judged
        else ("", "", "", "")
    )
    beside = "; ".join(published(p) for p in row.published if _stands_beside(p, row))
    failures = _counts(row.ended_badly)
    return (
        row.task,
        row.method,
        f"{row.mode}{SPACE}✓{SPACE}judged" if row.judged and row.mode else row.mode or NONE,
        bits(row.weight_bits, row.activation_bits),
        percent(row.test),
        *(percent(row.others.get(metric)) for metric in others),
        str(row.test.n if row.test else 0),
        percent(row.validation),
        *(cell or (NONE if row.judged else "") for cell in once),
        beside or (NONE if row.judged else ""),
        (failures or "none") if row.judged else "",
    )


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count}{SPACE}{state}" for state, count in states.items())


def _stands_beside(figure: Published, row: Row) -> bool:
    return figure.metric == "test_accuracy" and (row.judged or bool(figure.mode))


def bits(weights: str, activations: str) -> str:
    """Return the bits of weights and activations.

    >>> bits("1", "32")
    '1W32A'
    """
    return f"{weights}W{activations}A"


def digits(number: float, significant: int = 3) -> str:
    """Return a number with so many significant digits, at most as decimals.

    >>> [digits(number) for number in (0.0049, 0.49, 2.9, 1234.5)]
    ['0.00490', '0.490', '2.90', '1234']
    """
    magnitude = math.floor(math.log10(abs(number))) if number else 0
    return f"{number:.{max(significant - 1 - magnitude, 0)}f}"


def percent(spread: Spread | None) -> str:
    """Return "mean ± sd" with two digits."""
    return spread.format() if spread else NONE


def published(figure: Published) -> str:
    """Return a published value with its deviation and number, as far as they are given.

    Its source stands in the table of published values beside measured ones.
    """
    value = f"{figure.value:g}" + (f" ± {figure.sigma:g}" if figure.sigma is not None else "")
    return f"{value} (n = {figure.n})" if figure.n is not None else value


def hyperparameters_table(rows: Sequence[Row], levels: Mapping[Cell, str] | None = None) -> Table:
    """Return the hyperparameters of the confirming runs, the tuned ones by themselves.

    With ``levels``, see :func:`levels`, there is how far each method came when it was checked.
    """
    judged = [row for row in rows if row.judged and row.done]
    lines = [
        (
            row.task,
            row.method,
            _values(row, row.tuned) or "none",
            _values(row, sorted(set(row.hyperparameters) - set(row.tuned))) or "none",
            ", ".join(row.builds_on) or NONE,
            *([levels.get((row.task, row.method), UNCHECKED)] if levels is not None else []),
        )
        for row in judged
    ]
    columns = ("task", "method", "tuned on validation", "fixed or by default", "builds on")
    return Table((*columns, *(["checks"] if levels is not None else [])), lines)


def levels(results: Results) -> dict[Cell, str]:
    """Return how far the method of each task came in its checks, as its runs have it.

    Of a binarizer and an optimizer that are crossed, each is named where they differ.
    """
    found: dict[Cell, dict[str, None]] = {}
    for entry in results.confirmed():
        known = {
            kind_name.partition("/")[0]: level
            for kind_name, level in entry.facts.get("levels", {}).items()
            if kind_name.startswith(MOVERS)
        }
        found.setdefault((entry.task, entry.method), {})[level_of(known)] = None
    return {cell: " / ".join(told) for cell, told in found.items()}


def level_of(known: Mapping[str, str]) -> str:
    """Return the level of a method, or those of a binarizer and an optimizer.

    >>> level_of({"binarizers": "conforms", "optimizers": "works"}), level_of({})
    ('binarizer conforms, optimizer works', 'not checked')
    """
    if len(set(known.values())) < 2:
        return next(iter(known.values()), UNCHECKED)
    return ", ".join(f"{singular(kind)} {level}" for kind, level in known.items())


def _values(row: Row, names: Iterable[str]) -> str:
    return ", ".join(f"{name} = {value(row.hyperparameters[name])}" for name in names)


def value(given: Any) -> str:
    """Return a value as short text."""
    return f"{given:.4g}" if isinstance(given, float) else str(given)


def coverage_table(results: Results) -> Table:
    """Return for each (task, method) how its runs ended, and why some are missing."""
    columns = ["task", "method", "confirming runs", "done", FAILED, DIVERGED, "missing"]
    columns += ["trials done", PRUNED, "trials failed", "trials diverged", "reasons"]
    lines = [_coverage(results, *cell, asked) for cell, asked in results.asked.items()]
    return Table(columns, lines, frozenset(range(2, 11)))


def _coverage(results: Results, task: str, method: str, asked: int) -> tuple[str, ...]:
    mine = results.cell(task, method)
    confirming = Counter(e.state for e in mine if e.role == CONFIRM)
    trials = Counter(e.state for e in mine if e.role == TUNE)
    counts = [
        asked,
        *(confirming[state] for state in (DONE, FAILED, DIVERGED)),
        asked - ended(e for e in mine if e.role == CONFIRM),
        *(trials[state] for state in (DONE, PRUNED, FAILED, DIVERGED)),
    ]
    return (task, method, *map(str, counts), "; ".join(reasons(mine, asked)) or "")


def ended(entries: Iterable[Entry]) -> int:
    """Return how many runs have come to an end, good or bad."""
    return sum(entry.state in ENDED for entry in entries)


def reasons(entries: Sequence[Entry], asked: int) -> list[str]:
    """Return why runs failed, diverged or are missing, each reason once with its count."""
    bad = [e for e in entries if e.state in (FAILED, DIVERGED)]
    said = counted(one_line(e.error) or f"{e.state}, no reason is known" for e in bad)
    trials = [e for e in entries if e.role == TUNE]
    confirming = [e for e in entries if e.role == CONFIRM]
    if trials and not confirming and all(e.state in (FAILED, DIVERGED, PRUNED) for e in trials):
        return [*said, "no trial was completed, so there is nothing to confirm"]
    if missing := asked - ended(confirming):
        running = sum(e.state == "running" for e in confirming)
        said.append(f"{missing} not finished" + (f" ({running} begun)" if running else ""))
    return said


def counted(reasons: Iterable[str]) -> list[str]:
    """Return each reason once with its count; of very many the most frequent ones.

    >>> counted(["no", "full", "no"])
    ['2 × no', '1 × full']
    """
    counts = Counter(reasons)
    if len(counts) <= REASONS:
        return [f"{count} × {reason}" for reason, count in counts.items()]
    most = counts.most_common(REASONS)
    rest = counts.total() - sum(count for _, count in most)
    others = f"{rest} × one of {len(counts) - REASONS} other reasons"
    return [*(f"{count} × {reason}" for reason, count in most), others]


def one_line(error: str) -> str:
    r"""Return the exception of a traceback, or the first line of any other text.

    >>> one_line('Traceback (most recent call last):\n  File "x.py"\nValueError: no\n  such')
    'ValueError: no'
    """
    blocks = re.split(r"\n(?=\S)", error.strip())
    starts = [n for n, block in enumerate(blocks) if block.startswith("Traceback (most recent")]
    after = starts[-1] + 1 if starts else 0
    return blocks[min(after, len(blocks) - 1)].partition("\n")[0].strip()

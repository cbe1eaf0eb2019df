"""Tables in the terminal of what differs, and of what that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.statistics.paired import ALPHA, Cannot
from bnnbench.statistics.ranks import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from bnnbench.comparisons import Beside, Budget, Comparisons, Difference
    from bnnbench.statistics.intervals import Interval
    from bnnbench.statistics.targets import Arrivals

CURVES = 1_000  #: finished runs up to which the terminal reads curves; a report reads all


def numbers(title: str, *columns: str) -> Table:
    """Return an empty table of methods and numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    made.add_column("method", overflow="fold")
    for column in columns:
        made.add_column(column, justify="right", overflow="fold")
    return made


def tables(comparisons: Comparisons, task: str) -> Iterator[Table]:
    """Yield the tables of a task that there is something to show in."""
    differences = [each for each in comparisons.differences if each.task == task]
    if any(each.paired for each in differences):
        yield _differences(differences, comparisons.reference)
    beside = [each for each in comparisons.published if each.task == task]
    if any(each.gap for each in beside):
        yield _published(beside, comparisons.results.study.scale)
    if read_curves(comparisons):
        yield from _arrivals(comparisons, task)


def read_curves(comparisons: Comparisons) -> bool:
    """Whether the terminal reads curves: there is a reference, and the runs are not very many."""
    return 0 < len(comparisons.results.confirmed()) <= CURVES and bool(comparisons.reference)


def _differences(found: Sequence[Difference], reference: str) -> Table:
    heads = ("difference", "95 % interval", "p (Holm)", "effect", "better", "n")
    made = numbers(f"against {_escaped(reference)}", *heads)
    for each in found:
        made.add_row(_escaped(each.method), *difference_cells(each))
    return made


def difference_cells(difference: Difference) -> list[str]:
    """Return the difference, its interval, p, the effect, the share of better pairs, and n."""
    paired = difference.paired
    if paired is None:
        return ["", "", "no common seed", "", "", "0"]
    return [
        f"{paired.mean:+.2f}",
        between(paired.interval, "+.2f"),
        p_value(paired.p),
        f"{paired.effect:+.2f}",
        f"{paired.better:.0%}",
        f"{paired.n}",
    ]


def p_value(p: float | Cannot) -> str:
    """Return p with two digits, or why there is none.

    >>> p_value(0.03125), p_value(Cannot(3, 0))
    ('0.031', 'n = 3 cannot reach 0.05')
    """
    return str(p) if isinstance(p, Cannot) else f"{p:.2g}"


def between(interval: Interval | None, form: str = ".2f") -> str:
    """Return an interval as text, nothing for none.

    >>> between((1.0, 2.5)), between(None)
    ('1.00 to 2.50', '')
    """
    return "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _published(found: Sequence[Beside], scale: float) -> Table:
    heads = ("published %", "measured %", "difference", "in published sd")
    made = numbers(f"published against measured ({trained(scale)})", *heads)
    for each in found:
        made.add_row(_escaped(each.method), *published_cells(each))
    return made


def trained(scale: float) -> str:
    """Return what the runs had of the published training.

    >>> trained(1.0), trained(0.01)
    ('full scale', '0.01 of the published training')
    """
    return "full scale" if scale >= 1 else f"{scale:g} of the published training"


def published_cells(beside: Beside) -> list[str]:
    """Return the published value, the measured one, and how far apart they are."""
    value, gap = beside.published, beside.gap
    sigma = f" ± {value.sigma:g}" if value.sigma is not None else ""
    return [
        f"{value.value:g}{sigma}",
        beside.measured.format() if beside.measured else "",
        f"{gap.difference:+.2f}" if gap else "",
        f"{gap.sds:+.1f}" if gap and gap.sds is not None else "",
    ]


def _arrivals(comparisons: Comparisons, task: str) -> Iterator[Table]:
    found = {m: way for (where, m), way in comparisons.arrivals.items() if where == task}
    if not found:
        return
    wanted = next(iter(found.values())).target
    made = numbers(
        f"to {wanted:.2f} % on validation, the median best of {_escaped(comparisons.reference)}",
        "reached", "epochs", "seconds", "flips per weight",
    )  # fmt: skip
    for method, way in found.items():
        reached = f"{way.epochs.reached} of {way.epochs.n}"
        costs = [median(each) for each in (way.epochs, way.seconds, way.flips)]
        made.add_row(_escaped(method), reached, *costs)
    yield made


def median(arrivals: Arrivals) -> str:
    """Return the median of what it takes to the target, nothing where nothing was measured."""
    if not arrivals.n:
        return ""
    return "not reached" if arrivals.median is None else f"{arrivals.median:.4g}"


def across_tables(comparisons: Comparisons) -> Iterator[Table]:
    """Yield the table of mean ranks, where the methods can be ranked."""
    across = comparisons.across
    if across is None or isinstance(across.ranking, Refusal):
        return
    areas = comparisons.areas if read_curves(comparisons) else None
    heads = ["mean rank", "not different", *([f"profile, {areas.unit}"] if areas else [])]
    made = numbers(f"across {across.ranking.tasks} tasks", *heads)
    for place, method in enumerate(across.methods):
        area = [f"{areas.areas[place]:.2f}"] if areas else []
        made.add_row(
            _escaped(method), f"{across.ranking.ranks[place]:.2f}", across.letters[place], *area
        )
    yield made


def notes(comparisons: Comparisons) -> Iterator[str]:
    """Yield what must be known to read the tables."""
    family = [each.paired for each in comparisons.differences if each.paired]
    if family:
        tested = sum(not isinstance(paired.p, Cannot) for paired in family)
        how = f"p: Wilcoxon, two-sided, Holm over {tested}"
        how = how if tested else f"no p: so few pairs cannot reach {ALPHA}"
        yield f"against {comparisons.reference}: test accuracy minus that of the same seed; {how}"
        yield "effect: rank-biserial, -1 to 1; better: share of the pairs, ties count half"
    yield "95 % intervals: bootstrap-t; those of three values hold the mean in 83 to 93 % of cases"
    if read_curves(comparisons) and comparisons.arrivals:
        yield "to the target: medians over all runs, those that miss it included (Kaplan-Meier)"
    yield from across_notes(comparisons)
    yield from _budgets(comparisons)


def across_notes(comparisons: Comparisons) -> Iterator[str]:
    """Yield what was tested across tasks, or why nothing was."""
    if comparisons.across is None:
        return
    found = comparisons.across.ranking
    if isinstance(found, Refusal):
        yield f"across tasks: no ranks: {found.reason}"
        return
    yield (
        f"across tasks: Friedman's chi-square {found.statistic:.2f}, p = {found.p:.2g} over"
        f" {found.tasks} tasks; critical difference {found.critical:.2f} (Nemenyi)"
    )
    if found.p > ALPHA:
        yield f"across tasks: p is above {ALPHA}, so no methods are told apart"
    else:
        yield "across tasks: methods with a letter in common are not told apart"


def _budgets(comparisons: Comparisons) -> Iterator[str]:
    """Yield what tuning took, a line for each task."""
    found: dict[str, list[str]] = {}
    for cell in comparisons.cells.values():
        if cell.judged and cell.tuning.trials:
            found.setdefault(cell.task, []).append(f"{cell.method} {budget(cell.tuning)}")
    for task, told in found.items():
        yield f"{task}: tuning took {'; '.join(told)}"


def budget(spent: Budget) -> str:
    """Return the trials, how they ended where they were not completed, and their seconds.

    >>> from bnnbench.comparisons import Budget
    >>> budget(Budget(20, 3, 1, 0, 61.2))
    '20 trials (3 pruned, 1 failed), 61 s'
    """
    ends = {name: getattr(spent, name) for name in ("pruned", "failed", "diverged")}
    told = ", ".join(f"{count} {name}" for name, count in ends.items() if count)
    trials = "1 trial" if spent.trials == 1 else f"{spent.trials} trials"
    return f"{trials}{f' ({told})' if told else ''}, {spent.seconds:.0f} s"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def widest(made: Table) -> int:
    """Return the columns of the terminal that a table wants, of cells of one line."""
    columns = [max(map(len, [str(c.header), *map(str, c.cells)])) for c in made.columns]
    return sum(columns) + 3 * len(columns) - 1

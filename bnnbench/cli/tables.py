"""Tables in the terminal."""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from bnnbench.graph import START_FROM
from bnnbench.metrics import OTHERS, accuracy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from bnnbench.comparisons import Comparisons
    from bnnbench.needs import Need
    from bnnbench.results import Base, Results
    from bnnbench.rows import Row, Spread
    from bnnbench.store import Entry, StudySummary
    from bnnbench.studies import Study


def console() -> Console:
    """Return a console; one that is not a terminal is wide enough for any table."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def table(*columns: str, title: str = "") -> Any:
    """Return an empty table whose columns from the third on are numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < 2 else "right", overflow="fold")
    return made


def print_results(results: Results, *, details: bool = False) -> None:
    """Print the tables of each task and across tasks, and what must be known to read them."""
    from bnnbench.cli import comparisons as compared
    from bnnbench.comparisons import Comparisons

    rows = results.rows()
    out, comparisons = console(), Comparisons(results, rows)
    for task, group in itertools.groupby(rows, key=lambda row: row.task):
        out.print(_fitting(list(group), comparisons, out))
        for more in compared.tables(comparisons, task):
            out.print(more)
    for more in compared.across_tables(comparisons):
        out.print(more)
    for line in (*compared.notes(comparisons), *_notes(results, rows, details=details)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _fitting(mine: Sequence[Row], comparisons: Comparisons, out: Console) -> Table:
    """The table of results, with the intervals of the means if there are any and room for them."""
    from bnnbench.cli.comparisons import widest

    cells = (comparisons.cells[row.task, row.method, row.mode] for row in mine)
    if any(cell.interval for cell in cells):
        made = results_table(mine, comparisons.results, comparisons)
        if widest(made) <= out.width:
            return made
    made = results_table(mine, comparisons.results)
    return made if widest(made) <= out.width else _narrow(made)


def _narrow(made: Table) -> Table:
    """The table with heads of several lines and less space; of its cells only names may break."""
    made.collapse_padding = True
    for column in made.columns:
        column.header = str(column.header).replace(" ", "\n").replace("/step", "/\nstep")
        column.no_wrap = column is not made.columns[0]
    return made


def results_table(
    mine: Sequence[Row], results: Results, comparisons: Comparisons | None = None
) -> Table:
    """Return the table of results of a task, with ``comparisons`` the intervals of the means."""
    from rich.markup import escape

    from bnnbench.cli.comparisons import between

    task, reference = mine[0].task, results.study.reference or "reference"
    others = [metric for metric in OTHERS if any(metric in row.others for row in mine)]
    made: Table = table(
        "method", "judged with", "W/A bits", f"test {accuracy_of([mine[0].kind])} %",
        *(["95 % interval"] if comparisons else []),
        *(f"test {OTHERS[metric]} %" for metric in others), "n", "validation %",
        "flips/step", "s/epoch", f"x {reference}",
        title=escape(f"{results.name}: {noted(task, results)}"),
    )  # fmt: skip
    for row in mine:
        cells = _cells(row, others)
        if comparisons:
            cells.insert(4, between(comparisons.cells[row.task, row.method, row.mode].interval))
        made.add_row(*map(escape, cells), style=None if row.judged else "dim")
    return made


def noted(task: str, results: Results) -> str:
    """Return a task with what sets its data apart."""
    note = results.notes.get(task)
    return f"{task} ({note})" if note else task


def _cells(row: Row, others: Sequence[str]) -> list[str]:
    judged = f"{row.mode}{' *' if row.judged and row.mode else ''}"
    bits = f"{row.weight_bits}/{row.activation_bits}" if row.done else ""
    return [
        row.method,
        judged,
        bits,
        _spread(row.test, 2),
        *(_spread(row.others.get(metric), 2) for metric in others),
        f"{row.done}" if row.done == row.asked else f"{row.done} of {row.asked}",
        _spread(row.validation, 2),
        f"{row.flips.mean:.1e}" if row.flips else "",
        f"{row.seconds:.3g}" if row.seconds is not None else "",
        _spread(row.ratio, 2),
    ]


def _spread(spread: Spread | None, digits: int) -> str:
    return spread.format(digits) if spread else ""


def _notes(results: Results, rows: Sequence[Row], *, details: bool) -> list[str]:
    protocol = results.study.protocol
    notes = [
        "* the inference mode in which a method is judged: its authors' own, or as the study says"
    ]
    notes += ["mean ± sd over n seeds"]
    if protocol.trials or protocol.seconds:
        trials = "1 trial" if protocol.trials == 1 else f"{protocol.trials} trials"
        seconds = f"{protocol.seconds:g} s of training" if protocol.seconds else ""
        budget = " or ".join(filter(None, (trials if protocol.trials else "", seconds)))
        notes.append(f"tuned with {budget} per method on validation only")
    notes += _apart(results.study, results.name, details=details)
    for row in rows:
        if row.ended_badly:
            ends = ", ".join(f"{count} {state}" for state, count in row.ended_badly.items())
            notes.append(f"{row.method}: {ends}; not in the means")
        if row.judged:
            notes += [_published(row, p) for p in row.published]
        if row.done and row.mode == "binary" and row.weight_bits != "1":
            notes.append(
                f"{row.method}: what it calls binary has weights of {row.weight_bits} bits"
            )
        if row.judged and row.done and details:
            chosen = ", ".join(f"{k}={_short(v)}" for k, v in row.hyperparameters.items())
            notes.append(f"{row.method}: {chosen}")
    notes += _built_on(rows)
    done, timed = (sum(n) for n in zip(*((r.done, r.timed) for r in rows if r.judged), strict=True))
    if timed < done:
        notes.append(
            f"{done - timed} of {done} confirming runs shared the machine with others;"
            " they count for accuracy, not for time"
        )
    if details:
        notes += [_base(base) for base in results.bases()]
        notes += [_roles(e) for e in {e.task: e for e in results.confirmed()}.values()]
        notes.append(f"created with bnnbench {results.version} by: {results.command}")
    return list(dict.fromkeys(notes))


def _apart(study: Study, name: str, *, details: bool) -> Iterator[str]:
    """Yield what sets a study apart from its source: less training, and its departures."""
    from bnnbench.cli.comparisons import trained

    if study.scale < 1:
        yield f"scale: {trained(study.scale)}"
    if details:
        yield from (f"departs from its source: {each}" for each in study.departures)
    elif study.departures:
        count = len(study.departures)
        points = "1 point" if count == 1 else f"{count} points"
        yield f"departs from its source in {points}; 'bnnbench study show {name}' says in which"


def _built_on(rows: Sequence[Row]) -> list[str]:
    """Which methods start from or learn from what, in a line for each."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        before = f" ({row.epochs_before} epochs before)" if row.epochs_before else ""
        for base in row.builds_on:
            where = before if base.startswith(START_FROM) else ""
            found.setdefault(f"{row.task}: {base}{where}: ", {})[row.method] = None
    return [where + ", ".join(methods) for where, methods in found.items()]


def _base(base: Base) -> str:
    """A run that others build on, in a line."""
    entry = base.entry
    judged = entry.facts.get("judged", "")
    told = f", validation {base.validation:.2f} % ({judged})" if base.validation is not None else ""
    used = ", ".join(base.used_by) or "nothing"
    return f"run {entry.label}: {entry.state}{told}; {used}"


def _roles(entry: Entry) -> str:
    """How many parameters of a task's network are binary, and which of the outer layers are."""
    found = entry.facts.get("roles", [])
    counts = {"binary": 0, "real": 0}
    for role in found:
        counts[role["role"]] += math.prod(role["shape"])
    outer = Counter((role["place"], role["role"]) for role in found if role["place"])
    places = ", ".join(_layers(*which, n) for which, n in outer.items())
    return f"{entry.task}: {counts['binary']:,} binary weights, {counts['real']:,} real ({places})"


def _layers(place: str, role: str, count: int) -> str:
    """So many layers of a place and a role.

    >>> _layers("first", "real", 1), _layers("shortcut", "binary", 3)
    ('first layer real', '3 shortcut layers binary')
    """
    return f"{place} layer {role}" if count == 1 else f"{count} {place} layers {role}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _published(row: Row, published: Any) -> str:
    sigma = f" ± {published.sigma}" if published.sigma is not None else ""
    n = f", n = {published.n}" if published.n else ""
    source = f" ({published.source}{n})" if published.source else ""
    return f"{row.method}: published {published.metric} {published.value}{sigma}{source}"


def plan_table(name: str, needs: Sequence[Need], seconds: float | None = None) -> None:
    """Print what a study still needs, in the order in which it is trained.

    ``seconds`` is each method's budget, if it is one.
    """
    based = any(need.bases or need.reused or need.builds_on for need in needs)
    costly = seconds is not None or any(need.spent and need.spent.trials for need in needs)
    columns: dict[str, Callable[[Need], str]] = {
        "trials": lambda need: f"{'about ' if need.open else ''}{need.trials}",
        "confirmations": lambda need: f"{need.confirmations}",
    }
    if costly:
        columns["spent on trials"] = lambda need: _spent(need, seconds)
    if based:
        columns |= {
            "base runs": lambda need: f"{need.bases}",
            "reused": lambda need: f"{need.reused}",
        }
    columns["epochs"] = lambda need: f"{need.epochs}"
    made = table("task", "method or run", *columns, title=f"plan of {name}")
    if based:
        made.add_column("builds on")
    for need in needs:
        ends = [", ".join(need.builds_on)] if based else []
        made.add_row(need.task, need.method, *(tell(need) for tell in columns.values()), *ends)
    console().print(made, markup=False)
    about = "about " if any(need.open for need in needs) else ""
    click.echo(about + _missing(sum(need.runs for need in needs)))


def _spent(need: Need, seconds: float | None) -> str:
    """What the trials of a method have cost, of a budget of seconds if there is one."""
    if need.spent is None:
        return ""
    budget = f" of {seconds:g}" if seconds is not None else ""
    return f"{need.spent.trials} in {need.spent.seconds:.3g}{budget} s"


def _missing(runs: int) -> str:
    """How many runs are missing, in words.

    >>> _missing(0), _missing(1), _missing(8)
    ('nothing is missing', '1 run is missing', '8 runs are missing')
    """
    if not runs:
        return "nothing is missing"
    return "1 run is missing" if runs == 1 else f"{runs} runs are missing"


def studies_table(studies: Sequence[StudySummary]) -> None:
    """Print a line for each study."""
    if not studies:
        click.echo("no studies; 'bnnbench study create quickstart' makes one")
        return
    made = table("study", "title", "methods", "runs ended", "created")
    for study in studies:
        created = datetime.datetime.fromtimestamp(study.created_at, datetime.UTC)
        ended = f"{study.ended} of {study.runs}" if study.runs else _not_run(study)
        made.add_row(
            study.name, study.title, str(study.methods), ended, f"{created:%Y-%m-%d %H:%M} UTC"
        )
    console().print(made)


def _not_run(study: StudySummary) -> str:
    """That a study has no runs yet, and how many it asks for, where that is known."""
    most = "at most " if study.at_most else ""
    return f"not run yet, {most}{study.planned} planned" if study.planned else "not run yet"


def print_events(events: Sequence[tuple[float, str, str]]) -> None:
    """Print what happened, a line each."""
    for at, kind, text in events:
        when = datetime.datetime.fromtimestamp(at, datetime.UTC)
        click.echo(f"{when:%Y-%m-%d %H:%M:%S} UTC  {kind}: {text}")
    if not events:
        click.echo("nothing out of the ordinary")


def failures(results: Results) -> None:
    """Print every run that failed or diverged, with its error; not those of a former best."""
    from bnnbench.catalogue import FORMER

    bad = [
        entry
        for entry in results.entries
        if entry.state in ("failed", "diverged") and not entry.role.startswith(FORMER)
    ]
    for entry in bad:
        kind = f" ({entry.failure})" if entry.failure else ""
        click.echo(f"{entry.state}{kind}: {entry.label}")
        click.echo(f"  {dict(entry.run.method.hyperparameters)}")
        click.echo("  " + entry.error.strip().replace("\n", "\n  "))
    if not bad:
        click.echo("no run failed")

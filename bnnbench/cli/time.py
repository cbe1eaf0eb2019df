"""``bnnbench time``: time the methods of a study against each other, in turns."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli.completion import all_studies
from bnnbench.cli.devices import usable_device
from bnnbench.cli.options import (
    check_names,
    device_option,
    open_store,
    rounds_option,
    storage_option,
    tasks_option,
    threads_option,
)
from bnnbench.cli.progress import QUIET
from bnnbench.cli.tables import console, table
from bnnbench.costs import FEWEST
from bnnbench.environment import FOREIGN
from bnnbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnnbench.cells import Cell
    from bnnbench.cli import Settings
    from bnnbench.costs import Cost, Estimate, Times
    from bnnbench.experiments import Workbench
    from bnnbench.plugins import Plugins
    from bnnbench.studies import Study
    from bnnbench.timing import Timing


@click.command("time")
@click.argument("study", shell_complete=all_studies)
@tasks_option
@click.option(
    "--reference", metavar="NAME", help="The method to compare with. [default: real, or the first]"
)
@rounds_option(1)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Training steps of a visit. [default: as many as the reference takes in 0.25 s]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of order and weights."
)
@device_option
@threads_option
@click.option(
    "--json",
    "target",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write all that was measured here; - is the standard output, instead of tables.",
)
@storage_option
@click.pass_obj
def command(
    settings: Settings,
    /,
    study: str,
    tasks: tuple[str, ...],
    reference: str | None,
    device: str,
    threads: int | None,
    target: str | None,
    storage: str,
    **plan: Any,
) -> None:
    """Time the methods of a study against each other.

    STUDY is a study of the database, a bundled one or a study file. In every round the reference
    is trained for some steps, then the others in an order drawn anew; the first round is warm-up.
    Nothing is stored. Ctrl-C shows what was measured so far.
    """
    from bnnbench.cells import cells
    from bnnbench.experiments import Workbench
    from bnnbench.timing import Untrained

    _check_target(target)
    described = _study(settings.plugins(), study, storage)
    plugins = settings.plugins(described)
    plan["reference"] = _reference(described, reference)
    chosen = _chosen(described, tasks)
    found: list[Times] = []

    def done(times: Times) -> None:
        found.append(times)
        if target != "-":
            print_times(study, times)

    with tempfile.TemporaryDirectory(prefix="bnnbench-") as folder:
        workbench = Workbench(plugins, usable_device(device), threads, Untrained(folder))
        planned = [c for c in cells(study, described, workbench) if c.task.name in chosen]
        try:
            _timed(planned, workbench, plan, done)
        finally:
            if found and target:
                _write(target, {"study": study, "seed": plan["seed"], "tasks": found})


def _study(plugins: Plugins, name: str, storage: str) -> Study:
    """The study of this name in the database, else the bundled one, else that of the file."""
    from bnnbench.studyfile import read_study

    created = _created(name, storage)
    if created is not None:
        return created
    if name in plugins.names("studies"):
        return read_study(plugins.get("studies", name), f"{name}.toml")
    if not name.endswith(".toml"):
        plugins.get("studies", name)  # says that there is none, and which is near
    return read_study(name)


def _created(name: str, storage: str) -> Study | None:
    from bnnbench.database import parse_url

    url = parse_url(storage)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return None
    store = open_store(storage)
    return store.study(name) if name in [s.name for s in store.studies()] else None


def _reference(study: Study, name: str | None) -> str:
    known = [method.name for method in study.methods]
    check_names("method", [] if name is None else [name], known)
    return name or study.reference or known[0]


def _chosen(study: Study, names: Sequence[str]) -> Sequence[str]:
    known = [task.name for task in study.tasks]
    check_names("task", names, known)
    return names or known


def _timed(
    planned: Sequence[Cell],
    workbench: Workbench,
    plan: Mapping[str, Any],
    done: Callable[[Times], None],
) -> None:
    """Time one task after the other; tasks whose data are not here are left out.

    Raises:
        DataError: that is true of all of them.
    """
    tasks = list(dict.fromkeys(cell.task.name for cell in planned))
    missing: list[DataError] = []
    for task in tasks:
        try:
            _time([c for c in planned if c.task.name == task], workbench, plan, done)
        except DataError as error:
            missing.append(error)
            if len(tasks) > 1:
                click.echo(f"warning: task {task!r} is left out: {error}", err=True)
    if len(missing) == len(tasks):
        raise missing[0]


def _time(
    mine: Sequence[Cell],
    workbench: Workbench,
    plan: Mapping[str, Any],
    done: Callable[[Times], None],
) -> None:
    """Time the methods of a task, and hand on what was measured, also if it is broken off."""
    from bnnbench.timing import Timing

    timing = Timing(mine, workbench, **plan)
    try:
        _watch(timing)
    finally:
        times = timing.times()
        if times.costs:
            done(times)


def _watch(timing: Timing) -> None:
    """Let the methods take their turns, and say on standard error how far they are."""
    (_live if sys.stderr.isatty() else _plain)(timing)


def _live(timing: Timing) -> None:
    """Move a bar that is gone in the end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=timing.visits)
        for number, name in timing:
            bars.update(bar, advance=1, description=f"{_place(timing, number)}: {name}")


def _plain(timing: Timing) -> None:
    """Print a line at the beginning and one now and then."""
    click.echo(f"{timing.cell.task.name}: {timing.visits} visits of {timing.steps} steps", err=True)
    said = time.monotonic()
    for number, _ in timing:
        if time.monotonic() - said > QUIET:
            click.echo(_place(timing, number), err=True)
            said = time.monotonic()


def _place(timing: Timing, number: int) -> str:
    where = f"round {number} of {timing.rounds}" if number else "warm-up"
    return f"{timing.cell.task.name}, {where}"


def _check_target(target: str | None) -> None:
    """Refuse, before anything is measured, a file whose folder is not there."""
    if target and target != "-" and not Path(target).resolve().parent.is_dir():
        raise UsageError(
            f"--json must name a file in a folder that exists, got {target!r}; make the folder"
        )


def _write(target: str, told: Mapping[str, Any]) -> None:
    text = json.dumps(told, indent=2, default=lambda times: times.to_dict())
    if target == "-":
        click.echo(text)
        return
    try:
        Path(target).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None


def print_times(study: str, times: Times) -> None:
    """Print what an epoch of each method costs, and what must be known to read it."""
    out = console()
    head = (
        f"{study}: {times.task} ({times.dataset}, {times.architecture}, batches of"
        f" {times.batch_size}, {times.epoch} to an epoch)"
    )
    out.print(head, markup=False, highlight=False, soft_wrap=True)
    out.print(times_table(times), markup=False)
    for line in _notes(times):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def times_table(times: Times) -> Any:
    """Return the table of methods; phases stand below theirs."""
    heads = ["s/epoch", f"x {times.reference}", "95 % interval", "n"]
    if any(cost.published for cost in times.costs):
        heads += ["published s/epoch", f"published x {times.reference}"]
    made = table("method")
    for head in heads:
        made.add_column(head, justify="right")
    for cost in times.costs:
        cells = _cells(cost, is_reference=cost.name == times.reference)
        made.add_row(cost.name, *cells[: len(heads)])
        for phase in cost.phases:
            name = f"  {phase.name} ({phase.share:.1%})"
            made.add_row(name, *_cells(phase)[: len(heads)], style="dim")
    return made


def _cells(cost: Cost, *, is_reference: bool = False) -> list[str]:
    values = "; ".join(f"{published.value:g}" for published in cost.published)
    ratios = "; ".join(f"{p.ratio:.3f}" for p in cost.published if p.ratio is not None)
    return [
        f"{cost.seconds.median:.3g}",
        f"{cost.ratio.median:.3f}",
        "" if is_reference else _interval(cost.ratio),
        f"{cost.ratio.n}",
        values,
        ratios,
    ]


def _interval(ratio: Estimate) -> str:
    return "" if ratio.low is None else f"{ratio.low:.3f} to {ratio.high:.3f}"


def _notes(times: Times) -> Iterator[str]:
    if times.note:
        yield f"data: {times.note}"
    yield (
        f"medians over n rounds (steps of a visit: {times.steps}); the ratio is that within a"
        " round, its interval is from order statistics"
    )
    if times.rounds < FEWEST:
        yield f"an interval takes {FEWEST} rounds"
    if any(cost.phases for cost in times.costs):
        yield "a method of several phases: their mean, weighted by their share of the epochs"
    for source in dict.fromkeys(p.source for cost in times.costs for p in cost.published):
        yield f"published: {source}"
    yield _machine(times.environment)
    yield from _neighbours(times.foreign)


def _machine(environment: Mapping[str, Any]) -> str:
    """What the times depend on, in a line."""
    wanted = ("cores", "threads", "device", "products", "python")
    packages = environment["packages"]
    facts = [f"{key} {environment[key]}" for key in wanted if key in environment]
    facts += [f"{name} {packages[name]}" for name in ("torch", "numpy", "bnnbench")]
    return ", ".join([environment["processor"], *facts])


def _neighbours(share: float | None) -> Iterator[str]:
    """What other processes did meanwhile."""
    if share is None:
        yield "whether others used the machine meanwhile is not known"
    elif share <= FOREIGN:
        yield f"others used {share:.0%} of the machine meanwhile"
    else:
        yield (
            f"warning: others used {share:.0%} of the machine meanwhile, more than {FOREIGN:.0%}:"
            " trust no seconds and ratios only as far as their intervals; time again when it is"
            " quiet"
        )

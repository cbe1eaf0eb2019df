"""``bnnbench study``: create, extend, run, list, show, delete."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli.completion import components, studies
from bnnbench.cli.export import export
from bnnbench.cli.options import (
    again,
    budget_options,
    checkpoints_option,
    masked,
    methods_option,
    open_store,
    set_option,
    storage_option,
)
from bnnbench.cli.run import checkpoints_of, run
from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from bnnbench.cells import Cell
    from bnnbench.studies import Study


@click.group(cls=Group)
def group() -> None:
    """Create, run and look at studies."""


group.add_command(export)
group.add_command(run)


@group.command()
@click.argument("name", shell_complete=components("studies"))
@click.option(
    "--from", "source", metavar="FILE", help="A study file, or the name of a bundled one."
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=components("datasets"),
    help="The data set (instead of --from).",
)
@click.option(
    "--architecture",
    metavar="NAME",
    shell_complete=components("architectures"),
    help="The network.",
)
@set_option("A hyperparameter of the network, as in width=64; repeat it.")
@click.option(
    "--loss",
    metavar="NAME",
    shell_complete=components("losses"),
    help="The loss. [default: squared-hinge]",
)
@methods_option
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of every run.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples in a batch.")
@budget_options
@click.option("--sampler", help="tpe, random, qmc, grid or gp.")
@click.option("--pruner", help="none, median or hyperband.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Train every run for this share of its epochs, or of one epoch's images.",
)
@storage_option
@click.pass_obj
def create(
    settings: Settings,
    /,
    name: str,
    source: str | None,
    scale: float | None,
    storage: str,
    **flags: Any,
) -> None:
    """Create a study: a bundled one of this NAME, a study file's (--from), or one from flags."""
    from bnnbench import __version__
    from bnnbench.cells import cells
    from bnnbench.cli.described import check_with_data, described, small
    from bnnbench.experiments import Workbench
    from bnnbench.studies import check_name

    check_name(name)
    study = described(settings.plugins(), name, source, flags)
    study = study.with_plugin_files(settings.files_of(study))
    workbench = Workbench(settings.plugins(study))
    planned = cells(name, study, workbench)
    if scale is not None:
        study = small(study, scale, flags, workbench)
        planned = cells(name, study, workbench)
    check_with_data(planned, workbench)
    open_store(storage, create=True).create_study(name, study, _command(), __version__)
    _print_created(name, study, planned)
    click.echo(f"run it: bnnbench study run {name}{again(storage)}")


def _command() -> str:
    """The command that is being run, without any password."""
    return masked(shlex.join(["bnnbench", *sys.argv[1:]]))


def _print_created(name: str, study: Study, planned: list[Cell]) -> None:
    """Say what a new study will train."""
    from bnnbench.cells import built_on

    tuned = [c for c in planned if c.spaces]
    protocol = study.protocol
    trials = protocol.trials * len(tuned)
    runs = f"runs in all {trials + protocol.seeds * len(planned)}"
    budget = f"tuning trials {trials}"
    if protocol.seconds:
        limit = f" or {protocol.trials} trials" if protocol.trials else ""
        budget = f"tuning {len(tuned)} times {protocol.seconds:g} s of training{limit}"
        runs = f"confirming runs {protocol.seeds * len(planned)}"
    used = {base.method.name for cell in planned for base in built_on(cell)}
    for spare in sorted(set(study.runs) - used):
        click.echo(
            f"warning: the run {spare!r} is named by nobody and will not be trained", err=True
        )
    beside = f", beside runs that others build on: {', '.join(sorted(used))}" if used else ""
    click.echo(
        f"created study {name!r}: tasks {len(study.tasks)}, methods {len(study.methods)},"
        f" {budget}, seeds {protocol.seeds}, {runs}{beside}"
    )
    if not protocol.tunes:
        click.echo("0 trials: nothing is tuned, hyperparameters are as published or as given")


@group.command()
@click.argument("name", shell_complete=studies)
@methods_option
@click.option(
    "--from",
    "source",
    metavar="FILE",
    help="Add the methods of this study file, or of a bundled one, that are not there yet.",
)
@budget_options
@click.option("--take-over", is_flag=True, help="Whoever ran the study before is gone.")
@storage_option
@click.pass_obj
def extend(
    settings: Settings,
    /,
    name: str,
    methods: tuple[str, ...],
    source: str | None,
    take_over: bool,
    storage: str,
    **totals: float | None,
) -> None:
    """Give a study more methods, seeds, trials or seconds to tune; what it has stays.

    Numbers are new totals. With more trials another one may be the best: its confirming runs are
    trained, and those of the former best no longer count.
    """
    from bnnbench.cells import cells
    from bnnbench.cli.described import check_with_data, more_methods
    from bnnbench.experiments import Workbench
    from bnnbench.extending import changes, extended
    from bnnbench.holding import held

    if not (methods or source or any(total is not None for total in totals.values())):
        raise UsageError("say what to add: --method, --from, --seeds, --trials or --budget-seconds")
    store = open_store(storage)
    with held(store, name, take_over=take_over):
        before = store.study(name)
        plugins = settings.plugins(before)
        added = more_methods(plugins, name, source, methods)
        after = extended(before, added, **totals)
        told = changes(before, after)
        if told:
            workbench = Workbench(plugins)
            planned = cells(name, after, workbench)
            new = {method.name for method in after.methods[len(before.methods) :]}
            check_with_data([cell for cell in planned if cell.method.name in new], workbench)
            store.extend_study(name, after, _command(), told)
    click.echo(f"extended study {name!r}: {told}" if told else f"study {name!r} has all that")
    click.echo(f"run it: bnnbench study run {name}{again(storage)}")


@group.command("list")
@storage_option
def list_(storage: str) -> None:
    """List the studies of a database."""
    from bnnbench.cli.tables import studies_table

    studies_table(open_store(storage).studies())


@group.command()
@click.argument("name", shell_complete=studies)
@click.option("--failed", is_flag=True, help="Show the runs that failed, with their tracebacks.")
@click.option("--events", is_flag=True, help="Show what happened to the study, and when.")
@storage_option
def show(name: str, failed: bool, events: bool, storage: str) -> None:
    """Show a study's results so far."""
    from bnnbench.cli.tables import failures, print_events, print_results
    from bnnbench.results import Results

    store = open_store(storage)
    results = Results(store, name)
    if failed:
        failures(results)
    elif events:
        print_events(store.events(name))
    else:
        print_results(results, details=True)


@group.command()
@click.argument("name", shell_complete=studies)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--take-over", is_flag=True, help="Whoever ran the study before is gone.")
@checkpoints_option
@storage_option
def delete(name: str, yes: bool, take_over: bool, checkpoints: str | None, storage: str) -> None:
    """Delete a study, its trials and the runs that no other study has."""
    from bnnbench.holding import held
    from bnnbench.search import delete_optuna_studies

    store = open_store(storage)
    count = len(store.entries(name))
    if not yes and not sys.stdin.isatty():
        raise UsageError(f"study {name!r} has {count} runs; give --yes to delete it unasked")
    if not yes:
        click.confirm(f"Delete study {name!r} with its {count} runs?", abort=True)
    with held(store, name, take_over=take_over):
        delete_optuna_studies(store, name)
        kept = checkpoints_of(store, checkpoints)
        gone = store.delete_study(name)
        for key in gone:
            kept.forget(key)
    stay = f"; {count - len(gone)} others belong to other studies" if count > len(gone) else ""
    click.echo(f"deleted study {name!r}, {len(gone)} runs{stay}")

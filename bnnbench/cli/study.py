"""``bnnbench study``: create, run, list, show, delete."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli.devices import usable_device
from bnnbench.cli.options import (
    again,
    checkpoints_option,
    masked,
    open_store,
    storage_option,
)
from bnnbench.errors import DataError, IncompleteError, InterruptedStudyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.cells import Cell
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.experiments import Workbench
    from bnnbench.plugins import Plugins
    from bnnbench.results import Results
    from bnnbench.store import Store
    from bnnbench.studies import Study


@click.group(cls=Group)
def group() -> None:
    """Create, run and look at studies."""


@group.command()
@click.argument("name")
@click.option(
    "--from", "source", metavar="FILE", help="A study file, or the name of a bundled one."
)
@click.option("--dataset", metavar="NAME", help="The data set (instead of --from).")
@click.option("--architecture", metavar="NAME", help="The network.")
@click.option("--loss", metavar="NAME", help="The loss. [default: squared-hinge]")
@click.option(
    "--method",
    "methods",
    metavar="NAME",
    multiple=True,
    help="A method, or BINARIZER+OPTIMIZER; repeat it.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of every run.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples in a batch.")
@click.option("--trials", type=click.IntRange(min=0), help="Trials per method; 0: as published.")
@click.option("--seeds", type=click.IntRange(min=1), help="Confirming runs per method.")
@click.option("--sampler", help="tpe, random, qmc, grid or gp.")
@click.option("--pruner", help="none, median or hyperband.")
@storage_option
@click.pass_obj
def create(
    settings: Settings, /, name: str, source: str | None, storage: str, **flags: Any
) -> None:
    """Create a study: a bundled one of this NAME, a study file's (--from), or one from flags."""
    from bnnbench import __version__
    from bnnbench.cells import built_on, cells
    from bnnbench.experiments import Workbench
    from bnnbench.plugins import load_plugins
    from bnnbench.studies import check_name

    check_name(name)
    plugins = load_plugins(settings.blocked)
    study = _overridden(_described(plugins, name, source, flags), flags, source or name)
    workbench = Workbench(plugins)
    planned = cells(name, study, workbench)
    _check_with_data(planned, workbench)
    command = masked(shlex.join(["bnnbench", *sys.argv[1:]]))
    open_store(storage, create=True).create_study(name, study, command, __version__)
    tuned = [c for c in planned if c.spaces]
    trials = study.protocol.trials * len(tuned)
    runs = trials + study.protocol.seeds * len(planned)
    used = {base.method.name for cell in planned for base in built_on(cell)}
    for spare in sorted(set(study.runs) - used):
        click.echo(
            f"warning: the run {spare!r} is named by nobody and will not be trained", err=True
        )
    beside = f", beside runs that others build on: {', '.join(sorted(used))}" if used else ""
    click.echo(
        f"created study {name!r}: tasks {len(study.tasks)}, methods {len(study.methods)},"
        f" tuning trials {trials}, seeds {study.protocol.seeds}, runs in all {runs}{beside}"
    )
    if not study.protocol.trials:
        click.echo("0 trials: nothing is tuned, hyperparameters are as published or as given")
    click.echo(f"run it: bnnbench study run {name}{again(storage)}")


def _check_with_data(planned: list[Cell], workbench: Workbench) -> None:
    """Build everything once, where the data are here; where they are not, say so."""
    from bnnbench.cells import check

    try:
        check(planned, workbench)
    except DataError as error:
        click.echo(f"warning: not checked with its data: {error}", err=True)


def _described(plugins: Plugins, name: str, source: str | None, flags: dict[str, Any]) -> Study:
    from bnnbench.studies import parse_study, read_study

    if flags["dataset"] or flags["methods"] or flags["architecture"]:
        if source:
            raise UsageError("give either --from or --dataset, --architecture, --method, not both")
        return parse_study(_from_flags(flags), "the flags")
    source = source or name
    if source in plugins.names("studies"):
        return read_study(plugins.get("studies", source), f"{source}.toml")
    if source == name and not source.endswith(".toml"):
        plugins.get("studies", name)  # says that there is none, and which is near
    return read_study(source)


def _from_flags(flags: dict[str, Any]) -> dict[str, Any]:
    task = {key: flags[key] for key in ("dataset", "architecture", "loss") if flags[key]}
    task |= {"epochs": flags["epochs"] or 10, "batch_size": flags["batch_size"] or 100}
    return {"task": task, "methods": [_method_from_flag(name) for name in flags["methods"]]}


def _method_from_flag(name: str) -> dict[str, str]:
    """A method by its name; "sign+bop" is a binarizer crossed with an optimizer."""
    binarizer, crossed, optimizer = name.partition("+")
    return {"binarizer": binarizer, "optimizer": optimizer} if crossed else {"method": name}


def _overridden(study: Study, flags: dict[str, Any], where: str) -> Study:
    """Return the study with what the flags set otherwise, checked again."""
    from bnnbench.studies import parse_study

    values = study.model_dump()
    protocol = {
        k: flags[k] for k in ("trials", "seeds", "sampler", "pruner") if flags[k] is not None
    }
    task = {k: flags[k] for k in ("epochs", "batch_size", "loss") if flags[k] is not None}
    values["protocol"] |= protocol
    values["tasks"] = [old | task for old in values["tasks"]]
    return parse_study(values, where)


@group.command()
@click.argument("name")
@click.option("--plan", is_flag=True, help="Say what would be run, and stop.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of torch. [default: what is measured to be faster, 1 or all]",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds between two checkpoints of a long run, from which it is taken up.",
)
@click.option("--retry-failed", is_flag=True, help="Train confirming runs that failed once more.")
@click.option("--take-over", is_flag=True, help="Whoever ran the study before is gone.")
@checkpoints_option
@storage_option
@click.pass_obj
def run(
    settings: Settings,
    /,
    name: str,
    plan: bool,
    device: str,
    threads: int | None,
    checkpoint_every: float,
    checkpoints: str | None,
    retry_failed: bool,
    take_over: bool,
    storage: str,
) -> None:
    """Finish what is missing of a study. Safe to repeat, safe to kill."""
    from bnnbench.cli.progress import observer
    from bnnbench.cli.tables import plan_table, print_results
    from bnnbench.experiments import Workbench
    from bnnbench.holding import held
    from bnnbench.plugins import load_plugins
    from bnnbench.results import Results
    from bnnbench.tuning import StudyRunner

    store = open_store(storage)
    kept = _checkpoints(store, checkpoints)
    kept.check_folder()
    workbench = Workbench(load_plugins(settings.blocked), usable_device(device), threads, kept)
    watching = observer(threads)
    runner = StudyRunner(store, name, workbench, watching, checkpoint_every)
    if plan:
        plan_table(name, runner.needs())
        return
    with held(store, name, take_over=take_over), _interruptible(name):
        if retry_failed:
            store.retry_failed(name)
        runner.check()
        with watching.watching(name, runner.needs()):
            runner.run()
    results = Results(store, name)
    print_results(results)
    _complain(results)
    click.echo(f"report: bnnbench report {name}{again(storage)}")


def _checkpoints(store: Store, folder: str | None) -> Checkpoints:
    """Return the checkpoints of a database's runs."""
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.database import checkpoint_folder

    return Checkpoints(folder or checkpoint_folder(store.url))


def _complain(results: Results) -> None:
    """Let the command end with an error where a run failed or a method has nothing to show.

    Raises:
        IncompleteError: with the first reason.
    """
    bad = [e for e in results.entries if e.state == "failed"]
    hint = f"'bnnbench study show {results.name} --failed' has them all"
    if bad:
        first = bad[0].error.strip().partition("\n")[0]
        count = f"{len(bad)} of {len(results.entries)} runs failed"
        raise IncompleteError(f"{count}, the first with {first}; {hint}")
    empty = sorted({row.method for row in results.rows() if not row.done})
    if empty:
        raise IncompleteError(f"no run of {', '.join(empty)} was completed; {hint}")


@contextmanager
def _interruptible(name: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the study between two steps, and say how to go on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedStudyError(
            f"interrupted; nothing that is finished is lost, 'bnnbench study run {name}' continues"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@group.command("list")
@storage_option
def list_(storage: str) -> None:
    """List the studies of a database."""
    from bnnbench.cli.tables import studies_table

    studies_table(open_store(storage).studies())


@group.command()
@click.argument("name")
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
@click.argument("name")
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
        kept = _checkpoints(store, checkpoints)
        gone = store.delete_study(name)
        for key in gone:
            kept.forget(key)
    stay = f"; {count - len(gone)} others belong to other studies" if count > len(gone) else ""
    click.echo(f"deleted study {name!r}, {len(gone)} runs{stay}")

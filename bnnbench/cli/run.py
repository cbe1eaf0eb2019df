"""``bnnbench study run``: finish what is missing of a study, in this process or in several."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Settings
from bnnbench.cli.completion import studies
from bnnbench.cli.devices import usable_device
from bnnbench.cli.engines import Engine, engine_options
from bnnbench.cli.options import (
    again,
    checkpoints_option,
    device_option,
    open_store,
    storage_option,
    threads_option,
)
from bnnbench.errors import IncompleteError, InterruptedStudyError, suggestion
from bnnbench.failures import KINDS, PLUGIN
from bnnbench.stopping import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bnnbench.checkpoints import Checkpoints
    from bnnbench.results import Results
    from bnnbench.store import Store
    from bnnbench.tuning import StudyRunner


ALL = "all"


def _kinds(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what is no kind of failure; a run that diverged has not failed, and it is said why."""
    for value in values:
        if value == "diverged":
            raise click.BadParameter(
                "a run is trained again only where it failed, one that diverged is a result and"
                " stays; other hyperparameters make another study"
            )
        if value not in (*KINDS, ALL):
            raise click.BadParameter(
                f"{value!r} is no kind of failure{suggestion(value, (*KINDS, ALL))}"
            )
    return values


@click.command()
@click.argument("name", shell_complete=studies)
@click.option("--plan", is_flag=True, help="Say what would be run, and stop.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train in so many processes, which share threads and GPUs; one that dies is replaced.",
)
@engine_options
@click.option("--as-worker", is_flag=True, hidden=True)
@device_option
@threads_option
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Between two checkpoints, from which a run is taken up. [default: 1 to 60, as they cost]",
)
@click.option(
    "--keep-weights", is_flag=True, help="Keep the weights of confirming runs: see export."
)
@click.option(
    "--retry",
    "kinds",
    metavar="KIND",
    multiple=True,
    callback=_kinds,
    shell_complete=lambda _ctx, _param, begun: [k for k in (*KINDS, ALL) if k.startswith(begun)],
    help=f"Train confirming runs again that failed so: {', '.join(KINDS)}, all. Repeat it.",
)
@click.option("--retry-failed", is_flag=True, help="The same as --retry all.")
@click.option("--take-over", is_flag=True, help="Who works at it on other machines is gone.")
@checkpoints_option
@storage_option
@click.pass_obj
def run(
    settings: Settings,
    /,
    name: str,
    plan: bool,
    workers: int | None,
    as_worker: bool,
    device: str,
    threads: int | None,
    checkpoint_every: float | None,
    checkpoints: str | None,
    keep_weights: bool,
    kinds: tuple[str, ...],
    retry_failed: bool,
    take_over: bool,
    storage: str,
    **asked: Any,
) -> None:
    """Finish what is missing of a study. Safe to repeat, safe to kill.

    Any number of these commands, on one machine or on several with one database, share the work.
    """
    from bnnbench.cli.crew import CrewProgress, observer, work
    from bnnbench.experiments import Workbench
    from bnnbench.holding import shared
    from bnnbench.parallel.helpers import Team
    from bnnbench.tuning import StudyRunner
    from bnnbench.workers import stop_with_supervisor

    engine = Engine(workers=workers, threads=threads, **asked)
    store, device = open_store(storage), usable_device(engine.device(device))
    engine.check_store(store)
    engine.check_devices(device)
    kept = checkpoints_of(store, checkpoints)
    kept.check_folder()
    study = store.study(name)
    team = Team(engine.processes, settings.blocked, settings.files_of(study))
    workbench = Workbench(settings.plugins(study), device, threads, kept, team)
    progress = observer(threads, supervises=engine.supervises, as_worker=as_worker)
    if plan:
        _plan(StudyRunner(store, name, workbench, progress), suggests=not engine.supervises)
        return
    places = 0 if as_worker else engine.places
    beside = shared(store, name, take_over=take_over, places=places)
    with beside as leases, _interruptible(name) as stop:
        parts = (store, name, workbench, progress, checkpoint_every, leases, stop)
        runner = StudyRunner(*parts, keep=keep_weights)
        if as_worker:
            stop_with_supervisor()
        else:
            _prepare(runner, {*kinds, ALL} if retry_failed else set(kinds))
        with progress.watching(name, [] if as_worker else runner.needs()):
            if isinstance(progress, CrewProgress):
                flags = {"--take-over": take_over, "--keep-weights": keep_weights}
                options = _given(kept, checkpoint_every, flags)
                crew = engine.crew(settings, name, device, storage, options, progress)
                work(progress, name, crew)
            else:
                runner.run()
    if not as_worker:
        _conclude(store, name, storage)


def _plan(runner: StudyRunner, *, suggests: bool) -> None:
    """Say what would be run, and in how many processes."""
    from bnnbench.cli.advice import advice
    from bnnbench.cli.tables import plan_table

    _warn_of_age(runner)
    needs = runner.needs()
    plan_table(runner.name, needs, runner.protocol.seconds)
    if suggests and (told := advice(runner, needs)):
        click.echo(told)


def _conclude(store: Store, name: str, storage: str) -> None:
    """Show what came out.

    Raises:
        IncompleteError: a run failed, or a method has nothing to show.
    """
    from bnnbench.cli.tables import print_results
    from bnnbench.results import Results

    results = Results(store, name)
    print_results(results)
    _complain(results)
    click.echo(f"report: bnnbench report {name}{again(storage)}")


def _prepare(runner: StudyRunner, retried: set[str]) -> None:
    """What is done once, however many workers there are."""
    _warn_of_age(runner)
    if retried:
        kinds = () if ALL in retried else retried
        count = runner.store.retry_failed(runner.name, kinds)
        click.echo(f"runs to be trained again: {count}; trials that failed stay failed")
    runner.check()


def _warn_of_age(runner: StudyRunner) -> None:
    from bnnbench.ageing import aged

    for sentence in aged(runner.cells, runner.store.entries(runner.name)):
        click.echo(f"warning: {sentence}", err=True)


def _given(kept: Checkpoints, every: float | None, flags: Mapping[str, bool]) -> list[str]:
    """The options that a worker is given too, which may not be in our folder."""
    options = ["--checkpoints", str(kept.folder.absolute())]
    options += [flag for flag, is_set in flags.items() if is_set]
    return options + ([] if every is None else ["--checkpoint-every", str(every)])


def checkpoints_of(store: Store, folder: str | None) -> Checkpoints:
    """Return the checkpoints of a database's runs."""
    from bnnbench.checkpoints import Checkpoints
    from bnnbench.database import checkpoint_folder

    return Checkpoints(folder or checkpoint_folder(store.url))


def _complain(results: Results) -> None:
    """Let the command end with an error where a run failed or a method has nothing to show.

    Raises:
        IncompleteError: with the first reason.
    """
    from bnnbench.catalogue import FORMER
    from bnnbench.experiments import CROSS

    bad = [e for e in results.entries if e.state == "failed" and not e.role.startswith(FORMER)]
    hint = f"'bnnbench study show {results.name} --failed' has them all"
    if bad:
        first = bad[0].error.strip().partition("\n")[0]
        count = f"{len(bad)} of {len(results.entries)} runs failed"
        if bad[0].failure == PLUGIN:
            parts = bad[0].run.method.name.replace(CROSS, " ")
            hint += f", 'bnnbench plugins check {parts}' may say why"
        raise IncompleteError(f"{count}, the first with {first}; {hint}")
    empty = sorted({row.method for row in results.rows() if not row.done})
    if empty:
        raise IncompleteError(f"no run of {', '.join(empty)} was completed; {hint}")


@contextmanager
def _interruptible(name: str) -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM stop the study after the epoch under way, and say how to go on."""
    stop = Stop(lambda: click.echo("stopping after this epoch; once more stops at once", err=True))
    try:
        with stop.heeded():
            yield stop
    except KeyboardInterrupt:
        raise InterruptedStudyError(
            f"interrupted; nothing that is finished is lost, 'bnnbench study run {name}' continues"
        ) from None

"""``bnnbench deploy STUDY``: pack a network of each method, check it and time its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bnnbench.cli import Settings
from bnnbench.cli.completion import studies
from bnnbench.cli.options import (
    again,
    check_names,
    checkpoints_option,
    open_store,
    rounds_option,
    storage_option,
    tasks_option,
)
from bnnbench.errors import IncompleteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnnbench.cli.runs import Found
    from bnnbench.deployments import Deployment, Refusal
    from bnnbench.experiments import Workbench
    from bnnbench.store import Store


@click.command()
@click.argument("study", shell_complete=studies)
@tasks_option
@click.option(
    "--method", "methods", metavar="NAME", multiple=True, help="This method only; may be repeated."
)
@rounds_option(3)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@checkpoints_option
@storage_option
@click.pass_obj
def command(
    settings: Settings,
    /,
    study: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    rounds: int,
    threads: int,
    checkpoints: str | None,
    storage: str,
) -> None:
    """Pack a network of each method, check it and time its answers; the report shows what came out.

    The network is that of the method's first finished seed, in its binary mode. Its weights are
    those that 'study run --keep-weights' kept; where none were, it is trained again, and nothing
    stored of it changes. PyTorch's ways to compute the same take turns with the packed one.
    """
    from bnnbench import deployments
    from bnnbench.cli.run import checkpoints_of
    from bnnbench.experiments import Workbench

    store = open_store(storage)
    chosen = _chosen(store, study, tasks, methods)
    plugins = settings.plugins(store.study(study))
    workbench = Workbench(plugins, "cpu", None, checkpoints_of(store, checkpoints))
    unread = False
    for found in chosen:
        kept = _deployed(workbench, store, found, rounds, threads)
        deployments.keep(store, found.entry.run_id, kept)
        click.echo(f"{found.name}: {_said(kept)}")
        unread |= isinstance(kept, deployments.Deployment) and not kept.is_metered
    if unread:
        click.echo("energy: not measured, the counters of this machine cannot be read")
    click.echo(f"report: bnnbench report {study}{again(storage)}")


def _chosen(store: Store, study: str, tasks: Iterable[str], methods: Iterable[str]) -> list[Found]:
    """The first finished confirming run of each method on each task that is asked for.

    Raises:
        UsageError: there is no such task or method.
        IncompleteError: no run of them is done.
    """
    from bnnbench.cli.runs import Found
    from bnnbench.results import Results

    results = Results(store, study)
    check_names("task", tasks, [task.name for task in results.study.tasks])
    check_names("method", methods, [method.name for method in results.study.methods])
    asked = [
        (task, method)
        for task, method in results.asked
        if (not tasks or task in tasks) and (not methods or method in methods)
    ]
    runs = [results.confirmed(*cell) for cell in asked]
    if not any(runs):
        raise IncompleteError(
            f"no run of it is done, so there is no network to pack: 'bnnbench study run {study}'"
        )
    return [Found(study, min(done, key=lambda e: e.number)) for done in runs if done]


def _deployed(
    workbench: Workbench, store: Store, found: Found, rounds: int, threads: int
) -> Deployment | Refusal:
    """What the network of a run is once it is packed, or why it cannot be."""
    from bnnbench.cli.pack import trained
    from bnnbench.deployments import Refusal
    from bnnbench.packing import again as weights
    from bnnbench.packing.deploying import deployment
    from bnnbench.packing.export import placed

    run = found.entry.run
    try:
        weights.check(workbench, run)
    except UsageError as error:
        return Refusal(str(error))
    kept = weights.kept(workbench, run) or trained(workbench, store, found)
    network = placed(kept, workbench.network(run))
    data = workbench.dataset(run.dataset)
    return deployment(network, data, rounds, threads, workbench.plugins)


def _said(kept: Deployment | Refusal) -> str:
    """What came out, in a line."""
    from bnnbench.deployments import BATCHES, BEST, DEFAULT, Refusal

    if isinstance(kept, Refusal):
        return f"not packed: {kept.reason}"
    faster = [
        f"batch {batch}: {kept.speedup(DEFAULT, batch):.2f} x fp32,"
        f" {kept.speedup(BEST, batch):.2f} x its best"
        for batch in BATCHES
    ]
    return (
        f"{kept.compression:.1f} times smaller, {kept.differing} of {kept.examples} predictions"
        f" differ; {'; '.join(faster)}"
    )

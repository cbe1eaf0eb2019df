"""``bnnbench export RUN``: a trained run as a network of bits, checked to be the same network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnbench.cli import Settings
from bnnbench.cli.options import (
    checkpoints_option,
    open_store,
    storage_option,
    threads_option,
)
from bnnbench.cli.runs import complete
from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from bnnbench.checkpoints import Weights
    from bnnbench.cli.runs import Found
    from bnnbench.experiments import Workbench
    from bnnbench.packed.description import Provenance
    from bnnbench.packing.export import Exported, Form
    from bnnbench.runs import Part
    from bnnbench.store import Store


@click.command()
@click.argument("run", shell_complete=complete)
@click.option(
    "-o", "--output", metavar="FILE", help="Where to; TASK-METHOD-SEED.FORMAT by default."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "onnx"]),
    default="safetensors",
    show_default=True,
    help="ONNX needs the extra 'onnx'.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@threads_option
@checkpoints_option
@storage_option
@click.pass_obj
def command(
    settings: Settings,
    /,
    run: str,
    output: str | None,
    form: str,
    force: bool,
    threads: int | None,
    checkpoints: str | None,
    storage: str,
) -> None:
    """Write a run's network with one bit for each binary weight, if it is the same network.

    RUN is STUDY/TASK/METHOD/SEED, or how the run's key begins; 'bnnbench export STUDY' says what
    there is. Its weights are those that were kept by 'study run --keep-weights'; without them it is
    trained again, and nothing that is stored of it changes. The file is compared with the trained
    network on the whole test split before it gets its name; 'packed show' says what is in it.
    """
    from bnnbench.cli.run import checkpoints_of
    from bnnbench.cli.runs import find
    from bnnbench.experiments import Workbench
    from bnnbench.packing import again

    store = open_store(storage)
    found = find(store, run)
    path = _path(found, output, form, force=force)
    write = _form(form)
    plugins = settings.plugins(store.study(found.study))
    kept = checkpoints_of(store, checkpoints)
    workbench = Workbench(plugins, "cpu", threads, kept)
    again.check(workbench, found.entry.run)
    was_kept = again.kept(workbench, found.entry.run)
    weights = was_kept or trained(workbench, store, found)
    points = again.POINTS if was_kept else 0.0
    made = _written(workbench, store, found, weights, path, write, points)
    if form == "onnx":
        _tell_size_of_model(made, path)
    else:
        _tell_size(made, path)


def _form(name: str) -> Form:
    """What writes a format.

    Raises:
        UsageError: an extra is missing.
    """
    if name == "onnx":
        from bnnbench.packing.onnx import as_onnx, check_extra

        check_extra()
        return as_onnx
    from bnnbench.packing.export import as_safetensors

    return as_safetensors


def _path(found: Found, output: str | None, form: str, *, force: bool) -> Path:
    """Where the file goes.

    Raises:
        UsageError: there is one, or there is no such folder.
    """
    entry = found.entry
    path = Path(output or f"{entry.task}-{entry.method}-{entry.number}.{form}")
    if not path.parent.is_dir():
        raise UsageError(f"a file needs a folder, {path.parent} is none; name another with -o")
    if path.is_dir() or (path.exists() and not force):
        raise UsageError(f"{path} is there already; --force replaces a file, -o names another")
    return path


def trained(workbench: Workbench, store: Store, found: Found) -> Weights:
    """Return the weights of a run that is trained again, with the usual progress."""
    from bnnbench.cli.progress import observer
    from bnnbench.needs import Need
    from bnnbench.packing.again import trained_again

    entry, run = found.entry, found.entry.run
    click.echo(f"no weights were kept of {found.name}: it is trained again, {run.epochs} epochs")
    progress = observer(workbench.threads)
    need = Need(entry.task, entry.method, 0, 1, run.epochs, 0, 0)
    with progress.watching(found.study, [need]):
        progress.run_started(entry)
        weights = trained_again(
            workbench, run, _stored(store, entry.run_id), lambda m: progress.epoch_ended(entry, m)
        )
        progress.run_ended(entry, "the same as before", "")
    return weights


def _stored(store: Store, run_id: int) -> dict[tuple[str, str, int], float | None]:
    """The accuracies of a run, by split, mode and epoch."""
    from bnnbench import binding

    with store.begin() as connection:
        series = binding.read(connection, [run_id], metric=["accuracy"])
    return {(m.split, m.mode, m.epoch): m.value for s in series for m in s.measured()}


def _written(
    workbench: Workbench,
    store: Store,
    found: Found,
    weights: Weights,
    path: Path,
    form: Form,
    points: float,
) -> Exported:
    """Write the file, and say what was compared."""
    from bnnbench.packing.export import export, placed

    run = found.entry.run
    network, data = placed(weights, workbench.network(run)), workbench.dataset(run.dataset)
    provenance = _provenance(store, found)
    _explain(provenance)
    made = export(network, data, path, _called(run.dataset), provenance, form, points)
    _tell(made)
    return made


def _called(dataset: Part) -> str:
    """A data set with its hyperparameters, as a study file has it."""
    told = ", ".join(f"{name} = {value!r}" for name, value in dataset.hyperparameters.items())
    return f"{dataset.name} ({told})" if told else dataset.name


def _provenance(store: Store, found: Found) -> Provenance:
    """Where the network comes from; without a look at the test split its accuracy is unknown."""
    from bnnbench.environment import versions
    from bnnbench.packed.description import Provenance
    from bnnbench.packing.choice import BINARY

    entry = found.entry
    judged = str(entry.facts["judged"])
    accuracy, published = (
        store.value(entry.run_id, "accuracy", split="test", mode=mode) for mode in (BINARY, judged)
    )
    return Provenance(
        study=found.study,
        task=entry.task,
        method=entry.method,
        seed=entry.run.seed,
        run=entry.run.to_json(),
        key=entry.run.key,
        mode=BINARY,
        accuracy=accuracy,
        stored_accuracy=accuracy,
        judged=judged,
        judged_accuracy=published,
        versions={**versions(), **entry.run.code},
    )


def _explain(provenance: Provenance) -> None:
    """Say so where the network that is packed is not the one that the method is judged by."""
    if provenance.judged == provenance.mode:
        return
    judged, own = _percent(provenance.judged_accuracy), _percent(provenance.accuracy)
    click.echo(
        f"{provenance.method} is judged by its {provenance.judged!r} weights (test accuracy"
        f" {judged}), which cannot be packed; this is its {provenance.mode!r} mode ({own})"
    )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} %"


def _tell(made: Exported) -> None:
    """Say what was compared with the trained network."""
    found, origin = made.compared, made.packed.description.provenance
    if origin is not None and origin.accuracy != origin.stored_accuracy:
        click.echo(
            f"warning: the stored test accuracy is {origin.stored_accuracy:.4f} %, here it is"
            f" {origin.accuracy:.4f} %: the weights were kept on another machine, or with another"
            " device or number of threads; the file has both",
            err=True,
        )
    click.echo(
        f"checked on all {found.examples} test examples: {found.differing} predictions differ from"
        f" the trained network's, outputs by {found.difference:.1e} at most (of up to"
        f" {found.largest:.3g})"
    )
    if found.strays:
        click.echo(
            f"in {found.strays} of them {found.turned} signs of sums within rounding of 0 are"
            " others; with the same signs, outputs are as near as all"
        )
    whole = made.integers
    if whole.layers:
        layers = "a binary layer" if whole.layers == 1 else f"{whole.layers} binary layers"
        left = f" ({whole.left} filters of zeros have none)" if whole.left else ""
        click.echo(f"checked layer by layer: {whole.equal:,} integers of {layers}, all equal{left}")


def _tell_size(made: Exported, path: Path) -> None:
    """Say how large the network is, and what of it is not one bit."""
    size = made.packed.size()
    own = size["binary"] + size["thresholds"] + size["real"]
    click.echo(
        f"{path}: {path.stat().st_size:,} bytes, of weights {own:,}; in float32 these take"
        f" {size['float32']:,}: {size['float32'] / own:.1f} times as many (32 if all were one bit)"
    )
    rest = [row for row in made.packed.rows() if row.real and row.operation != "threshold"]
    rest.sort(key=lambda row: -row.bytes)
    if rest:
        names = ", ".join(f"{row.name} {row.bytes:,}" for row in rest[:3])
        click.echo(
            f"one bit a weight: {size['binary']:,} bytes; thresholds {size['thresholds']:,}, real"
            f" {size['real']:,}, the most in {names}"
        )


def _tell_size_of_model(made: Exported, path: Path) -> None:
    """Say how large an ONNX model is, which has no bits."""
    size = made.packed.size()
    own = size["binary"] + size["thresholds"] + size["real"]
    click.echo(
        f"{path}: {path.stat().st_size:,} bytes, one for each binary weight; packed, weights are"
        f" {own:,} bytes, in float32 {size['float32']:,}"
    )

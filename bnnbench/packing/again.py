"""The weights of a run in its binary mode: those that were kept, or trained again.

A run repeats bit for bit on one machine, on CPU: what is trained again has the accuracies that are
stored, or is not used. Weights that were kept may come from another machine, device or number of
threads, where rounding turns a sign here and there: they may have another accuracy here, by
:data:`POINTS` at most. Nothing that is stored of the run changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.binarization import sign
from bnnbench.errors import BnnbenchError
from bnnbench.experiments import weights
from bnnbench.latents import Latents
from bnnbench.packing.choice import BINARY, check_mode
from bnnbench.packing.lowering import lowered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnnbench.checkpoints import Weights
    from bnnbench.experiments import Workbench
    from bnnbench.measurements import Measurement
    from bnnbench.runs import Run

    Place = tuple[str, str, int]  #: a split, an inference mode and an epoch

POINTS = 1.0  #: percentage points by which the accuracy of kept weights may be another here


def check(workbench: Workbench, run: Run) -> None:
    """Refuse a run that cannot be packed, before it is trained again.

    Raises:
        UsageError: the message names the method or the layer.
    """
    network, method = workbench.network(run), workbench.method(run)
    latents = Latents(network, method.initialize)
    check_mode(method, run.method.name, latents)
    latents.project(sign)  # any weights of two values show whether the layers can be packed
    lowered(network, workbench.dataset(run.dataset).shape)


def kept(workbench: Workbench, run: Run) -> Weights | None:
    """Return the weights that were kept of a run in its binary mode, None where there are none."""
    checkpoints = workbench.checkpoints
    found = checkpoints.binary(run.key)
    if found is None and checkpoints.has_weights(run.key):  # for runs that build on it
        base = checkpoints.weights(run.key)
        found = base if base.judged == BINARY else None
    return found


def trained_again(
    workbench: Workbench,
    run: Run,
    stored: Mapping[Place, float | None],
    watch: Callable[[list[Measurement]], None],
) -> Weights:
    """Return the weights of a run that is trained once more, and keep them.

    Args:
        workbench: on the CPU.
        run: what to train.
        stored: its accuracies, by split, inference mode and epoch.
        watch: is told the measurements of each epoch.

    Raises:
        BnnbenchError: an accuracy is another than the stored one.
    """
    training = workbench.prepare(run).training()
    for measured in training:
        watch(measured)
        for m in measured:
            if m.metric == "accuracy":
                _check(run, m, stored.get((m.split, m.mode, m.epoch)))
    found = weights(run, training, BINARY)
    workbench.checkpoints.save_binary(found)
    return found


def _check(run: Run, m: Measurement, stored: float | None) -> None:
    if stored != m.value:
        told = "none" if stored is None else f"{stored:.4f} %"
        raise BnnbenchError(
            f"run {run.key} must repeat bit for bit to be exported, but epoch {m.epoch} has the"
            f" {m.split} accuracy {m.value:.4f} % ({m.mode}), stored is {told}: it was trained on"
            " another device, machine or version; train it here with 'study run --keep-weights'"
        )

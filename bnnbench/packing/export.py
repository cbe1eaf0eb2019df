"""From a trained network to a file that is known to hold the same network."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.errors import BnnbenchError, UsageError
from bnnbench.evaluation import batches_of
from bnnbench.handover import check_places
from bnnbench.layers import BinaryActivation
from bnnbench.packed.description import Description, Preprocessing
from bnnbench.packed.file import write
from bnnbench.packed.network import PackedNetwork, load
from bnnbench.packing.folding import folded
from bnnbench.packing.integers import integers
from bnnbench.packing.lowering import lowered
from bnnbench.packing.parity import compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import nn

    from bnnbench.checkpoints import Weights
    from bnnbench.interfaces import Dataset
    from bnnbench.packed.description import Provenance
    from bnnbench.packing.integers import Integers
    from bnnbench.packing.lowering import Draft
    from bnnbench.packing.parity import Compared
    from bnnbench.packing.signs import Answer

    Form = Callable[[Path, Description, dict[str, NDArray[Any]]], Answer]


LOOKED_AT = 256  #: examples whose integers are compared


@dataclass(frozen=True)
class Exported:
    """A packed network that was checked, and what was compared.

    ``nodes`` are those of its binary layers, by their names in the trained network.
    """

    packed: PackedNetwork
    compared: Compared
    integers: Integers
    nodes: Mapping[str, str]


def placed(weights: Weights, network: nn.Module) -> nn.Module:
    """Return the network with a run's weights, to be judged; its activations as they were.

    Raises:
        UsageError: the weights do not fit.
    """
    check_places(weights.network, network, f"run {weights.run.key}")
    network.load_state_dict(weights.network)
    for module in network.modules():
        if isinstance(module, BinaryActivation):
            module.follow(weights.progress)
    return network.eval().requires_grad_(False)


def bytes_in_float32(network: nn.Module) -> int:
    """Return the bytes of all weights, biases and running statistics in float32."""
    return sum(4 * t.numel() for t in network.state_dict().values() if t.is_floating_point())


def described(
    network: nn.Module, draft: Draft, data: Dataset, said: str, provenance: Provenance | None
) -> tuple[Description, dict[str, NDArray[Any]]]:
    """Return the nodes of a network as a file describes them, and its tensors."""
    preprocessing, tensors = _preprocessing(data, said)
    description = Description(
        shape=data.shape,
        classes=data.classes,
        nodes=tuple(draft.nodes.values()),
        float32=bytes_in_float32(network),
        preprocessing=preprocessing,
        provenance=provenance,
    )
    return description, {**draft.tensors, **tensors}


def _preprocessing(data: Dataset, said: str) -> tuple[Preprocessing, dict[str, NDArray[Any]]]:
    """What is known of how bytes become inputs: a table, where the data set has one."""
    table = getattr(data.test, "table", None)
    if table is None:
        return Preprocessing(kind="none", said=said), {}
    numbers = np.array(table.cpu().numpy(), np.float32)
    return Preprocessing(kind="bytes", said=said), {"preprocessing.table": numbers}


def as_safetensors(
    path: Path, description: Description, tensors: dict[str, NDArray[Any]]
) -> Answer:
    """Write a packed network's own file; return what reads it."""
    write(path, description, tensors)
    return load(path)


def export(
    network: nn.Module,
    data: Dataset,
    path: Path,
    said: str = "",
    provenance: Provenance | None = None,
    form: Form = as_safetensors,
    points: float = 0.0,
) -> Exported:
    """Write a network with binary weights as a packed file, if that is the same network.

    What is compared with it is read back from the written file, which then gets its name. Where the
    accuracy is another than that of the provenance, it is written beside it.

    Args:
        network: in evaluation mode.
        data: on whose test split the two are compared.
        path: where to; what is there is replaced.
        said: what the data set calls its preprocessing.
        provenance: where the network comes from.
        form: writes the file, and returns what answers from it.
        points: by which its accuracy may differ from that of the provenance, in percentage points;
            where that is not 0, by one example at least.

    Raises:
        UsageError: something cannot be packed, or the file cannot be written.
        ParityError: the packed network is another.
        BnnbenchError: the accuracy is not the run's.
    """
    draft = lowered(network, data.shape)
    plain = draft.copy()
    folded(draft)
    description, tensors = described(network, draft, data, said, provenance)
    with beside(path) as part:
        answer = form(part, description, tensors)
        found = compared(network, answer, plain, data.test, data.task)
        found.check()
        if provenance is not None and provenance.accuracy not in (None, found.accuracy):
            settled = _settled(provenance, found, points)
            description = description.model_copy(update={"provenance": settled})
            form(part, description, tensors)
        packed = PackedNetwork(description, tensors)
        inputs, _ = next(batches_of(data.test))
        whole = integers(network, packed, draft.layers, inputs[:LOOKED_AT])
    nodes = {name: layer.node for name, layer in draft.layers.items()}
    return Exported(packed, found, whole, nodes)


def _settled(provenance: Provenance, found: Compared, points: float) -> Provenance:
    """The provenance with the accuracy that was measured beside the stored one.

    Raises:
        BnnbenchError: they are too far from each other to be one network's.
    """
    stored, measured = provenance.accuracy or 0.0, found.accuracy
    if abs(measured - stored) > (max(points, 100 / found.examples) if points else 0.0):
        within = f", within {points:g} for rounding" if points else ""
        raise BnnbenchError(
            f"a run's network must have the accuracy that is stored of it{within}, but run"
            f" {provenance.key} has {stored:.4f} % on the test split, here it is {measured:.4f} %:"
            " the data set, a plugin or torch is another than in training; export it where it was"
            " trained, or run the study anew here"
        )
    return provenance.model_copy(update={"accuracy": measured, "stored_accuracy": stored})


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a name for a file that takes the given one when the block has gone well.

    Raises:
        UsageError: there is no such folder, or it cannot be written to.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}); name another file with -o"
        ) from error
    finally:
        part.unlink(missing_ok=True)

"""From a trained network to a file that is known to hold the same network."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.errors import UsageError
from bnnbench.evaluation import batches_of
from bnnbench.handover import check_places
from bnnbench.layers import BinaryActivation
from bnnbench.packed.description import Description, Preprocessing
from bnnbench.packed.file import write
from bnnbench.packed.network import PackedNetwork, load
from bnnbench.packing.folding import folded
from bnnbench.packing.lowering import lowered
from bnnbench.packing.parity import LOOKED_AT, Compared, compared, integers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from bnnbench.checkpoints import Weights
    from bnnbench.interfaces import Dataset
    from bnnbench.packed.description import Provenance
    from bnnbench.packing.lowering import Draft

    Answer = Callable[[Tensor], Tensor]  #: from inputs to outputs
    Form = Callable[[Path, Description, dict[str, NDArray[Any]]], Answer]


@dataclass(frozen=True)
class Exported:
    """A packed network that was checked, and what was compared.

    ``nodes`` are those of its binary layers, by their names in the trained network.
    """

    packed: PackedNetwork
    compared: Compared
    layers: int
    integers: int
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
    network: nn.Module, data: Dataset, said: str, provenance: Provenance | None
) -> tuple[Draft, Description, dict[str, NDArray[Any]]]:
    """Return a network as nodes, as a file describes it, and its tensors.

    Raises:
        UsageError: something in it cannot be packed; the message names it.
    """
    draft = lowered(network, data.shape)
    folded(draft)
    preprocessing, tensors = _preprocessing(data, said)
    description = Description(
        shape=data.shape,
        classes=data.classes,
        nodes=tuple(draft.nodes.values()),
        float32=bytes_in_float32(network),
        preprocessing=preprocessing,
        provenance=provenance,
    )
    return draft, description, {**draft.tensors, **tensors}


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
) -> Exported:
    """Write a network with binary weights as a packed file, if that is the same network.

    What is compared with it is read back from the written file, which then gets its name.

    Args:
        network: in evaluation mode.
        data: on whose test split the two are compared.
        path: where to; what is there is replaced.
        said: what the data set calls its preprocessing.
        provenance: where the network comes from.
        form: writes the file, and returns what answers from it.

    Raises:
        UsageError: something cannot be packed, or the file cannot be written.
        ParityError: the packed network is another.
    """
    draft, description, tensors = described(network, data, said, provenance)
    packed = PackedNetwork(description, tensors)
    with beside(path) as part:
        found = compared(network, form(part, description, tensors), data.test, data.task)
        found.check()
        inputs, _ = next(batches_of(data.test))
        layers, count = integers(network, packed, draft.layers, inputs[:LOOKED_AT])
    return Exported(packed, found, layers, count, draft.layers)


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

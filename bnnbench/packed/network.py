"""A packed network that runs: bits between its binary layers, real numbers where it has them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnnbench.errors import UsageError
from bnnbench.packed.file import read
from bnnbench.packed.nodes import INPUT
from bnnbench.packed.plan import Plan
from bnnbench.packed.shapes import results
from bnnbench.packed.values import real

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench.packed.description import Description

BINARY = ("binary_dense", "binary_conv")


class Row(NamedTuple):
    """A node in a table: its result's kind and shape, its weights, and bytes in the file."""

    name: str
    operation: str
    kind: str
    shape: tuple[int, ...]
    binary: int
    real: int
    bytes: int


class PackedNetwork:
    """Call it with float32 inputs (batch, ``*shape``) for outputs (batch, ``classes``).

    ``fused`` computes several nodes at once where that is faster; the result is the same.
    """

    def __init__(
        self,
        description: Description,
        tensors: Mapping[str, NDArray[Any]],
        *,
        fused: bool = True,
    ) -> None:
        self.description, self.tensors = description, dict(tensors)
        self.shape, self.classes = description.shape, description.classes
        self.results = results(description)
        self.steps = Plan(description, tensors, self.results, fused=fused).steps()
        self._last = {name: step.name for step in self.steps for name in step.inputs}

    @torch.no_grad()
    def __call__(self, inputs: Tensor, watch: Callable[[str, Any], None] | None = None) -> Tensor:
        """Return the outputs; ``watch`` is told the name and the value of each step's result.

        Raises:
            UsageError: inputs of another shape or type.
        """
        if tuple(inputs.shape[1:]) != self.shape or inputs.dtype != torch.float32:
            raise UsageError(
                f"this network takes float32 inputs (batch, {', '.join(map(str, self.shape))}),"
                f" got {inputs.dtype} {tuple(inputs.shape)}; prepare them as its data set does"
            )
        if not len(inputs):
            return torch.zeros((0, *self.results[self.steps[-1].name].shape))
        values: dict[str, Any] = {INPUT: inputs}
        for step in self.steps:
            values[step.name] = step.run(*(values[name] for name in step.inputs))
            if watch is not None:
                watch(step.name, values[step.name])
            for name in step.inputs:  # what nobody needs any more
                if self._last[name] == step.name:
                    values.pop(name, None)
        return real(values[self.steps[-1].name])

    def preprocess(self, raw: NDArray[np.uint8]) -> Tensor:
        """Return the inputs for raw images: uint8 (batch, channels, height, width).

        Raises:
            UsageError: the file does not say how, or the images have another shape or type.
        """
        made = self.description.preprocessing
        if made.kind != "bytes":
            raise UsageError(
                f"this file does not say how raw images become inputs ({made.said}); prepare them"
                " as its data set does"
            )
        if str(raw.dtype) != "uint8" or tuple(raw.shape[1:]) != self.shape:
            raise UsageError(
                f"raw images must be uint8 (batch, {', '.join(map(str, self.shape))}), got"
                f" {raw.dtype} {tuple(raw.shape)}"
            )
        table = torch.from_numpy(self.tensors["preprocessing.table"])
        places = torch.from_numpy(raw).flatten(2).long()
        return table.expand(len(raw), -1, -1).gather(2, places).view(raw.shape)

    def size(self) -> dict[str, int]:
        """Return the bytes of the weights of each kind, and of the trained network in float32."""
        found = Counter({"binary": 0, "thresholds": 0, "real": 0})
        for node, row in zip(self.description.nodes, self.rows(), strict=True):
            found[_kind(node)] += row.bytes
        return {**found, "float32": self.description.float32}

    def rows(self) -> list[Row]:
        """Return a row for each node, in order."""
        return [self._row(node) for node in self.description.nodes]

    def _row(self, node: Any) -> Row:
        arrays = [self.tensors[f"{node.name}.{end}"] for end in node.parts()]
        binary = 0
        if node.op in BINARY:
            binary = len(arrays[0]) * getattr(node, "taps", getattr(node, "features", 0))
        result = self.results[node.name]
        reals = sum(array.size for array in arrays) if not binary else 0
        size = sum(array.nbytes for array in arrays)
        return Row(node.name, node.op, result.kind, result.shape, binary, reals, size)


def _kind(node: Any) -> str:
    """What kind of weights a node has."""
    if node.op in BINARY:
        return "binary"
    return "thresholds" if node.op == "threshold" else "real"


def load(path: str | Path) -> PackedNetwork:
    """Return the packed network of a file.

    Raises:
        DataError: in one line, what is wrong with the file.
    """
    return PackedNetwork(*read(path))

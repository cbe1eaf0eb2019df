"""What the file of a packed network says of itself, beside its tensors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from bnnbench.packed.nodes import Count, Node, Part, Plain


class Preprocessing(Plain):
    """What the network's inputs are made of.

    ``bytes``: each byte of channel c is looked up in the tensor ``preprocessing.table``, in row c.
    ``none``: the data set prepares them; ``said`` names it.
    """

    kind: Literal["bytes", "none"]
    said: str = ""


class Provenance(Plain):
    """Where a packed network comes from; accuracies are of the test split, in percent.

    ``run`` is the run's description as :mod:`bnnbench.runs` writes it, ``key`` its content key.
    The network is that of ``mode``: ``accuracy`` is what it had when it was exported,
    ``stored_accuracy`` what the run measured, perhaps on another machine. ``judged`` is the mode
    that the method is judged by. Accuracies are None where the run has not seen the test split.
    """

    study: str
    task: str
    method: str
    seed: int
    run: str
    key: str
    mode: str
    accuracy: FiniteFloat | None
    stored_accuracy: FiniteFloat | None = None
    judged: str
    judged_accuracy: FiniteFloat | None
    versions: dict[str, str]


class Description(Plain):
    """All that a file says beside its tensors.

    ``float32`` are the bytes of the trained network, all its numbers in float32: weights, biases
    and running statistics.
    """

    shape: Annotated[tuple[Count, ...], Field(min_length=1, max_length=3)]
    classes: Count
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=10_000)]
    float32: Annotated[int, Field(ge=0)]
    preprocessing: Preprocessing
    provenance: Provenance | None = None

    def parts(self) -> dict[str, Part]:
        """Return every tensor that the file has, by name."""
        found = {f"{n.name}.{end}": part for n in self.nodes for end, part in n.parts().items()}
        if self.preprocessing.kind == "bytes":
            found["preprocessing.table"] = Part("F32", (self.shape[0], 256))
        return found

"""From a traced network to the nodes of a packed one, operation by operation.

Each module and function that a packed network knows has a rule here, by its exact type: a subclass
may do something else. What has none is refused by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bnnbench.errors import UsageError
from bnnbench.packed import nodes as ops
from bnnbench.packing.functions import FUNCTIONS, METHODS
from bnnbench.packing.modules import MODULES, Layer, refused
from bnnbench.packing.tracing import output_of, traced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import fx, nn

LONGEST = 180  #: letters of a module's name that are kept


class Draft:
    """The nodes of a packed network that is being made, in their order, and their tensors.

    ``layers`` are the nodes that hold a module's weights, by the module's name; ``signs`` those of
    a binary activation, one for each time that it is called.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.tensors: dict[str, NDArray[Any]] = {}
        self.layers: dict[str, Layer] = {}
        self.signs: dict[str, list[str]] = {}

    def add(self, kind: Any, name: str, inputs: Sequence[str], **given: Any) -> str:
        """Add a node and return its name, which is made another if it is taken or has odd letters.

        Arrays and tensors among what is given become its parts, all else its fields; a part that is
        None is none.
        """
        plain = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:LONGEST]
        free, number = plain, 2
        while free in self.nodes or free == ops.INPUT:
            free, number = f"{plain}_{number}", number + 1
        parts = {k: v for k, v in given.items() if isinstance(v, np.ndarray | torch.Tensor)}
        fields = {k: v for k, v in given.items() if k not in parts and v is not None}
        self.nodes[free] = kind(name=free, inputs=tuple(inputs), **fields)
        for end, value in parts.items():
            self.tensors[f"{free}.{end}"] = _array(value)
        return free

    def copy(self) -> Draft:
        """Return a draft that stays as it is when this one is folded."""
        made = Draft()
        made.nodes, made.tensors = {**self.nodes}, {**self.tensors}
        made.layers, made.signs = {**self.layers}, {**self.signs}
        return made

    def keep(self, nodes: Sequence[Any]) -> None:
        """Keep these nodes alone, in this order."""
        self.nodes = {node.name: node for node in nodes}
        wanted = {f"{node.name}.{end}" for node in nodes for end in node.parts()}
        self.tensors = {name: array for name, array in self.tensors.items() if name in wanted}


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        return np.array(value.detach().cpu().float().numpy())
    return np.asarray(value)


def lowered(network: nn.Module, shape: tuple[int, ...]) -> Draft:
    """Return the nodes of a network, its binary layers with packed weights.

    Raises:
        UsageError: something in it cannot be packed; the message names it.
    """
    if len(shape) > 3:
        raise UsageError(f"inputs of {shape} cannot be packed; those of 1 to 3 dimensions can")
    graph = traced(network, shape)
    draft, names = Draft(), dict[Any, str]()
    for node in graph.nodes:
        if node.op == "placeholder":
            names[node] = ops.INPUT
        elif node.op != "output" and node.meta["varies"]:
            names[node] = _lower(draft, network, node, names)
    end = output_of(graph)
    if end not in names or names[end] == ops.INPUT:
        raise UsageError("a network that does nothing with its inputs cannot be packed")
    draft.keep(reachable(draft.nodes, names[end]))
    return draft


def _lower(draft: Draft, network: nn.Module, node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    """Add the nodes that do what one step does; return the name of the last."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        rule: Any = MODULES.get(type(module))
        label = (str(node.target), f"is a {type(module).__name__}")
        given: Any = (str(node.target), module, [names[n] for n in node.all_input_nodes])
    else:
        table: Mapping[Any, Any] = FUNCTIONS if node.op == "call_function" else METHODS
        rule = table.get(node.target)
        label = (node.name, f"calls {getattr(node.target, '__name__', node.target)}")
        given = (node, names)
    if rule is None:
        raise refused(*label)
    made: str = rule(draft, *given)
    return made


def reachable(nodes: Mapping[str, Any], last: str) -> list[Any]:
    """Return the nodes that the last one needs, in their order."""
    needed = {last}
    for node in reversed(list(nodes.values())):
        if node.name in needed:
            needed.update(node.inputs)
    return [node for node in nodes.values() if node.name in needed]

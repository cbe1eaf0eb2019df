"""A network as a list of steps: torch.fx follows one small batch through it.

Unlike plain symbolic tracing the batch has numbers: a forward that asks for a shape is told it, and
what does not depend on the inputs is a constant. A forward that decides by the numbers themselves
cannot be followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

OURS = (BinaryConv2d, BinaryLinear)
BATCH = 3  #: examples in the batch: a size that is not likely to be taken for another
_NEW = {"new_ones", "new_zeros", "new_full", "new_tensor"}  #: of the tensor they take the type


class _Concrete(fx.Proxy):
    """What a module is given in place of a tensor; it knows its shape."""

    @property
    def value(self) -> Any:
        return self.node.meta["value"]

    @property
    def shape(self) -> torch.Size:
        return self.value.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.value.ndim  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        return self.value.device  # type: ignore[no-any-return]

    def dim(self) -> int:
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class _Tracer(fx.Tracer):
    """Computes each step as it is noted."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.computing = False  # then modules are called as ever, and nothing is noted

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, BinaryActivation):
            return not m.learned  # a module is made of steps of its own
        return isinstance(m, OURS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self.computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Concrete(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if node.op != "output":
            self.computing = True
            node.meta["value"] = self._value(node)
            self.computing = False
            node.meta["varies"] = node.op == "placeholder" or (
                node.target not in _NEW and any(n.meta["varies"] for n in node.all_input_nodes)
            )
        return node

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.example
        target: Any = node.target
        args: Any = fx.node.map_arg(node.args, lambda n: n.meta["value"])
        kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: n.meta["value"])
        if node.op == "get_attr":
            return _attribute(self.root, target)
        if node.op == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)


def traced(network: nn.Module, shape: tuple[int, ...]) -> fx.Graph:
    """Return the graph of a network in evaluation mode, for inputs (batch, ``*shape``).

    Each node has its result for a random batch as ``meta["value"]``, and in ``meta["varies"]``
    whether that depends on the inputs.

    Raises:
        UsageError: its forward cannot be followed.
    """
    example = torch.randn((BATCH, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            graph = _Tracer(example).trace(network.eval())
        except Exception as error:  # whatever a plugin's forward may raise
            said = " ".join(str(error).split())
            raise UsageError(
                "only a network whose forward is the same steps of torch's for all inputs can be"
                f" packed, that of {type(network).__name__} cannot be followed: {said}"
            ) from error
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph


def _attribute(root: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def output_of(graph: fx.Graph) -> fx.Node:
    """Return the node whose result is the network's.

    Raises:
        UsageError: it gives more than one tensor.
    """
    last = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(last, fx.Node):
        raise UsageError(
            "only a network that gives one tensor can be packed, this one gives"
            f" {type(last).__name__}; export a network whose forward returns its outputs alone"
        )
    return last


def module_of(network: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, if it calls one."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None

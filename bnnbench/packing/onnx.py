"""A packed network in ONNX: standard operators, the signs of weights as int8.

    binary_dense    Cast(int8 weights) -> MatMul
    binary_conv     Cast(int8 weights) -> [Pad] -> Conv
    sign            GreaterOrEqual(x, 0) -> Where(1, -1)
    threshold       GreaterOrEqual(x, least) -> Xor(falls) -> Where(1, -1)

Integers and bits are float32 here, which holds the sums of up to 2^24 signs exactly; a weight takes
a byte in the file. All other operations have an operator of their own.

source: the operators of ONNX, opset 17, IR version 8
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.errors import UsageError
from bnnbench.packed.nodes import INPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench.packed.description import Description

OPSET, IR = 17, 8
OUTPUT = "output"


def check_extra() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        UsageError: one of them is missing.
    """
    from importlib.util import find_spec

    for name in ("onnx", "onnxruntime"):
        if find_spec(name) is None:
            raise UsageError(
                f"--format onnx needs the Python package {name!r}, which is not installed; it comes"
                " with pip install 'bnnbench[onnx]'"
            )


def as_onnx(path: Path, description: Description, tensors: dict[str, NDArray[Any]]) -> Runner:
    """Write a packed network as an ONNX model; return what runs it with onnxruntime."""
    import onnx

    model = Drawing(description, tensors).model()
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return Runner(path, [n.name for n in description.nodes if n.op in ("sign", "threshold")])


class Runner:
    """Runs an ONNX model on the CPU, from inputs to outputs.

    ``signs`` are the results of which a watcher is told; for these the same operators are run once
    more, with more outputs.
    """

    def __init__(self, path: Path, signs: Sequence[str] = ()) -> None:
        self.model, self.signs = path.read_bytes(), signs
        self.session = _session(self.model)

    def __call__(self, inputs: Tensor, watch: Callable[[str, Any], None] | None = None) -> Tensor:
        """Return the outputs of a batch."""
        import torch

        given = {INPUT: inputs.contiguous().numpy()}
        if watch is None:
            (outputs,) = self.session.run([OUTPUT], given)
            return torch.from_numpy(outputs)
        outputs, *signs = self._watched.run([OUTPUT, *self.signs], given)
        for name, values in zip(self.signs, signs, strict=True):
            watch(name, torch.from_numpy(values))
        return torch.from_numpy(outputs)

    @functools.cached_property
    def _watched(self) -> Any:
        import onnx

        model = onnx.load_from_string(self.model)
        ends = [onnx.helper.make_tensor_value_info(n, 1, None) for n in self.signs]
        model.graph.output.extend(ends)
        return _session(model.SerializeToString())


def _session(model: bytes) -> Any:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Drawing:
    """The operators of a network, in their order, and its constants."""

    def __init__(self, description: Description, tensors: dict[str, NDArray[Any]]) -> None:
        from bnnbench.packed.shapes import results

        self.description, self.tensors = description, tensors
        self.shapes = {name: found.shape for name, found in results(description).items()}
        self.operators: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {
            name: np.array([value], np.float32)
            for name, value in (("one", 1), ("minus_one", -1), ("zero", 0))
        }

    def model(self) -> Any:
        """Return the model."""
        from onnx import TensorProto, helper, numpy_helper

        for node in self.description.nodes:
            getattr(self, f"_{node.op}")(node)
        last = self.description.nodes[-1].name
        self._op("Identity", [last], OUTPUT)
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in ((INPUT, self.shapes[INPUT]), (OUTPUT, self.shapes[last]))
        ]
        used = {name for operator in self.operators for name in operator.input}
        kept = {name: array for name, array in self.constants.items() if name in used}
        constants = [numpy_helper.from_array(array, name) for name, array in kept.items()]
        graph = helper.make_graph(self.operators, "bnnbench", [ends[0]], [ends[1]], constants)
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=IR)
        helper.set_model_props(made, self._told())
        return made

    def _told(self) -> dict[str, str]:
        """What the model says of itself, beside its operators."""
        told: dict[str, Any] = self.description.model_dump(mode="json")
        return {key: json.dumps(told[key]) for key in ("preprocessing", "provenance", "classes")}

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.operators.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.ascontiguousarray(array, dtype)
        return name

    def _part(self, node: Any, end: str) -> str:
        """A tensor of a node as a constant."""
        return self._constant(f"{node.name}.{end}", self.tensors[f"{node.name}.{end}"])

    def _of_channels(self, node: Any, end: str, dtype: Any = np.float32) -> str:
        """A tensor with a number for each channel, in the shape that meets them."""
        ndim = len(self.shapes[node.inputs[0]])
        array = self.tensors[f"{node.name}.{end}"].reshape(-1, *[1] * (ndim - 1))
        return self._constant(f"{node.name}.{end}", array, dtype)

    def _signs(self, node: Any, count: int, shape: tuple[int, ...]) -> str:
        """The signs of a binary layer's weights as floats."""
        packed = self.tensors[f"{node.name}.weight"]
        bits = np.unpackbits(packed, axis=1, count=count, bitorder="little").astype(np.int8)
        signs = (2 * bits - 1).reshape(shape)
        name = self._constant(f"{node.name}.weight", signs, np.int8)
        return self._op("Cast", [name], f"{node.name}.signs", to=1)

    def _binary_dense(self, node: Any) -> None:
        signs = self._signs(node, node.features, (node.outputs, node.features))
        turned = self._op("Transpose", [signs], f"{node.name}.turned", perm=[1, 0])
        self._op("MatMul", [node.inputs[0], turned], node.name)

    def _binary_conv(self, node: Any) -> None:
        shape = (node.filters, node.channels // node.groups, *node.kernel)
        x, (rows, columns) = node.inputs[0], node.padding
        if node.pad_value and (rows or columns):
            ends = [0, 0, rows, columns]
            x = self._padded(f"{node.name}.padded", x, ends + ends, node.pad_value)
            rows = columns = 0
        signs = self._signs(node, node.taps, shape)
        self._op("Conv", [x, signs], node.name, **_geometry(node, rows, columns))

    def _dense(self, node: Any) -> None:
        parts = [self._part(node, end) for end in node.parts()]
        self._op("Gemm", [node.inputs[0], *parts], node.name, transB=1)

    def _conv(self, node: Any) -> None:
        parts = [self._part(node, end) for end in node.parts()]
        self._op("Conv", [node.inputs[0], *parts], node.name, **_geometry(node, *node.padding))

    def _sign(self, node: Any) -> None:
        above = self._op("GreaterOrEqual", [node.inputs[0], "zero"], f"{node.name}.above")
        self._op("Where", [above, "one", "minus_one"], node.name)

    def _threshold(self, node: Any) -> None:
        least, falls = self._of_channels(node, "least"), self._of_channels(node, "falls", bool)
        above = self._op("GreaterOrEqual", [node.inputs[0], least], f"{node.name}.above")
        turned = self._op("Xor", [above, falls], f"{node.name}.turned")
        self._op("Where", [turned, "one", "minus_one"], node.name)

    def _norm(self, node: Any) -> None:
        given = {"weight": np.ones(node.channels), "bias": np.zeros(node.channels)}
        for end in given:
            if end in node.parts():
                given[end] = self.tensors[f"{node.name}.{end}"]
        learned = [self._constant(f"{node.name}.{end}", array) for end, array in given.items()]
        measured = [self._part(node, end) for end in ("mean", "variance")]
        inputs = [node.inputs[0], *learned, *measured]
        self._op("BatchNormalization", inputs, node.name, epsilon=node.eps)

    def _scale(self, node: Any) -> None:
        self._op("Mul", [node.inputs[0], self._of_channels(node, "scale")], node.name)

    def _bias(self, node: Any) -> None:
        self._op("Add", [node.inputs[0], self._of_channels(node, "bias")], node.name)

    def _prelu(self, node: Any) -> None:
        self._op("PRelu", [node.inputs[0], self._of_channels(node, "slope")], node.name)

    def _relu(self, node: Any) -> None:
        self._op("Relu", [*node.inputs], node.name)

    def _hardtanh(self, node: Any) -> None:
        low = self._constant(f"{node.name}.low", node.low)
        high = self._constant(f"{node.name}.high", node.high)
        self._op("Clip", [node.inputs[0], low, high], node.name)

    def _add(self, node: Any) -> None:
        self._op("Add", [*node.inputs], node.name)

    def _concat(self, node: Any) -> None:
        self._op("Concat", [*node.inputs], node.name, axis=1)

    def _max_pool(self, node: Any) -> None:
        self._op(
            "MaxPool", [*node.inputs], node.name, **_window(node), dilations=list(node.dilation)
        )

    def _avg_pool(self, node: Any) -> None:
        counted = int(node.count_pad)
        self._op(
            "AveragePool", [*node.inputs], node.name, **_window(node), count_include_pad=counted
        )

    def _mean(self, node: Any) -> None:
        self._op("GlobalAveragePool", [*node.inputs], node.name)

    def _flatten(self, node: Any) -> None:
        self._op("Flatten", [*node.inputs], node.name, axis=1)

    def _pad(self, node: Any) -> None:
        left, right, top, bottom = node.image
        front, back = node.channels
        pads = [0, front, top, left, 0, back, bottom, right]
        self._padded(node.name, node.inputs[0], pads, node.value)

    def _padded(self, name: str, x: str, pads: list[int], value: float) -> str:
        ends = self._constant(f"{name}.pads", pads, np.int64)
        return self._op("Pad", [x, ends, self._constant(f"{name}.value", value)], name)

    def _subsample(self, node: Any) -> None:
        places = {"starts": [0, 0], "ends": [2**31, 2**31], "axes": [2, 3], "steps": node.stride}
        given = [self._constant(f"{node.name}.{k}", v, np.int64) for k, v in places.items()]
        self._op("Slice", [node.inputs[0], *given], node.name)

    def _pixel_shuffle(self, node: Any) -> None:
        self._op("DepthToSpace", [*node.inputs], node.name, blocksize=node.factor, mode="CRD")


def _geometry(node: Any, rows: int, columns: int) -> dict[str, Any]:
    return {
        "kernel_shape": list(node.kernel),
        "strides": list(node.stride),
        "pads": [rows, columns, rows, columns],
        "dilations": list(node.dilation),
        "group": node.groups,
    }


def _window(node: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(node.kernel),
        "strides": list(node.stride),
        "pads": [*node.padding, *node.padding],
        "ceil_mode": int(node.ceil),
    }

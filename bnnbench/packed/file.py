"""The file of a packed network: tensors as safetensors, all else as JSON in the file's header.

The header has one entry, "bnnbench-packed", JSON:

    version        "1"
    description    JSON again: see :class:`bnnbench.packed.description.Description`
    digest         SHA-256 of the description's text and of all tensors

The file is documented field by field in docs/packed-format.md. Nothing in it is ever executed, and
nothing is believed: names, types, shapes and references are checked before a number is used.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.errors import DataError
from bnnbench.packed.description import Description
from bnnbench.packed.nodes import INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from bnnbench.packed.nodes import Part

FORMAT, VERSION = "bnnbench-packed", "1"
TYPES = {"U8": np.uint8, "I32": np.int32, "F32": np.float32}
WAY_OUT = "export it again with 'bnnbench export'"
#: what a header may raise that is no description
_NONSENSE = (KeyError, RecursionError, TypeError, ValueError)


def write(path: Path, description: Description, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a packed network; the tensors are those that the description asks for.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.numpy import save_file

    text = description.model_dump_json()
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    header = {"version": VERSION, "description": text, "digest": digest(text, whole)}
    # one entry: of several the library writes any first, and equal networks had other files
    save_file(whole, path, {FORMAT: json.dumps(header)})


def read(path: str | Path) -> tuple[Description, dict[str, NDArray[Any]]]:
    """Return what :func:`write` wrote.

    Raises:
        DataError: in one line, what is wrong with the file.
    """
    entries, tensors = _contents(Path(path))
    header = _header(path, entries)
    text = header["description"]
    if header.get("digest") != digest(text, tensors):
        raise _bad(path, "its checksum is another: it was damaged or changed")
    try:
        description = Description.model_validate_json(text, strict=True)
    except _NONSENSE as error:
        raise _bad(path, _said(error)) from error
    if description.preprocessing.kind == "bytes" and len(description.shape) != 3:
        raise _bad(path, "bytes become inputs that are images, and these are none")
    _check_names(path, description)
    _check_tensors(path, description.parts(), tensors)
    _check_signs(path, description, tensors)
    return description, tensors


def digest(text: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the checksum of a description and of tensors: names, types, shapes and numbers."""
    found = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, tensor.dtype.str, tensor.shape]).encode())
        found.update(np.ascontiguousarray(tensor).tobytes())
    return found.hexdigest()


def _contents(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return file.metadata() or {}, tensors
    except FileNotFoundError:
        raise DataError(f"there is no packed network at {path}; {WAY_OUT}") from None
    except (OSError, RuntimeError, SafetensorError, *_NONSENSE) as error:
        raise _bad(path, f"it is no safetensors file ({_said(error)})") from error


def _header(path: str | Path, entries: Mapping[str, str]) -> dict[str, Any]:
    """The header of a file of ours, of the version that is known."""
    if FORMAT not in entries:
        raise _bad(path, f"its header has no entry {FORMAT!r}")
    try:
        header = dict(json.loads(entries[FORMAT]))
    except _NONSENSE as error:
        raise _bad(path, f"its header is no JSON ({_said(error)})") from error
    if header.get("version") != VERSION:
        known = f"this bnnbench reads version {VERSION}, and no other"
        raise _bad(path, f"its version is {header.get('version')!r}; {known}")
    if not isinstance(header.get("description"), str):
        raise _bad(path, "its header has no description")
    return header


def _check_names(path: str | Path, description: Description) -> None:
    """Refuse nodes of one name, and a node that takes what no node before it gives."""
    known = {INPUT}
    for node in description.nodes:
        if node.name in known:
            raise _bad(path, f"two nodes are named {node.name!r}")
        for name in node.inputs:
            if name not in known:
                raise _bad(path, f"{node.name!r} takes {name!r}, which no node before it gives")
        known.add(node.name)


def _check_tensors(
    path: str | Path, wanted: Mapping[str, Part], tensors: Mapping[str, NDArray[Any]]
) -> None:
    for name in sorted({*wanted, *tensors}):
        if name not in tensors:
            raise _bad(path, f"the tensor {name!r} is missing")
        if name not in wanted:
            raise _bad(path, f"no node has a tensor {name!r}")
        part, tensor = wanted[name], tensors[name]
        if tensor.dtype != TYPES[part.dtype] or tensor.shape != part.shape:
            found = f"{tensor.dtype} {tensor.shape}"
            raise _bad(path, f"{name!r} must be {part.dtype} {part.shape}, got {found}")
        if tensor.dtype == np.float32 and not np.isfinite(tensor).all():
            raise _bad(path, f"{name!r} has numbers that are not finite")


def _check_signs(
    path: str | Path, description: Description, tensors: Mapping[str, NDArray[Any]]
) -> None:
    """Refuse bits beyond a row's last, which would count."""
    for node in description.nodes:
        count = getattr(node, "taps", getattr(node, "features", 0))
        if node.op not in ("binary_dense", "binary_conv") or count % 8 == 0:
            continue
        if (tensors[f"{node.name}.weight"][:, -1] >> (count % 8)).any():
            raise _bad(path, f"{node.name!r} has bits beyond its {count} weights")


def _bad(path: str | Path, what: str) -> DataError:
    return DataError(f"{path} cannot be used as a packed network: {what}; {WAY_OUT}")


def _said(error: Exception) -> str:
    """The first thing that an error says, in one line."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return " ".join(str(error).split()) or type(error).__name__
    first = errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"

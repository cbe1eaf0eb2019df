"""What a run leaves behind as files: its weights, and where it stood when it was broken off.

Tensors are kept as safetensors, all else as JSON in the file's header: nothing in a file is ever
executed. A file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnnbench.errors import DataError, UsageError
from bnnbench.runs import Run
from bnnbench.schedules import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

NETWORK, LATENT = "network.", "latent."  #: the two kinds of tensors in a file of weights


class Weights(NamedTuple):
    """The weights of a finished run, at its selected epoch.

    ``network`` is the state of the network with the weights by which it is judged, by name.
    ``latents`` are what its method remembers of the binary layers' weights, by the same names.
    ``judged`` is the inference mode; with ``draws`` above 1 it is more than one network.
    ``progress`` is that of the whole training.
    """

    run: Run
    network: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    judged: str
    draws: int
    progress: Progress


class Checkpoints:
    """A folder of weights and of trainings that were broken off, named by the run's content key."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def check_folder(self) -> None:
        """Refuse a folder that cannot be written to.

        Raises:
            UsageError: in one line.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise UsageError(
                f"checkpoints must go into a folder that can be written to, {self.folder} cannot"
                f" ({error.strerror}); name another with --checkpoints"
            ) from None

    def has_weights(self, key: str) -> bool:
        """Whether the weights of a run are here, and whole."""
        try:
            return self.weights(key).run.key == key
        except DataError:
            return False

    def save_weights(self, weights: Weights) -> None:
        """Keep the weights of a run."""
        tensors = {NETWORK + name: tensor for name, tensor in weights.network.items()}
        tensors |= {LATENT + name: tensor for name, tensor in weights.latents.items()}
        facts = {"judged": weights.judged, "draws": weights.draws, "progress": weights.progress}
        self._write(self._path(weights.run.key, "weights"), tensors, weights.run, facts)

    def weights(self, key: str) -> Weights:
        """Return the weights of a run, on the CPU.

        Raises:
            DataError: there are none, or the file is damaged.
        """
        path = self._path(key, "weights")
        tensors, run, facts = self._read(path)
        if run.key != key:
            raise DataError(
                f"{path} must hold the weights of run {key}, but has those of {run.key}"
            )
        facts["progress"] = Progress(*facts["progress"])
        return Weights(run, _of(tensors, NETWORK), _of(tensors, LATENT), **facts)

    def save_training(self, run: Run, state: Mapping[str, Any]) -> None:
        """Keep the state of a training, in place of an earlier one."""
        tensors: dict[str, Tensor] = {}
        plain = _pack(state, tensors, {})
        facts = {"state": plain, "torch": torch.__version__}
        self._write(self._path(run.key, "training"), tensors, run, facts)

    def training(self, run: Run) -> dict[str, Any] | None:
        """Return the state of a training that was broken off, or None.

        One that is damaged, or was written with another torch, is no state: the run begins anew.
        """
        try:
            tensors, saved, facts = self._read(self._path(run.key, "training"))
        except DataError:
            return None
        if saved != run or facts["torch"] != torch.__version__:
            return None
        state: dict[str, Any] = _unpack(facts["state"], tensors)
        return state

    def forget_training(self, key: str) -> None:
        """Remove the state of a training that is over."""
        self._path(key, "training").unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Remove all that is kept of a run, also what a killed process left half written."""
        for path in self.folder.glob(f"{key}.*"):
            path.unlink(missing_ok=True)

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}.safetensors"

    def _write(
        self, path: Path, tensors: Mapping[str, Tensor], run: Run, facts: Mapping[str, Any]
    ) -> None:
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        header = {"run": run.to_json(), "facts": json.dumps(facts), "sha256": _digest(whole)}
        for stale in path.parent.glob(f"{path.stem}.*.part"):
            stale.unlink(missing_ok=True)  # of a process that was killed
        try:
            save_file(whole, beside, header)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Run, dict[str, Any]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if header["sha256"] != _digest(found):
                raise ValueError("its checksum is another")
            return found, Run.from_json(header["run"]), json.loads(header["facts"])
        except FileNotFoundError:
            raise DataError(f"the checkpoint {path} is missing; run its study again") from None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the checkpoint {path} is damaged ({error}); delete it and run its study again"
            ) from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _of(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}


def _pack(value: Any, tensors: dict[str, Tensor], known: dict[int, str]) -> Any:
    """A value as JSON, its tensors put aside; a tensor that occurs twice is kept once."""
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            known[id(value)] = str(len(tensors))
            tensors[known[id(value)]] = value
        return {"tensor": known[id(value)]}
    if isinstance(value, dict):
        pairs = [[_pack(k, tensors, known), _pack(v, tensors, known)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, tuple | list):
        name = "tuple" if isinstance(value, tuple) else "list"
        return {name: [_pack(item, tensors, known) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        "the state of a training may hold tensors, numbers, texts, lists and dicts, got"
        f" {type(value).__name__}"
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items

"""What a run leaves behind as files: its weights, and where it stood when it was broken off.

Tensors are kept as safetensors, all else as JSON in the file's header: nothing in a file is ever
executed. A file appears whole or not at all, and what is in it has a checksum. Of a training there
are two, so that it is taken up from the one before where the last is damaged::

    KEY.training.PID.part  ->  KEY.training.safetensors  ->  KEY.training-before.safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnnbench.backup import put_on_disk
from bnnbench.errors import DataError, UsageError
from bnnbench.runs import Run
from bnnbench.schedules import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

NETWORK, LATENT = "network.", "latent."  #: the two kinds of tensors in a file of weights
WEIGHTS, TRAINING, BEFORE = "weights", "training", "training-before"  #: the kinds of files,
BINARY = "binary"  #: and that of weights in their binary mode, kept to be exported

#: what a file may raise whose checksum is right and whose content is nonsense
_NONSENSE = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


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
        self._whole: set[Path] = set()  # files that we wrote

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
        """Keep the weights of a run, for the runs that build on it."""
        self._save(weights, WEIGHTS)

    def save_binary(self, weights: Weights) -> None:
        """Keep the weights of a run in its binary mode, to be exported."""
        self._save(weights, BINARY)

    def _save(self, weights: Weights, kind: str) -> None:
        tensors = {NETWORK + name: tensor for name, tensor in weights.network.items()}
        tensors |= {LATENT + name: tensor for name, tensor in weights.latents.items()}
        facts = {"judged": weights.judged, "draws": weights.draws, "progress": weights.progress}
        self._write(self._path(weights.run.key, kind), tensors, weights.run, facts)

    def weights(self, key: str) -> Weights:
        """Return the weights of a run, on the CPU.

        Raises:
            DataError: there are none, or the file is damaged.
        """
        return self._weights(key, WEIGHTS)

    def binary(self, key: str) -> Weights | None:
        """Return the weights of a run in its binary mode, on the CPU, None where none were kept.

        A file that is damaged is passed over with a warning.
        """
        path = self._path(key, BINARY)
        try:
            return self._weights(key, BINARY)
        except _UnusableError as error:
            if path.exists():
                warnings.warn(f"{error.fault}; it is passed over", stacklevel=2)
            return None

    def _weights(self, key: str, kind: str) -> Weights:
        path = self._path(key, kind)
        tensors, run, facts = self._read(path)
        if run.key != key:
            raise DataError(
                f"{path} must hold the weights of run {key}, but has those of {run.key}"
            )
        try:
            facts["progress"] = Progress(*facts["progress"])
            return Weights(run, _of(tensors, NETWORK), _of(tensors, LATENT), **facts)
        except _NONSENSE as error:
            raise _damaged(path, error) from error

    def save_training(self, run: Run, state: Mapping[str, Any]) -> None:
        """Keep the state of a training; of earlier ones the last stays until the next but one.

        Raises:
            OSError: it cannot be written; what there was stays.
        """
        tensors: dict[str, Tensor] = {}
        plain = _pack(state, tensors, {})
        facts = {"state": plain, "torch": torch.__version__}
        path, before = self._path(run.key, TRAINING), self._path(run.key, BEFORE)
        self._write(path, tensors, run, facts, before)

    def training(self, run: Run) -> dict[str, Any] | None:
        """Return the last whole state of a training that was broken off, or None.

        One that is damaged, or was written with another torch, is passed over with a warning: the
        run is taken up from the one before, or begins anew.
        """
        paths = [self._path(run.key, kind) for kind in (TRAINING, BEFORE)]
        for path in paths:
            try:
                state = self._training(path, run)
            except _UnusableError as error:
                if path.exists():
                    warnings.warn(f"{error.fault}; {_instead(path, paths)}", stacklevel=2)
            else:
                return state
        return None

    def _training(self, path: Path, run: Run) -> dict[str, Any]:
        tensors, saved, facts = self._read(path)
        if saved != run:
            raise _UnusableError(f"the checkpoint {path} is of another run")
        if facts.get("torch") != torch.__version__:
            versions = f"of torch {facts.get('torch')}, this is {torch.__version__}"
            raise _UnusableError(f"the checkpoint {path} is {versions}")
        try:
            state: dict[str, Any] = _unpack(facts["state"], tensors)
        except _NONSENSE as error:
            raise _damaged(path, error) from error
        return state

    def forget_training(self, key: str) -> None:
        """Remove the state of a training that is over."""
        for kind in (TRAINING, BEFORE):
            self._path(key, kind).unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Remove all that is kept of a run, also what a killed process left half written."""
        for path in self.folder.glob(f"{key}.*"):
            path.unlink(missing_ok=True)

    def files(self) -> list[tuple[str, str]]:
        """Return (key of the run, kind) of each file, sorted."""
        found = (path.name.split(".") for path in self.folder.glob("*.safetensors"))
        return sorted((parts[0], parts[1]) for parts in found if len(parts) == 3)

    def parts(self) -> list[tuple[str, str]]:
        """Return (key of the run, name) of each file that is half written, sorted."""
        return sorted((p.name.partition(".")[0], p.name) for p in self.folder.glob("*.part"))

    def fault(self, key: str, kind: str) -> str:
        """Return what is wrong with a file, or nothing; also of one that has just gone."""
        path = self._path(key, kind)
        try:
            _, run, _ = self._read(path)
        except DataError as error:
            return str(error) if path.exists() else ""
        return "" if run.key == key else f"the checkpoint {path} is of another run, {run.key}"

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}.safetensors"

    def _write(
        self,
        path: Path,
        tensors: Mapping[str, Tensor],
        run: Run,
        facts: Mapping[str, Any],
        before: Path | None = None,
    ) -> None:
        """Write a file; what has its name becomes the one ``before``, where that is asked for."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        header = {"run": run.to_json(), "facts": json.dumps(facts)}
        header["digest"] = _digest(whole, header)
        for stale in path.parent.glob(f"{path.stem}.*.part"):
            stale.unlink(missing_ok=True)  # of a process that was killed
        try:
            save_file(whole, beside, header)
            put_on_disk(beside)
            if before is not None and self._is_whole(path):
                path.replace(before)
            beside.replace(path)
            put_on_disk(path.parent)
            self._whole.add(path)
        finally:
            beside.unlink(missing_ok=True)

    def _is_whole(self, path: Path) -> bool:
        """Whether a file may take the place of one that is known to be whole."""
        if path not in self._whole:
            try:
                self._read(path)
            except DataError:
                return False
        return path.exists()

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Run, dict[str, Any]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in sorted(file.keys())}
            _check_digest(found, header)
            facts: dict[str, Any] = dict(json.loads(header["facts"]))
            return found, Run.from_json(header["run"]), facts
        except FileNotFoundError:
            raise _UnusableError(f"the checkpoint {path} is missing", "") from None
        except (OSError, RuntimeError, SafetensorError, *_NONSENSE) as error:
            raise _damaged(path, error) from error


class _UnusableError(DataError):
    """A file that cannot be used; ``fault`` says why, without the way out."""

    def __init__(self, fault: str, way_out: str = "delete it and ") -> None:
        super().__init__(f"{fault}; {way_out}run its study again")
        self.fault = fault


def _damaged(path: Path, error: Exception) -> _UnusableError:
    said = " ".join(str(error).split()) or type(error).__name__
    return _UnusableError(f"the checkpoint {path} is damaged ({said})")


def _instead(path: Path, paths: list[Path]) -> str:
    """What happens in place of taking a training up from a file."""
    rest = [other for other in paths[paths.index(path) + 1 :] if other.exists()]
    return "the one before is taken" if rest else "the run begins anew"


def _check_digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Refuse content that is not what was written.

    Raises:
        ValueError: its checksum is another, or it has none.
    """
    if set(header) == {"run", "facts", "digest"}:
        is_right = header["digest"] == _digest(tensors, header)
    elif set(header) == {"run", "facts", "sha256"}:  # as the first versions wrote it
        is_right = header["sha256"] == _digest_of_bytes(tensors)
    else:
        raise ValueError("it has no checksum")
    if not is_right:
        raise ValueError("its checksum is another")


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """The checksum of all that a file says: names, types, shapes, numbers, and the texts."""
    told = [(name, str(t.dtype), list(t.shape)) for name, t in sorted(tensors.items())]
    texts = json.dumps([header["run"], header["facts"], told, _digest_of_bytes(tensors)])
    return hashlib.sha256(texts.encode()).hexdigest()


def _digest_of_bytes(tensors: Mapping[str, Tensor]) -> str:
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

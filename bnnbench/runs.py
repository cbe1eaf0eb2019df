"""A run: everything that decides what a training will give, as plain values, and their key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 2  #: raised when the same description would come to mean another training


@dataclass(frozen=True)
class Part:
    """A component by name, with all its hyperparameters.

    A method that is crossed is named "binarizer+optimizer".
    """

    name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training, described so that two equal descriptions give the same result.

    ``judged`` names another inference mode than the method's own to judge it by. ``pruned_in`` is
    the Optuna study whose pruner may stop the run, which is then nobody else's. ``start_from`` and
    ``teacher`` are the keys of the runs whose weights it begins with and learns from. ``precision``
    is that of the products in training. ``probes`` are names, and parts where hyperparameters are
    given. ``code`` holds the version of each distribution that a
    component of the run comes from.
    """

    dataset: Part
    architecture: Part
    loss: Part
    method: Part
    seed: int
    epochs: int
    batch_size: int
    select: str = "best"
    test: bool = False
    reestimate: int = 0
    probes: tuple[str | Part, ...] = ("flips",)
    judged: str = ""
    pruned_in: str = ""
    start_from: str = ""
    teacher: str = ""
    precision: str = "fp32"
    code: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the description in a form that is equal on every machine."""
        values = {"format": FORMAT} | asdict(self)
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        """Twenty hexadecimal digits that name the content of the run."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:20]

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return the run that :meth:`to_json` described."""
        values = json.loads(text)
        values.pop("format")
        for name in ("dataset", "architecture", "loss", "method"):
            values[name] = Part(**values[name])
        probes = (each if isinstance(each, str) else Part(**each) for each in values["probes"])
        return cls(**(values | {"probes": tuple(probes)}))

"""The plugin API, on one screen. A plugin is a module with some of these functions in it.

An entry point of the group ``bnnbench`` names the module. Each hook is handed a function
``register(name, component)``; a component may be given as ``"package.module:attribute"``, which is
imported when it is first used. ``requires_api = "1.0"`` in the module asks for this API or a later
one of the same major number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

API_VERSION = "1.0"

hookspec = pluggy.HookspecMarker("bnnbench")
hookimpl = pluggy.HookimplMarker("bnnbench")

Register = Callable[[str, Any], None]


@hookspec
def register_methods(register: Register) -> None:
    """Register methods: functions from hyperparameters to a bnnbench.methods.Method."""


@hookspec
def register_binarizers(register: Register) -> None:
    """Register binarizers: classes that implement bnnbench.interfaces.Binarizer."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Register optimizers of latents: torch.optim.Optimizer classes."""


@hookspec
def register_architectures(register: Register) -> None:
    """Register architectures: functions (*, shape, classes, ...) -> torch.nn.Module."""


@hookspec
def register_datasets(register: Register) -> None:
    """Register data sets: functions from options to a bnnbench.interfaces.Dataset."""


@hookspec
def register_losses(register: Register) -> None:
    """Register losses: functions from hyperparameters to a bnnbench.interfaces.Loss."""


@hookspec
def register_probes(register: Register) -> None:
    """Register probes: classes that implement bnnbench.interfaces.Probe."""


@hookspec
def register_studies(register: Register) -> None:
    """Register bundled study files: each a path (or importlib.resources file) of a TOML file."""


@hookspec
def register_figures(register: Register) -> None:
    """Register figures of the report: functions bnnbench.results.Results -> Figure or None."""


@hookspec
def register_commands(register: Callable[[click.Command], None]) -> None:
    """Register click commands. The module's entry point is in the group ``bnnbench.commands``."""

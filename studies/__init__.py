"""The bundled study files: one TOML file for each published table, and the quickstart."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from bnnbench.hookspecs import API_VERSION, hookimpl

if TYPE_CHECKING:
    from bnnbench.hookspecs import Register

requires_api = API_VERSION


@hookimpl
def register_studies(register: Register) -> None:
    for file in sorted(files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            register(file.name.removesuffix(".toml"), file)

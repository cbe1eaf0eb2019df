"""The bundled methods, binarizers, optimizers, architectures, data sets, losses and probes.

Everything is given by reference, so that naming it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.hookspecs import API_VERSION, hookimpl

if TYPE_CHECKING:
    from bnnbench.hookspecs import Register

requires_api = API_VERSION


@hookimpl
def register_methods(register: Register) -> None:
    register("real", "bnnbench_plugins.real:real")
    register("ste", "bnnbench_plugins.ste:ste")
    register("binaryconnect", "bnnbench_plugins.binaryconnect:binaryconnect")
    register("bop", "bnnbench_plugins.bop:bop")


@hookimpl
def register_binarizers(register: Register) -> None:
    register("identity", "bnnbench_plugins.binarizers:Identity")
    register("sign", "bnnbench_plugins.binarizers:Sign")
    register("sign-hardtanh", "bnnbench_plugins.binarizers:SignHardTanh")
    register("stochastic", "bnnbench_plugins.binarizers:Stochastic")
    register("latentless", "bnnbench_plugins.bop:Latentless")


@hookimpl
def register_optimizers(register: Register) -> None:
    register("clipped-adam", "bnnbench_plugins.optimizers:ClippedAdam")
    register("clipped-sgd", "bnnbench_plugins.optimizers:ClippedSGD")
    register("bop", "bnnbench_plugins.bop:Bop")


@hookimpl
def register_architectures(register: Register) -> None:
    register("mlp", "bnnbench_plugins.architectures.mlp:mlp")
    register("binarynet", "bnnbench_plugins.architectures.binarynet:binarynet")


@hookimpl
def register_datasets(register: Register) -> None:
    register("digits", "bnnbench_plugins.datasets.digits:digits")
    register("mnist", "bnnbench_plugins.datasets.mnist:mnist")


@hookimpl
def register_losses(register: Register) -> None:
    register("squared-hinge", "bnnbench_plugins.losses:squared_hinge")
    register("cross-entropy", "bnnbench_plugins.losses:cross_entropy")


@hookimpl
def register_probes(register: Register) -> None:
    register("flips", "bnnbench.probes:FlipProbe")

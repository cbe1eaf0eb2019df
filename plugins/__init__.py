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
    register("bop2", "bnnbench_plugins.bop2:bop2")
    register("xnor", "bnnbench_plugins.xnor:xnor")
    register("two-step", "bnnbench_plugins.twostep:two_step")
    register("ternary", "bnnbench_plugins.ternary:ternary")
    register("bmd", "bnnbench_plugins.bmd:bmd")
    register("relaxed", "bnnbench_plugins.bnew:relaxed")
    register("bnew", "bnnbench_plugins.bnew:bnew")
    register("proxquant", "bnnbench_plugins.proxquant:proxquant")
    register("frozen-random", "bnnbench_plugins.frozen:frozen_random")


@hookimpl
def register_binarizers(register: Register) -> None:
    register("identity", "bnnbench_plugins.binarizers:Identity")
    register("sign", "bnnbench_plugins.binarizers:Sign")
    register("sign-hardtanh", "bnnbench_plugins.binarizers:SignHardTanh")
    register("stochastic", "bnnbench_plugins.binarizers:Stochastic")
    register("latentless", "bnnbench_plugins.bop:Latentless")
    register("quadratic", "bnnbench_plugins.binarizers:Quadratic")
    register("swish", "bnnbench_plugins.binarizers:Swish")
    register("ede", "bnnbench_plugins.binarizers:EDE")
    register("reste", "bnnbench_plugins.binarizers:ReSTE")
    register("scaled", "bnnbench_plugins.xnor:Scaled")
    register("ternary", "bnnbench_plugins.ternary:Ternary")
    register("relaxed", "bnnbench_plugins.bnew:Relaxed")
    register("tanh", "bnnbench_plugins.bmd:Tanh")
    register("tanh-gradient", "bnnbench_plugins.bmd:TanhGradient")


@hookimpl
def register_optimizers(register: Register) -> None:
    register("clipped-adam", "bnnbench_plugins.optimizers:ClippedAdam")
    register("clipped-sgd", "bnnbench_plugins.optimizers:ClippedSGD")
    register("bop", "bnnbench_plugins.bop:Bop")
    register("bop2", "bnnbench_plugins.bop2:Bop2")
    register("centred-adam", "bnnbench_plugins.xnor:CentredAdam")
    register("bnew", "bnnbench_plugins.bnew:Bnew")
    register("prox-adam", "bnnbench_plugins.proxquant:ProxAdam")
    register("mirror-tanh", "bnnbench_plugins.bmd:MirrorTanh")
    register("frozen", "bnnbench_plugins.frozen:Frozen")


@hookimpl
def register_architectures(register: Register) -> None:
    register("mlp", "bnnbench_plugins.architectures.mlp:mlp")
    register("binarynet", "bnnbench_plugins.architectures.binarynet:binarynet")
    register("bc-vgg", "bnnbench_plugins.architectures.binarynet:bc_vgg")
    register("bc-vgg-svhn", "bnnbench_plugins.architectures.binarynet:bc_vgg_svhn")
    register("bop-binarynet", "bnnbench_plugins.architectures.binarynet:bop_binarynet")
    register("vgg-small", "bnnbench_plugins.architectures.vgg:vgg_small")
    register("vgg16", "bnnbench_plugins.architectures.vgg:vgg16")
    register("nin", "bnnbench_plugins.architectures.nin:nin")
    register("unet", "bnnbench_plugins.architectures.unet:unet")
    register("bnew-small", "bnnbench_plugins.architectures.bnew:bnew_small")
    register("resnet18", "bnnbench_plugins.architectures.resnet:resnet18")
    register("wrn22", "bnnbench_plugins.architectures.resnet:wrn22")
    register("bireal18", "bnnbench_plugins.architectures.bireal:bireal18")
    register("bireal20", "bnnbench_plugins.architectures.bireal:bireal20")
    register("reactnet-a", "bnnbench_plugins.architectures.reactnet:reactnet_a")
    register("reactnet-18", "bnnbench_plugins.architectures.reactnet:reactnet18")
    register("binarydensenet28", "bnnbench_plugins.architectures.densenet:binarydensenet28")


@hookimpl
def register_datasets(register: Register) -> None:
    register("digits", "bnnbench_plugins.datasets.digits:digits")
    register("mnist", "bnnbench_plugins.datasets.mnist:mnist")
    register("fashion-mnist", "bnnbench_plugins.datasets.mnist:fashion_mnist")
    register("kmnist", "bnnbench_plugins.datasets.mnist:kmnist")
    register("cifar10", "bnnbench_plugins.datasets.cifar:cifar10")
    register("cifar100", "bnnbench_plugins.datasets.cifar:cifar100")
    register("svhn", "bnnbench_plugins.datasets.svhn:svhn")
    register("oxford-iiit-pet", "bnnbench_plugins.datasets.pets:oxford_iiit_pet")
    register("imagenet", "bnnbench_plugins.datasets.imagenet:imagenet")
    register("synthetic-mnist", "bnnbench_plugins.datasets.synthetic:synthetic_mnist")
    register("synthetic-cifar10", "bnnbench_plugins.datasets.synthetic:synthetic_cifar10")
    register("synthetic-cifar100", "bnnbench_plugins.datasets.synthetic:synthetic_cifar100")
    register("synthetic-svhn", "bnnbench_plugins.datasets.synthetic:synthetic_svhn")
    register("synthetic-pets", "bnnbench_plugins.datasets.synthetic:synthetic_pets")
    register("synthetic-imagenet", "bnnbench_plugins.datasets.synthetic:synthetic_imagenet")


@hookimpl
def register_losses(register: Register) -> None:
    register("squared-hinge", "bnnbench_plugins.losses:squared_hinge")
    register("cross-entropy", "bnnbench_plugins.losses:cross_entropy")
    register("distribution", "bnnbench_plugins.distillation:distribution")
    register("hinton", "bnnbench_plugins.distillation:hinton")
    register("attention", "bnnbench_plugins.distillation:attention")


@hookimpl
def register_probes(register: Register) -> None:
    register("flips", "bnnbench.probes:FlipProbe")
    register("histograms", "bnnbench_plugins.histograms:Histograms")
    register("geometry", "bnnbench_plugins.geometry:Geometry")

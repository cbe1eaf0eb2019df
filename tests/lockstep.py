"""Small trainings in double precision, and the process that trains them beside the tests' own.

As a program: for each line "CASE EPOCH PLACE" of its standard input it trains the case from that
epoch's checkpoint on as the second of two processes, which meet at the place; NORMS instead
normalizes its part of random batches, and leaves what came out beside the place.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import SGD

from bnnbench.checkpoints import Checkpoints
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.methods import Method, Phase
from bnnbench.probes import FlipProbe
from bnnbench.runs import Part, Run
from bnnbench.schedules import Scheduled
from bnnbench.seeds import RandomState
from bnnbench.training import Settings, Training
from bnnbench_plugins.augmentations import CropFlip
from bnnbench_plugins.binarizers import Sign, Stochastic
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.distillation import attention, distribution
from bnnbench_plugins.losses import cross_entropy, squared_hinge
from bnnbench_plugins.real import real

EPOCHS, SIZE, N = 4, 11, 37  #: 3 steps of 11 examples an epoch, 5 and 6 in each of two processes
NORMS = "norms"
RUN = Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, EPOCHS, SIZE)


class Asking(SGD):
    """SGD with two gradients for a step, the second half as far if the loss has grown."""

    @torch.no_grad()
    def step(self, closure):
        first = closure()
        self._move(1.0)
        self._move(0.5 if closure() > first else 1.0)

    def _move(self, share):
        for group in self.param_groups:
            for latent in group["params"]:
                latent.sub_(latent.grad, alpha=share * group["lr"])


def network(activation=None, dropout=0.3, seed=5):
    """Both kinds of binary layers and of normalizations, dropout on maps and on rows."""
    with RandomState(seed).in_force():
        layers = {
            "conv": BinaryConv2d(1, 4, 3, padding=1, bias=False),
            "norm1": nn.BatchNorm2d(4),
            "activation": activation or nn.ReLU(),
            "dropout1": nn.Dropout(dropout),
            "flatten": nn.Flatten(),
            "dense": BinaryLinear(
                64, 8, bias=False
            ),  # by rounding alone would a bias before a norm move
            "norm2": nn.BatchNorm1d(8, affine=False, momentum=None),
            "tanh": nn.Tanh(),
            "dropout2": nn.Dropout(dropout),
            "last": nn.Linear(8, 3),
        }
        model = nn.Sequential()
        for name, layer in layers.items():
            model.add_module(name, layer)
    return model.double()


def spared(model):
    """The network with a parameter that takes no part."""
    model.register_parameter("spare", nn.Parameter(torch.ones(2).double()))
    return model


def labelled_pixels():
    """A network with a class for each pixel."""
    with RandomState(5).in_force():
        layers = (
            BinaryConv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 3, 1),
        )
        return nn.Sequential(*layers).double()


def split(n, seed, augmentation=None, *, pixels=False):
    """Images of 4 x 4 with a bright column, or pixels the fewer of which are labelled the later."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (n,), generator=generator)
    inputs = 0.7 * torch.randn(n, 1, 4, 4, generator=generator, dtype=torch.double)
    inputs[torch.arange(n), 0, :, targets] += 1.0
    if pixels:
        targets = torch.randint(3, (n, 4, 4), generator=generator)
        hidden = torch.rand(n, 4, 4, generator=generator) < torch.linspace(0, 1.2, n).view(n, 1, 1)
        targets[hidden] = -100
    return Split(inputs, targets, augmentation)


def data(augmentation=None, *, pixels=False):
    """A small data set."""
    sizes = (N, 13, 13)
    train, *judged = (split(n, n + k, pixels=pixels) for k, n in enumerate(sizes))
    task = "segmentation" if pixels else "classification"
    return Dataset(replace(train, augmentation=augmentation), *judged, classes=3, task=task)


def asking():
    phase = Phase(Scheduled(Stochastic), Scheduled(Asking, lr=0.5), Scheduled(SGD, lr=0.05))
    return Method("asking", (phase,))


def taught(loss, **options):
    """A loss that learns from a network with other weights, and the student."""
    student = network()
    given = {"student": student} if "layers" in options else {}
    return student, loss(teacher=network(seed=6), **given, **options)


#: method, (network, loss), data
CASES = {
    "real": lambda: (real(lr=1e-2), (network(), cross_entropy()), data()),
    "stochastic": lambda: (
        binaryconnect(binarization="stochastic", lr=1e-2, draws=3),
        (network(), squared_hinge()),
        data(CropFlip(torch.zeros(1, dtype=torch.double), 1)),
    ),
    "bop": lambda: (
        bop(gamma=0.1, tau=1e-6, stages=1, rescale=False),
        (network(BinaryActivation(Sign())), squared_hinge()),
        data(),
    ),
    "diverging": lambda: (real(lr=1e300), (network(), cross_entropy()), data()),
    "bmd": lambda: (bmd(lr=0.1), (network(), cross_entropy()), data()),
    "bnew": lambda: (bnew(relax=0.25, lock=1 / 3), (network(), cross_entropy()), data()),
    "activations that draw": lambda: (
        binaryconnect(lr=1e-2),
        (network(BinaryActivation(Stochastic())), squared_hinge()),
        data(),
    ),
    "distillation": lambda: (real(lr=1e-2), taught(distribution), data()),
    "attention": lambda: (
        binaryconnect(lr=1e-2),
        taught(attention, layers=("norm1",)),
        data(),
    ),
    "closure": lambda: (asking(), (spared(network(dropout=0.1)), cross_entropy()), data()),
    "pixels": lambda: (
        binaryconnect(lr=1e-2),
        (labelled_pixels(), cross_entropy()),
        data(pixels=True),
    ),
}


def begun(case, **settings):
    """A training of a case."""
    method, (model, loss), examples = CASES[case]()
    asked = Settings(EPOCHS, SIZE, 0, test=True, **settings)
    return Training(model, method, examples, loss, asked, [FlipProbe()])


def joins(case, epoch, place):
    """Follow a training of the tests' own process from a checkpoint on."""
    from bnnbench.parallel.lockstep import joined

    training = begun(case)
    training.probes = []
    if epoch:
        training.load(Checkpoints(place.parent).training(RUN) | {"probes": []})
    with joined(training, 1, 2, str(place)):
        training.follow()


#: shape of a batch, layer, and the type of its numbers
LAYERS = {
    "rows": ((7, 5), lambda: nn.BatchNorm1d(5), torch.double),
    "lines": ((7, 5, 4), lambda: nn.BatchNorm1d(5, momentum=None), torch.double),
    "images": ((7, 3, 4, 2), lambda: nn.BatchNorm2d(3, eps=0.1, momentum=0.4), torch.double),
    "plain": ((7, 3, 4, 2), lambda: nn.BatchNorm2d(3, affine=False), torch.double),
    "forgetful": ((7, 5), lambda: nn.BatchNorm1d(5, track_running_stats=False), torch.double),
    "single": ((7, 3, 4, 2), lambda: nn.BatchNorm2d(3), torch.float),
    "half": ((7, 3, 4, 2), lambda: nn.BatchNorm2d(3), torch.bfloat16),
}


def batch(name):
    """A random layer, a batch that is far from 0, and a random gradient at its output."""
    shape, make, kind = LAYERS[name]
    generator = torch.Generator().manual_seed(3)
    x, grad = (torch.randn(shape, generator=generator, dtype=torch.double) for _ in range(2))
    layer = make().to(torch.float if kind is torch.bfloat16 else kind)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(torch.linspace(0.5, 2.0, len(parameter)) - number)
    return layer, (2 * x + 5).to(kind), grad.to(kind)


def normalized(name, rank):
    """What two steps of a layer give in a process with its part of the batch, as numpy arrays."""
    from bnnbench.parallel.normalization import WholeNorm
    from bnnbench.parallel.parts import Parts

    layer, x, grad = batch(name)
    parts = Parts(rank, 2)
    whole = WholeNorm(layer, parts)
    found = {}
    for step in range(2):
        with parts.of(len(x)) as mine:
            own = (x[mine] * (step + 1)).requires_grad_()
            y = layer(own)
            y.backward(grad[mine])
        found |= {f"y{step}": y.detach(), f"dx{step}": own.grad}
    found |= {f"d{name}": p.grad for name, p in layer.named_parameters()}
    found |= dict(layer.named_buffers())
    whole.remove()
    return {name: t.double().numpy() for name, t in found.items()}


def normalizes(place, rank):
    """Save what all layers give in a process."""
    from torch import distributed

    store = distributed.FileStore(str(place), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for name in LAYERS:
        np.savez(place.parent / f"{name}-{rank}.npz", **normalized(name, rank))
    distributed.destroy_process_group()


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        case, epoch, place = line.rstrip("\n").split("\t")
        if case == NORMS:
            normalizes(Path(place), 1)
        else:
            joins(case, int(epoch), Path(place))
        print("done", flush=True)


if __name__ == "__main__":
    main()

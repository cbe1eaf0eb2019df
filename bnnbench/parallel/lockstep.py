"""One training in several processes: the same steps in all of them, each on its part of a batch.

Every process has the whole network, its latents and its optimizers, reads every batch and draws
what one process alone would draw. Of a batch of B it takes its part
(:mod:`bnnbench.parallel.parts`); normalizations (:mod:`bnnbench.parallel.normalization`) and draws
are of the whole batch.

    L = sum_r s_r L_r       s_r: the part's share of the batch's labels
    dL/dw = sum_r s_r dL_r/dw

One exchange a step sums all gradients, and the loss, in one flat buffer, whose pieces are then the
gradients: they are copied once. All processes do the same with them. After every epoch it is made
sure that they hold the same numbers.

departs from one process by rounding alone: sums over a batch are taken part by part; from torch's
DistributedDataParallel, which copies gradients in and out of such buffers unless they stay where
they are (ours are None between steps), and outlives its gloo group: the end of both may wait for
the interpreter's lock for ever (torch 2.13), above all where a process was lost
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]

from bnnbench.errors import PluginError
from bnnbench.parallel.division import WAY_OUT, divided, few
from bnnbench.parallel.normalization import WholeNorm, plain_norms
from bnnbench.parallel.parts import Parts, WholeDraws, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from bnnbench.training import Training

#: how long the first process waits for the others, which are at the same step, and they for it,
#: who also judges and writes
PATIENCE, THEIRS = timedelta(minutes=5), timedelta(days=1)
INTERFACE = "GLOO_SOCKET_IFNAME"  #: where gloo is told over which interface processes meet


class Parallel:
    """This process's side of a training; it is number ``rank`` of ``size``, the first is 0."""

    def __init__(self, training: Training, rank: int, size: int) -> None:
        self.training, self.parts = training, Parts(rank, size)
        settings, model = training.settings, training.model
        batch = few(training.examples, settings.batch_size, size)
        drawing = divided(model, training.loss, batch, size)
        self.changed: list[WholeNorm | WholeDraws] = [
            *(WholeNorm(norm, self.parts) for norm in plain_norms(model)),
            *(WholeDraws(layer, self.parts) for layer in drawing),
        ]

    def gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch; its gradient is left at the weights, in all processes the same.

        It is added to what is there, which is a sum over all processes already.
        """
        earlier = self._taken()
        with self.parts.of(len(targets)) as mine:
            part = targets[mine]
            value = self.training.loss_of(inputs[mine], part)
            weighted = (value * share(part, targets)).to(value.dtype)
            weighted.backward()
        loss = self._summed(weighted.detach())
        for parameter, gradient in earlier:
            parameter.grad = gradient if parameter.grad is None else gradient + parameter.grad
        return loss

    def _taken(self) -> list[tuple[nn.Parameter, Tensor]]:
        """The gradients at parameters, by parameter, which have none from here on."""
        found = [(p, p.grad) for p in self.training.model.parameters() if p.grad is not None]
        for parameter, _ in found:
            parameter.grad = None
        return found

    def _summed(self, loss: Tensor) -> Tensor:
        """The sum of the losses; every gradient becomes a piece of the buffer of all sums."""
        found = self._taken()
        lying = [gradient.as_strided((gradient.numel(),), (1,)) for _, gradient in found]
        flat = torch.cat([*lying, loss.view(1)])
        distributed.all_reduce(flat)
        sums: tuple[Tensor, ...] = flat.split([*map(len, lying), 1])
        *pieces, total = sums
        for (parameter, gradient), piece in zip(found, pieces, strict=True):
            as_it_lay = piece.as_strided(gradient.shape, gradient.stride())
            parameter.grad = as_it_lay.to(parameter.dtype)
        return total.view(())

    def agree(self) -> None:
        """Make sure that all processes hold the same numbers.

        Raises:
            PluginError: they do not; the first that differ are named.
        """
        found = self._numbers()
        mine = torch.stack([_digest(tensor) for tensor in found.values()])
        mine = mine.to(self.training.settings.device)
        theirs = [torch.empty_like(mine) for _ in range(self.parts.size)]
        distributed.all_gather(theirs, mine)
        for rank, other in enumerate(theirs):
            if not torch.equal(other, theirs[0]):
                name = list(found)[int((other != theirs[0]).nonzero()[0])]
                raise PluginError(
                    "all processes of a run must hold the same numbers, but in epoch"
                    f" {self.training.epoch + 1} {name} differ in processes 1 and {rank + 1};"
                    f" {WAY_OUT}"
                )

    def leave(self) -> None:
        """Let the network be as it was."""
        for changed in self.changed:
            changed.remove()

    def _numbers(self) -> dict[str, Tensor]:
        """All that the rest of the training depends on but the optimizers' memory, by its name."""
        training = self.training
        latents, network = training.latents.tensors, training.model.state_dict()
        chance = [torch.get_rng_state()]
        if training.settings.device.startswith("cuda"):
            chance.append(torch.cuda.get_rng_state(training.settings.device))
        return {
            "the random numbers": torch.cat(chance),
            **{f"the latents of {name!r}": tensor for name, tensor in latents.items()},
            **{f"the values of {name!r}": tensor for name, tensor in network.items()},
        }


@contextmanager
def joined(training: Training, rank: int, size: int, place: str) -> Iterator[None]:
    """Train in lockstep with other processes, which meet at a file, until the block ends.

    Raises:
        RuntimeError: a process does not come, or is lost on the way.
    """
    device = training.settings.device
    if ":" in device:  # NCCL takes the current one
        torch.cuda.set_device(device)
    told_by = sys.excepthook  # torch puts one around it that names the rank, and leaves it there
    with _on_loopback():
        distributed.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo",
            store=FileStore(place, size),
            rank=rank,
            world_size=size,
            timeout=THEIRS if rank else PATIENCE,
        )
    try:
        training.parallel = Parallel(training, rank, size)
        with training.random.in_force():
            training.parallel.agree()
        yield
    finally:
        if training.parallel is not None:
            training.parallel.leave()
        training.parallel = None
        distributed.destroy_process_group()
        sys.excepthook = told_by


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let processes of this machine meet where nobody else can listen."""
    before = os.environ.get(INTERFACE)
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if before is None and names:
        os.environ[INTERFACE] = names[0]
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(INTERFACE, None)


def _digest(tensor: Tensor) -> Tensor:
    """Eight bytes that differ where a number does; what is not a number is like any other such."""
    tensor = torch.where(tensor.isnan(), 0, tensor.detach())
    data = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data
    whole = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)
    return torch.tensor(whole)

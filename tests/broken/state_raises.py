"""An optimizer that cannot tell its state."""

import torch

from bnnbench import hookimpl


class Secretive(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def state_dict(self):
        raise NotImplementedError("it is a secret")


@hookimpl
def register_optimizers(register):
    register("secretive", Secretive)

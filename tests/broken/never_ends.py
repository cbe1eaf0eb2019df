"""An optimizer whose step never ends."""

import torch

from bnnbench import hookimpl


class Endless(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        while True:
            pass


@hookimpl
def register_optimizers(register):
    register("endless", Endless)

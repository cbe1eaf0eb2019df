"""An optimizer with a hyperparameter that has no default."""

import torch

from bnnbench import hookimpl


class Needy(torch.optim.SGD):
    def __init__(self, params, lr: float, tau: float):
        super().__init__(params, lr=lr)


@hookimpl
def register_optimizers(register):
    register("needy", Needy)

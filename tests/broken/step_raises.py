"""An optimizer whose third step raises."""

import torch

from bnnbench import hookimpl


class Tired(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 3:
            raise ArithmeticError("tired")
        return super().step(closure)


@hookimpl
def register_optimizers(register):
    register("tired", Tired)

"""An optimizer that keeps every gradient that it has seen."""

import torch

from bnnbench import hookimpl


class Hoarder(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, {"lr": lr})
        self.seen = []

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self.seen.append(w.grad.clone())
                    w.add_(w.grad, alpha=-group["lr"])


@hookimpl
def register_optimizers(register):
    register("hoarder", Hoarder)

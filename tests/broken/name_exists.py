"""A plugin that takes a name that is taken."""

import torch

from bnnbench import hookimpl


@hookimpl
def register_optimizers(register):
    register("bop", torch.optim.SGD)

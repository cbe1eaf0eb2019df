"""A plugin whose hook raises."""

import torch

from bnnbench import hookimpl


@hookimpl
def register_optimizers(register):
    register("half", torch.optim.SGD)
    raise LookupError("no licence for this machine")

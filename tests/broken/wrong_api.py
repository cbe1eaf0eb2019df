"""A plugin for another plugin API."""

import torch

from bnnbench import hookimpl

requires_api = "2.0"


@hookimpl
def register_optimizers(register):
    register("later", torch.optim.SGD)

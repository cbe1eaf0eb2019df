"""An optimizer that is none."""

from bnnbench import hookimpl


class Plain:
    def __init__(self, params, lr: float = 0.1):
        self.param_groups = list(params)

    def step(self):
        pass


@hookimpl
def register_optimizers(register):
    register("plain", Plain)

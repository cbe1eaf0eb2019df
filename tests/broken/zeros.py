"""A binarizer whose weights can be 0."""

import torch

from bnnbench import hookimpl
from bnnbench.interfaces import InferenceMode


class TorchSign:
    def forward(self, latent):
        return torch.sign(latent)

    def backward(self, latent, grad):
        return grad

    def inference_modes(self):
        return {"binary": InferenceMode(torch.sign)}


@hookimpl
def register_binarizers(register):
    register("torch-sign", TorchSign)

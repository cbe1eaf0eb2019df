"""The settings of batch normalization, and the one that learns no scale.

    y = gamma (x - mean) / sqrt(variance + eps) + beta        gamma = 1, fixed, in Bop's network

source: Ioffe and Szegedy (2015); for the scale, Bop's public code
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from annotated_types import Gt, Le
from torch import nn

Momentum = Annotated[float, Gt(0), Le(1)]  #: the weight of a new batch in the running statistics
Epsilon = Annotated[float, Gt(0)]  #: what is added to the variance

Network = TypeVar("Network", bound=nn.Module)


def without_scale(network: Network) -> Network:
    """Return the network, no normalization of which has a gamma any more; beta stays.

    >>> dict(without_scale(nn.BatchNorm1d(3)).named_parameters()).keys()
    dict_keys(['bias'])
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_parameter("weight", None)
    return network

r"""Real weights: the baseline that every binary method is measured against.

    w <- Adam(w, dL/dw)        lr from lr to lr_end by the same factor each epoch

The network computes with w itself and is judged with it. Activations and dropout belong to the
architecture (``activation = "relu"`` or ``"sign"``, ``dropout = 0.5``), so that every method can
be compared with real weights under the same activations and the same dropout.

stored: w        computed with: w        moved by: Adam        judged with: w ("real")
source: the "no regularizer" and "dropout" rows of BinaryConnect (Courbariaux et al., 2015), table 2
"""

from __future__ import annotations

from bnnbench.methods import Method, Phase
from bnnbench.schedules import Geometric, Scheduled
from bnnbench_plugins.binarizers import Identity
from bnnbench_plugins.optimizers import LearningRate, LearningRateEnd, adam


def real(*, lr: LearningRate = 1e-3, lr_end: LearningRateEnd = 3e-6) -> Method:
    """Train real weights with Adam.

    Args:
        lr: learning rate of the first epoch (BinaryConnect's MNIST script: 1e-3).
        lr_end: where the learning rate goes (3e-6).
    """
    moved = adam(Geometric(lr, lr_end))
    return Method("real", (Phase(Scheduled(Identity), moved, moved),), judged="real")

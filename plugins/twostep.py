r"""The two steps of ReActNet (Liu et al., 2020): binary activations, then binary weights too.

    1. binary activations    w_b = w                 Adam with weight decay
    2. binary weights        w_b = alpha sign(w)     Adam, fresh, without it

    alpha = mean |w| of each filter      dL/dw = dL/dw_b 1{|w| <= 1}, without alpha
    lr    = lr_0 (1 - (e + 1)/E)         in each step from the start again; 0 in its last epoch

Which activations are binary is the architecture's affair: ``activation = "rsign"`` is ReActNet's.
Each step needs a few epochs: a step of one epoch has a learning rate of 0, but for
``decay = "step"``.

stored: w in R    computed with: w, then alpha sign w    moved by: Adam    judged with: alpha sign w
source: the public code of ReActNet: 1.25e-3, weight decay 1e-5, then 0, as many epochs for each
step; its gradient is Bi-Real Net's, which leaves alpha out
departs from the code: it decays every parameter of four dimensions or with "conv" in its name; here
the weights of the binary layers decay and no other parameter does. sign(0) is +1, there 0. The
loss is the study's choice, there it is distillation without labels
tune: lr; share
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch.optim import Adam

from bnnbench.methods import Method, Phase
from bnnbench.schedules import Linear, LinearEpochs, Scheduled
from bnnbench.spaces import Float
from bnnbench_plugins.binarizers import Identity
from bnnbench_plugins.optimizers import LearningRate, adam
from bnnbench_plugins.xnor import Scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.interfaces import InferenceMode
    from bnnbench.schedules import Schedule


class NotYetBinary(Identity):
    """The network computes with real weights, and is judged as if they were binarized now."""

    def inference_modes(self) -> Mapping[str, InferenceMode]:
        """Return "binary" (alpha sign w) and "real" (the latents)."""
        return Scaled().inference_modes()


def two_step(
    *,
    lr: LearningRate = 1.25e-3,
    weight_decay: Annotated[float, Ge(0)] = 1e-5,
    share: Annotated[float, Gt(0), Lt(1), Float(0.1, 0.9)] = 0.5,
    decay: Literal["epoch", "step"] = "epoch",
) -> Method:
    """Train with binary activations first, then with binary weights too.

    Args:
        lr: what the learning rate of each step falls from (ReActNet-A, batches of 256: 1.25e-3).
        weight_decay: of the binary layers' weights in the first step (1e-5).
        share: of the epochs, the first step's (128 of 256: 0.5).
        decay: the learning rate falls linearly by epochs, to 0 before the last (the public code),
            or by steps, which wastes no epoch of a short training.
    """
    schedule: Schedule = LinearEpochs(lr) if decay == "epoch" else Linear(lr, 0.0)
    first = Phase(
        name="binary activations",
        binarizer=Scheduled(NotYetBinary),
        binary=Scheduled(Adam, lr=schedule, weight_decay=weight_decay, fused=True),
        real=adam(schedule),
        share=share,
        selectable=False,
    )
    second = Phase(
        name="binary weights",
        binarizer=Scheduled(Scaled, gradient="detached"),
        binary=adam(schedule),
        real=adam(schedule),
        share=1 - share,
    )
    return Method("two-step", (first, second))

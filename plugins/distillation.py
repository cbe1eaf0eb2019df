r"""Distillation: losses that hold a teacher, so that every method can be taught.

z_s, z_t: the outputs of student and teacher for the same inputs; q(z) = softmax(z); B: the number
of targets, which are examples, or pixels that have a label.

    distribution    -1/B sum_i sum_k q(z_t)_ik log q(z_s)_ik         no label, no temperature
                    gradient at z_s: (q(z_s) - q(z_t)) / B

    hinton          (1 - w) CE(z_s, labels) + w T^2 KL(q(z_t/T) || q(z_s/T))
                    gradient at z_s: ((1 - w) (q(z_s) - y) + w T (q(z_s/T) - q(z_t/T))) / B

    attention       c CE(z_s, labels) + d T^2 KL(q(z_t/T) || q(z_s/T)) + a sum_l MSE(M_s^l, M_t^l)
                    M: mean over channels of the layer's squared output, one number for each place,
                    divided by the example's largest; MSE: mean over examples and places

The teacher is frozen: in evaluation mode (its normalization uses running statistics, which stay as
they are, whatever the batch), without gradient, judging the very inputs that the student sees.

Bop's flip test depends on the scale of the loss: k times the loss is tau / k, so that a weight of
a loss is a second tau. The gradient of ``distribution`` is about that of the labels where the
teacher is sure; T^2 keeps that of ``hinton`` in proportion. The weights of ``attention`` add up to
more than 1: tune tau anew. Methods that move by Adam hardly notice.

source: distribution, ReActNet (Liu et al., 2020) and the public code of BNEW; hinton, Hinton,
Vinyals and Dean (2015), sections 2 and 4; attention, Real-to-Binary (Martinez et al., 2020) with
the weights of larq-zoo's training of it
departs from BNEW's code, which leaves the CIFAR teacher in training mode: there its statistics
drift, and its outputs depend on the other inputs of the batch; from the article of Real-to-Binary,
which divides a map by its Euclidean norm (larq-zoo, as here, by the maximum); from larq-zoo, which
takes the mean over the layers where the sum is taken here (its 30 is 10 for three layers), and
where a map of zeros is not a number (here it stays zeros)
tune: of hinton, weight and temperature; of attention, weight and distribution_weight
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch.nn import functional

from bnnbench.errors import UsageError, suggestion
from bnnbench.spaces import Float
from bnnbench_plugins.losses import count, cross_entropy, total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from bnnbench.interfaces import Loss

Temperature = Annotated[float, Gt(0), Float(1, 20, log=True)]
Layers = Annotated[tuple[str, ...], MinLen(1)]


def distribution(*, teacher: nn.Module) -> Loss:
    """The cross-entropy with the teacher's distribution, and nothing else: no label, T = 1.

    Args:
        teacher: who teaches; the harness supplies it.
    """
    judge = Teacher(teacher)

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        values = -judge(inputs).softmax(1) * outputs.log_softmax(1)
        return total(values, targets) / count(targets)

    return loss


def hinton(
    *,
    teacher: nn.Module,
    weight: Annotated[float, Ge(0), Le(1), Float(0.1, 1)] = 0.5,
    temperature: Temperature = 2.0,
) -> Loss:
    """The labels and the teacher's softened distribution, weighted.

    Args:
        teacher: who teaches; the harness supplies it.
        weight: w, the teacher's part; the labels have the rest (speech, section 4: 0.5).
        temperature: T, by which both outputs are divided for the teacher's part (section 4: 2).
    """
    judge, labels = Teacher(teacher), cross_entropy()

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        hard = labels(outputs, inputs, targets)
        soft = temperature**2 * divergence(outputs, judge(inputs), targets, temperature)
        return (1 - weight) * hard + weight * soft

    return loss


def attention(
    *,
    teacher: nn.Module,
    student: nn.Module,
    layers: Layers = ("pool2", "pool4", "pool6"),
    weight: Annotated[float, Ge(0), Float(0.3, 100, log=True)] = 10.0,
    distribution_weight: Annotated[float, Ge(0), Float(0.1, 10, log=True)] = 3.0,
    labels_weight: Annotated[float, Ge(0)] = 1.0,
    temperature: Temperature = 1.0,
) -> Loss:
    """The labels, the teacher's distribution, and where in the image the teacher looks.

    The attention is matched in training alone. Where the network is judged, the outputs of many
    batches are gathered before their loss is asked for, when no layer's output is left: the loss
    on validation and test lacks this term, and does not compare with that of training.

    Args:
        teacher: who teaches; the harness supplies it.
        student: the network in training; the harness supplies it.
        layers: names of layers that both networks have, their maps of one size; the number of
            channels may differ (those of binarynet; larq-zoo has the outputs of its blocks).
        weight: a, of the matching (larq-zoo: 30 times the mean over the layers, which is 10 times
            the sum over three; 0 in its last stage, where the weights are binary).
        distribution_weight: d, of the teacher's distribution (larq-zoo: 3; 0.8 in its last stage).
        labels_weight: c, of the labels (larq-zoo: 1).
        temperature: T, as in hinton (larq-zoo: 1).

    Raises:
        UsageError: a layer that is not there; in training, one that has no map, or maps of
            different sizes.
    """
    judge, labels = Teacher(teacher), cross_entropy()
    shown = Taps(teacher, "teacher", layers, lambda: True)
    looked = Taps(student, "student", layers, lambda: learns(student))

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        taught = judge(inputs)
        theirs = shown.read(taught)
        hard = labels(outputs, inputs, targets)
        soft = temperature**2 * divergence(outputs, taught, targets, temperature)
        told = labels_weight * hard + distribution_weight * soft
        if not learns(student):
            return told
        return told + weight * matching(looked.read(outputs), theirs, looked.known)

    return loss


class Teacher:
    """A network that is only asked: frozen, in evaluation mode, without gradient."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the teacher's outputs."""
        outputs: Tensor = self.network.eval()(inputs)  # eval: someone may have set it to train
        return outputs


def learns(network: nn.Module) -> bool:
    """Whether the network learns from a pass through it at this moment."""
    return network.training and torch.is_grad_enabled()


class Taps:
    """The outputs of some layers in a network's last pass, until they are read once.

    They are kept only in passes that are ``wanted``. A copy of the network has no taps.

    Raises:
        UsageError: the network, called ``owner``, lacks a layer.
    """

    def __init__(
        self, network: nn.Module, owner: str, layers: Sequence[str], wanted: Callable[[], bool]
    ) -> None:
        self.owner, self.layers, self.wanted = owner, layers, wanted
        self.found: dict[str, Tensor] = {}
        modules = {name: module for name, module in network.named_modules() if name}
        self.known = list(modules)
        for name in layers:
            if name not in modules:
                raise UsageError(f"the {owner} has no layer {name!r}{suggestion(name, modules)}")
        for name in layers:
            modules[name].register_forward_hook(Tap(self, name))
        network.register_forward_hook(Tap(self, ""))

    def keep(self, name: str, output: Tensor) -> None:
        """Keep what a layer gives, the whole network's output under no name."""
        if self.wanted():
            self.found[name] = output

    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the layers' outputs in the pass that gave ``outputs``, and forget them.

        Raises:
            ValueError: the last pass was another one.
            UsageError: a layer took no part, or its output has no places.
        """
        found, self.found = self.found, {}
        if found.pop("", None) is not outputs:
            raise ValueError(f"the loss needs the outputs of the {self.owner}'s last pass")
        for name in self.layers:
            if name not in found:
                raise UsageError(f"layer {name!r} of the {self.owner} takes no part in its outputs")
            if (output := found[name]).dim() < 3:
                raise UsageError(
                    f"layer {name!r} of the {self.owner} must give a map (batch, channels, places),"
                    f" got {tuple(output.shape)}; its layers: {', '.join(self.known)}"
                )
        return found


class Tap:
    """A forward hook that hands a layer's output on; a copy of it does nothing."""

    def __init__(self, taps: Taps | None = None, name: str = "") -> None:
        self.taps, self.name = taps, name

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Hand the output on."""
        if self.taps is not None:
            self.taps.keep(self.name, output)

    def __reduce__(self) -> tuple[type[Tap], tuple[()]]:
        """Leave what is kept out of copies and files of the network."""
        return Tap, ()


def divergence(outputs: Tensor, taught: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(taught/T) || softmax(outputs/T)), the mean over the targets."""
    student = (outputs / temperature).log_softmax(1)
    teacher = (taught / temperature).log_softmax(1)
    values = functional.kl_div(student, teacher, reduction="none", log_target=True)
    return total(values, targets) / count(targets)


def attention_map(features: Tensor) -> Tensor:
    """Return where a layer looks: (batch, places), the largest of each example 1.

    >>> attention_map(torch.tensor([[[[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]]))
    tensor([[0.5000, 0.0000, 1.0000, 0.0000]])
    """
    raw = features.square().mean(1).flatten(1)
    return raw / raw.amax(1, keepdim=True).clamp_min(torch.finfo(raw.dtype).tiny)


def matching(mine: dict[str, Tensor], theirs: dict[str, Tensor], known: Sequence[str]) -> Tensor:
    """Return the mean squared differences of the attention maps, their sum over the layers.

    Raises:
        UsageError: two maps are not of one size; the ``known`` layers are named.
    """
    for name, features in mine.items():
        sizes = [" x ".join(map(str, f.shape[2:])) for f in (features, theirs[name])]
        if sizes[0] != sizes[1]:
            raise UsageError(
                f"the maps of {name!r} must be of one size, got {sizes[0]} (student) and {sizes[1]}"
                f" (teacher); the student's layers: {', '.join(known)}"
            )
    maps = [(attention_map(features), attention_map(theirs[n])) for n, features in mine.items()]
    return torch.stack([functional.mse_loss(*pair) for pair in maps]).sum()

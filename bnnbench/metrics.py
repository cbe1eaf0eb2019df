"""What is counted of a network's answers, by the task of the data set. All in percent.

    classification   accuracy        examples whose class has the largest output (top-1)
                     accuracy_top5   ... is among the five largest; with more than ten classes
    segmentation     accuracy        pixels whose class has the largest output
                     mean_iou        mean over the classes of TP / (TP + FP + FN)

A pixel whose target is :data:`UNLABELLED` does not count. The intersections over unions are those
of the whole split; a class that is neither there nor predicted has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from bnnbench.interfaces import Task

UNLABELLED = -100  #: torch's word for a target that no loss looks at
FEW = 10  #: with so many classes or fewer the best five say nothing

#: how people call a metric, by task; the first is the one to choose by
LABELS: Mapping[Task, Mapping[str, str]] = {
    "classification": {"accuracy": "accuracy", "accuracy_top5": "top-5 accuracy"},
    "segmentation": {"accuracy": "pixel accuracy", "mean_iou": "mean IoU"},
}

#: the metrics beside accuracy, and what people call them
OTHERS = {m: label for labels in LABELS.values() for m, label in labels.items() if m != "accuracy"}


def accuracy_of(kinds: Iterable[Task]) -> str:
    """Return what people call the accuracy of such tasks.

    >>> accuracy_of(["segmentation", "segmentation"]), accuracy_of([])
    ('pixel accuracy', 'accuracy')
    """
    return " / ".join(dict.fromkeys(LABELS[kind]["accuracy"] for kind in kinds)) or "accuracy"


class Tally(Protocol):
    """Counts over the batches of a split."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: outputs (batch, classes, ...), integer targets (batch, ...)."""
        ...

    def metrics(self) -> Mapping[str, Any]:
        """Return the metrics of all that was counted, by name: numbers that lie on the device."""
        ...


class Classification:
    """The shares of examples whose class has the largest, and one of the five largest, outputs."""

    def __init__(self) -> None:
        self.count = 0
        self.right: dict[str, Tensor] = {}

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: outputs (batch, classes), targets (batch,)."""
        self.count += len(targets)
        self._add("accuracy", outputs.argmax(1) == targets)
        if outputs.shape[1] > FEW:
            best = outputs.topk(5, dim=1).indices
            self._add("accuracy_top5", (best == targets.unsqueeze(1)).any(1))

    def _add(self, name: str, right: Tensor) -> None:
        known = self.right.get(name)
        self.right[name] = right.sum() if known is None else known + right.sum()

    def metrics(self) -> dict[str, Tensor]:
        """Return "accuracy" and, with many classes, "accuracy_top5"."""
        return {name: 100 * right.double() / self.count for name, right in self.right.items()}


class Segmentation:
    """The confusion of the pixels' classes: rows are true, columns are predicted."""

    def __init__(self) -> None:
        self.confusion: Tensor | None = None

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: outputs (batch, classes, height, width), targets without the classes."""
        classes = outputs.shape[1]
        if self.confusion is None:
            self.confusion = targets.new_zeros(classes, classes)
        labelled = targets != UNLABELLED
        pairs = (targets * classes + outputs.argmax(1)).where(labelled, 0)
        # as large as the batch whatever it holds: to choose pixels, the host would wait for them
        self.confusion.view(-1).scatter_add_(0, pairs.flatten(), labelled.flatten().long())

    def metrics(self) -> dict[str, Any]:
        """Return "accuracy" (of pixels) and "mean_iou"; 0 if nothing was counted."""
        if self.confusion is None:
            return {"accuracy": 0.0, "mean_iou": 0.0}
        confusion = self.confusion
        both, count = confusion.diagonal().double(), confusion.sum()
        either = confusion.sum(0) + confusion.sum(1) - both
        overlap = both / either.clamp_min(1)
        iou = overlap.sum() / (either > 0).sum().clamp_min(1)
        return {"accuracy": 100 * (both.sum() / count.clamp_min(1)), "mean_iou": 100 * iou}


TALLIES: Mapping[Task, Callable[[], Tally]] = {
    "classification": Classification,
    "segmentation": Segmentation,
}

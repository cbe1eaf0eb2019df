"""A study in small: each training a share s of its length, everything else as it is.

    E' = max(1, floor(s E + 1/2))      epochs of a task, s E >= 1
    E' = 1,  N' = max(s E N, batch)    else: one epoch of N' of its N images

A run that others build on has the images of its task, so that where these are cut by N'/N its
epochs are s E/(N'/N), rounded likewise; of several tasks, the one that keeps most counts. A budget
in seconds is cut by s too. Trials, seeds, batches and hyperparameters stay: methods take budgets
and shares of training, not epochs, and fit themselves to a shorter one.

The images are cut by the data set's hyperparameter ``train``, as given or else its default. One
that has none is left at one epoch.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.errors import UsageError
from bnnbench.graph import bases
from bnnbench.runs import Part
from bnnbench.studies import Component
from bnnbench.studyfile import parse_study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.experiments import Workbench
    from bnnbench.studies import MethodSpec, Study, Task

TRAIN = "train"  #: the hyperparameter of a data set that says how many images there are to train


class Cut(NamedTuple):
    """What is left of a training: whole epochs, and the share of the images that each sees."""

    epochs: int
    kept: Fraction = Fraction(1)


def cut(epochs: Fraction) -> Cut:
    """Return whole epochs that are as long as ``epochs``, however few these are.

    >>> cut(Fraction(5, 2)), cut(Fraction(1, 4))
    (Cut(epochs=3, kept=Fraction(1, 1)), Cut(epochs=1, kept=Fraction(1, 4)))
    """
    return Cut(max(1, floor(epochs + Fraction(1, 2))), min(epochs, Fraction(1)))


def scaled(study: Study, scale: float, workbench: Workbench) -> Study:
    """Return the study with each training cut to a share of its length, and ``scale`` in it.

    Args:
        study: one whose names the workbench knows, not yet scaled: a rounded number of epochs
            cannot be scaled again as exactly.
        scale: more than 0, at most 1.
        workbench: knows the data sets' hyperparameters and the methods' phases.

    Raises:
        UsageError: the study has been scaled already, or a method has more phases than it would
            have epochs; the smallest scale is named.
    """
    if study.scale != 1:
        raise UsageError(
            f"a study is scaled once, this one has scale = {study.scale:g}; scale the one that it"
            " was made from"
        )
    by, cuts = Fraction(str(scale)), _cuts(study, scale, workbench)
    values = study.model_dump() | {"scale": scale}
    values["tasks"] = [_task(old, cuts[old["name"]], workbench) for old in values["tasks"]]
    for name, run in values["runs"].items():
        if run["epochs"]:
            run["epochs"] = cut(by * run["epochs"] / _kept(study, name, cuts)).epochs
    if study.protocol.seconds:
        values["protocol"]["seconds"] = study.protocol.seconds * scale
    small = parse_study(values, "the scaled study")
    _check_phases(study, small, workbench)
    return small


def told(before: Study, after: Study, workbench: Workbench) -> list[str]:
    """Return what scaling cut, a line each, and where it could not cut as much as was asked."""
    by, cuts = Fraction(str(after.scale)), _cuts(before, after.scale, workbench)
    lines = [_told_task(task, by, cuts[task.name], workbench) for task in before.tasks]
    for name, run in before.runs.items():
        if run.epochs:
            kept = _kept(before, name, cuts)
            asked = by * run.epochs / kept
            why = _too_many(asked * kept, cut(asked).epochs * kept, "its images are its task's")
            lines.append(f"run {name!r}: {run.epochs} -> {cut(asked).epochs} epochs{why}")
    was, now = before.protocol.seconds, after.protocol.seconds
    return [*lines, *([f"tuning: {was:g} -> {now:g} seconds"] if was and now else [])]


def images(workbench: Workbench, dataset: Component) -> int | None:
    """Return how many images a data set trains on by its hyperparameter, None if it has none."""
    known = workbench.hyperparameters("datasets", dataset.name).get(TRAIN)
    if known is None or not known.is_whole:
        return None
    count = workbench.complete("datasets", dataset.name, dataset.hyperparameters)[TRAIN]
    return int(count)


def _cuts(study: Study, scale: float, workbench: Workbench) -> dict[str, Cut]:
    """What is left of each task."""
    by = Fraction(str(scale))  # 0.1 is a tenth, which no binary fraction is
    return {task.name: _cut_task(study, task, by, workbench) for task in study.tasks}


def _cut_task(study: Study, task: Task, by: Fraction, workbench: Workbench) -> Cut:
    """The epochs of a task, and the share of its images, at least a batch of them."""
    asked = cut(by * task.epochs)
    count = images(workbench, task.dataset)
    if count is None or asked.kept == 1:
        return asked._replace(kept=Fraction(1))
    batch = max([task.batch_size, *(run.batch_size or 1 for run in study.runs.values())])
    left = min(count, max(batch, floor(asked.kept * count + Fraction(1, 2))))
    return asked._replace(kept=Fraction(left, count))


def _task(values: dict[str, Any], cut: Cut, workbench: Workbench) -> dict[str, Any]:
    """A task's values with fewer epochs and, where these do not do, fewer images."""
    dataset = Component(**values["dataset"])
    count = images(workbench, dataset)
    if count is not None and cut.kept < 1:
        fewer = {TRAIN: int(cut.kept * count)}
        dataset = Component(name=dataset.name, hyperparameters={**dataset.hyperparameters, **fewer})
    return values | {"epochs": cut.epochs, "dataset": dataset.model_dump()}


def _kept(study: Study, run: str, cuts: dict[str, Cut]) -> Fraction:
    """The share of the images that a run sees, in that of its tasks that keeps most."""
    users = [task.name for task in study.tasks if run in _built_on(study, task)]
    return max(cuts[name].kept for name in users or cuts)


def _built_on(study: Study, task: Task) -> set[str]:
    """The names of all the runs that a task's methods build on, directly or not."""
    waiting = [name for method in study.methods for name in bases(method, task).values()]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            spec = study.runs[name]
            waiting += bases(spec, spec.on(task)).values()
    return found


def _check_phases(study: Study, small: Study, workbench: Workbench) -> None:
    """Refuse a cut that leaves a method fewer epochs than it has phases.

    Raises:
        UsageError: with the smallest scale that leaves all of them enough.
    """
    short = {
        _rounded_up(Fraction(2 * phases - 1, 2 * before)): (who, phases, after, before)
        for who, phases, after, before in _phases(study, small, workbench)
        if after < phases <= before
    }
    if short:
        least = max(short)
        who, phases, after, before = short[least]
        raise UsageError(
            f"the scale must be {least:g} or more: {who} has {phases} phases and needs as many"
            f" epochs, a scale of {small.scale:g} leaves {after} of {before}"
        )


def _phases(
    study: Study, small: Study, workbench: Workbench
) -> Iterator[tuple[str, int, int, int]]:
    """Who is trained, in how many phases, and the epochs after and before the cut."""
    for method in study.methods:
        count = _count(method, workbench)
        for old, new in zip(study.tasks, small.tasks, strict=True):
            yield f"{method.name!r} on {old.name!r}", count, new.epochs, old.epochs
    for name, run in study.runs.items():
        count = _count(run.as_method(name), workbench)
        for old, new in zip(study.tasks, small.tasks, strict=True):
            if name not in _built_on(study, old):
                continue
            after, before = small.runs[name].on(new).epochs, run.on(old).epochs
            yield f"run {name!r}", count, after, before


def _count(method: MethodSpec, workbench: Workbench) -> int:
    """How many phases a method has, with the hyperparameters that are not searched."""
    part = Part(method.component, method.hyperparameters)
    return len(workbench.build("methods", part).phases)


def _rounded_up(scale: Fraction) -> float:
    """A scale in three digits, not less.

    >>> _rounded_up(Fraction(1, 3)), _rounded_up(Fraction(1, 400))
    (0.334, 0.0025)
    """
    digits = 3
    while scale * 10**digits < 100:
        digits += 1
    return float(Fraction(-floor(-scale * 10**digits), 10**digits))


def _told_task(task: Task, by: Fraction, cut: Cut, workbench: Workbench) -> str:
    count = images(workbench, task.dataset)
    fewer = f", {count:,} -> {int(cut.kept * count):,} images" if count and cut.kept < 1 else ""
    reason = (
        f"{task.dataset.name!r} has no {TRAIN!r} to cut"
        if count is None
        else "a batch is the least"
    )
    why = _too_many(by * task.epochs, cut.epochs * cut.kept, reason)
    return f"task {task.name!r}: {task.epochs} -> {cut.epochs} epochs{fewer}{why}"


def _too_many(asked: Fraction, got: Fraction, reason: str) -> str:
    """That less than an epoch was asked for and more is left, but for what rounding makes of it."""
    if asked >= 1 or got <= asked * Fraction(101, 100):
        return ""
    return f" ({float(asked):.2g} epochs would be to scale, but {reason})"

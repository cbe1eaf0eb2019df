"""The graph of a study's runs: which of them start from others, and which learn from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.errors import suggestion

if TYPE_CHECKING:
    from bnnbench.studies import MethodSpec, RunSpec, Study, Task

START_FROM, TEACHER = "start_from", "teacher"


def bases(spec: MethodSpec | RunSpec, task: Task) -> dict[str, str]:
    """Return the names of the runs that a method on a task builds on: "start_from", "teacher".

    ``task`` is the one that the method is trained on, a run's own changes included.
    """
    named = {key: getattr(spec, key) or getattr(task, key) for key in (START_FROM, TEACHER)}
    return {key: name for key, name in named.items() if name}


def check_graph(study: Study) -> None:
    """Refuse names that are none of the study's runs, and runs that build on themselves.

    Raises:
        ValueError: in one line.
    """
    for name in study.runs:
        if name in [method.name for method in study.methods]:
            raise ValueError(f"the name {name!r} is that of a run and of a method; change one")
    for task in study.tasks:
        for method in study.methods:
            for name in bases(method, task).values():
                _walk(study, task, f"method {method.name!r} on {task.name!r}", name, ())
    for name in study.runs:
        _walk(study, study.tasks[0], "", name, ())


def _walk(study: Study, task: Task, where: str, name: str, path: tuple[str, ...]) -> None:
    if name not in study.runs:
        raise ValueError(
            f"{where} names the run {name!r}, which is not among [runs]"
            f"{suggestion(name, study.runs)}"
        )
    path = (*path, name)
    if name in path[:-1]:
        circle = " -> ".join(path[path.index(name) :])
        raise ValueError(
            f"runs must not build on themselves, got {circle} (one without a loss of its own has"
            " the task's loss and teacher)"
        )
    spec = study.runs[name]
    for base in bases(spec, spec.on(task)).values():
        _walk(study, task, f"run {name!r}", base, path)

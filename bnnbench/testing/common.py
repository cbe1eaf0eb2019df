"""What holds for every component that has hyperparameters, whatever its kind."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from bnnbench.errors import UsageError
from bnnbench.experiments import GIVEN
from bnnbench.spaces import Choice, hyperparameters
from bnnbench.testing.checks import COMMON, Failure, Subject, check

if TYPE_CHECKING:
    from bnnbench.spaces import Hyperparameter


def known(subject: Subject) -> dict[str, Hyperparameter]:
    """Return the hyperparameters of a component by name."""
    return hyperparameters(subject.target, GIVEN.get(subject.kind, ()))


@check(COMMON, "loads")
def signature(subject: Subject) -> None:
    """Its signature is the list of its hyperparameters, and each has a value.

    If not: give every parameter a default and an annotation that can be evaluated, and import what
    annotations name where the module is imported, not for type checkers only.
    """
    missing = [n for n, h in known(subject).items() if h.required and n not in subject.given]
    if missing:
        raise Failure(f"{_names(missing)} has no default, and the harness knows no value for it")
    _ = subject.values


@check(COMMON, "conforms")
def legal_defaults(subject: Subject) -> None:
    """Every default is a value that the harness would accept for its hyperparameter.

    If not: make default and annotation fit; a number is a number, bounds are those of
    Annotated[...], and a default lies in its own search space.
    """
    for name, hyper in known(subject).items():
        if hyper.required or not _plain(hyper.default):
            continue
        try:
            hyper.check(hyper.default, subject.name)
        except UsageError as error:
            raise Failure(f"the default of {name} is not legal: {error}") from None


@check(COMMON, "strict")
def explained(subject: Subject) -> None:
    """Its docstring says what it is, and under "Args:" what each hyperparameter is.

    If not: write the docstring; `bnnbench plugins show` prints it.
    """
    text = inspect.getdoc(subject.target) or ""
    if isinstance(subject.target, type):
        text += "\n" + (inspect.getdoc(subject.target.__init__) or "")  # type: ignore[misc]
    if not text.strip():
        raise Failure("it has no docstring")
    silent = [n for n in known(subject) if not re.search(rf"^\s*{n}\b.*:", text, re.MULTILINE)]
    if silent:
        raise Failure(f"its docstring says nothing of {_names(silent)}")


@check(COMMON, "strict")
def bounded(subject: Subject) -> None:
    """Every hyperparameter has a type, and every number says which values are legal.

    If not: write Annotated[float, Gt(0)], or Annotated[float, Float(1e-4, 1e-1, log=True)] with a
    search space.
    """
    for name, hyper in known(subject).items():
        if hyper.annotation is Any:
            raise Failure(f"{name} has no annotation")
        if hyper.annotation in (int, float):
            raise Failure(f"{name} is any {hyper.type_name}, without bounds or a search space")


def another(hyper: Hyperparameter, value: Any) -> Any:
    """Return another legal value of a hyperparameter, None where none is found."""
    for tried in _others(hyper, value):
        try:
            if tried != value and hyper.check(tried, hyper.name) == tried:
                return tried
        except UsageError:
            continue
    return None


def _others(hyper: Hyperparameter, value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        near = [value / 2, value * 2, 0.1, 0.5, 1.0, 2.0]
        return [int(each) for each in near] if isinstance(value, int) else near
    kinds = [hyper.annotation, *get_args(hyper.annotation)]
    named = [option for kind in kinds if get_origin(kind) is Literal for option in get_args(kind)]
    return named + (list(hyper.space.options) if isinstance(hyper.space, Choice) else [])


def _plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names))

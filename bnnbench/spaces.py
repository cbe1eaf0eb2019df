"""Hyperparameters, read from the signature of the function that takes them.

There is no second list: the default is the published value, ``Annotated[float, Float(...)]``
carries the search space, and whatever else pydantic understands (``annotated_types.Gt(0)``,
``Literal[...]``) bounds what is legal.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bnnbench.errors import PluginError, UsageError, suggestion


@dataclass(frozen=True)
class Float:
    """Search a real number between ``low`` and ``high``, on a logarithmic scale if ``log``."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse what nothing lies in."""
        check_ends(self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Say where."""
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Int:
    """Search a whole number between ``low`` and ``high``, both included."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse what nothing lies in."""
        check_ends(self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        return isinstance(value, int) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Say where."""
        return f"{self.low} to {self.high}{', log' if self.log else ''}"


def check_ends(low: float, high: float, *, log: bool) -> None:
    """Refuse a range of search that nothing lies in.

    Raises:
        ValueError: its ends are exchanged, or a logarithmic one does not begin above 0.
    """
    if not low <= high:
        raise ValueError(f"low <= high must hold, got {low:g} > {high:g}")
    if log and low <= 0:
        raise ValueError(f"a logarithmic search must begin above 0, got low = {low:g}")


@dataclass(frozen=True, init=False)
class Choice:
    """Search among a few values."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        object.__setattr__(self, "options", options)

    def holds(self, value: Any) -> bool:
        """Whether a value is among them."""
        return value in self.options

    def __str__(self) -> str:
        """Say which."""
        return ", ".join(map(repr, self.options))


Space = Float | Int | Choice


@dataclass(frozen=True)
class Hyperparameter:
    """One parameter of a component: its type, its default and where to search."""

    name: str
    annotation: Any
    default: Any
    space: Space | None

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def is_whole(self) -> bool:
        """Whether its type is int."""
        kinds = get_args(self.annotation) if get_origin(self.annotation) is Annotated else ()
        return int in (self.annotation, *kinds[:1])

    @property
    def type_name(self) -> str:
        """The type as people write it, with its bounds: "float, > 0"."""
        if get_origin(self.annotation) is not Annotated:
            return _type_name(self.annotation)
        base, *extras = get_args(self.annotation)
        bounds = [_bound(extra) for extra in extras]
        return ", ".join([_type_name(base), *filter(None, bounds)])

    def check(self, value: Any, owner: str) -> Any:
        """Return the value in the parameter's type, or raise :class:`UsageError`."""
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        if self.is_whole and isinstance(value, float) and value.is_integer():
            value = int(value)
        strict = ConfigDict(allow_inf_nan=False, strict=True)  # neither "0.1" nor true is a number
        try:
            return TypeAdapter(self.annotation, config=strict).validate_json(json.dumps(value))
        except ValidationError as error:
            law = error.errors()[0]["msg"]
            law = law[0].lower() + law[1:]
            raise UsageError(f"{owner}: {self.name} = {value!r}: {law}") from None


def hyperparameters(
    component: Callable[..., Any], given: tuple[str, ...] = ()
) -> dict[str, Hyperparameter]:
    """Return the hyperparameters of a component, in the order of its signature.

    ``given`` are the parameters that the harness supplies itself (an architecture's ``shape`` and
    ``classes``, an optimizer's ``params``).
    """
    try:
        named = parameters(component, given)
    except (AttributeError, NameError, SyntaxError, TypeError, ValueError) as error:
        name = getattr(component, "__qualname__", repr(component))
        raise PluginError(
            f"the signature of {name} cannot be read: {error}; an annotation names what its module"
            " has when it runs"
        ) from error
    return {
        p.name: Hyperparameter(p.name, _type(p.annotation), p.default, _space(p.annotation))
        for p in named.values()
    }


def parameters(
    component: Callable[..., Any], given: tuple[str, ...] = ()
) -> dict[str, inspect.Parameter]:
    """Return the parameters that are hyperparameters, with their annotations evaluated.

    The annotations of ``given`` and of the result are left alone: what they name is often imported
    for type checkers only.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {
        p.name: p
        for p in inspect.signature(component).parameters.values()
        if p.kind in kinds and p.name not in given
    }
    hints = _evaluated(component, {name: p.annotation for name, p in named.items()})
    return {name: p.replace(annotation=hints[name]) for name, p in named.items()}


def _evaluated(component: Callable[..., Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    function = component.__init__ if isinstance(component, type) else component  # type: ignore[misc]
    names = getattr(inspect.unwrap(function), "__globals__", {})
    texts = {name: text for name, text in annotations.items() if isinstance(text, str)}
    holder = SimpleNamespace(__annotations__=texts)
    return {**annotations, **get_type_hints(holder, names, include_extras=True)}


def validate(
    component: Callable[..., Any],
    values: Mapping[str, Any],
    owner: str,
    given: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return all hyperparameters of a component, defaults filled in and types checked.

    Raises:
        UsageError: a name that the component does not have, a missing one, a value out of range.
    """
    known = hyperparameters(component, given)
    for name in values:
        if name not in known:
            hint = suggestion(name, known)
            raise UsageError(f"{owner} has no hyperparameter {name!r}{hint}")
    for name, hyper in known.items():
        if hyper.required and name not in values:
            raise UsageError(f"{owner} needs a value for {name!r}, which has no default")
    return {
        name: hyper.check(values[name], owner) if name in values else hyper.default
        for name, hyper in known.items()
    }


def _type(annotation: Any) -> Any:
    return Any if annotation is inspect.Parameter.empty else annotation


def _space(annotation: Any) -> Space | None:
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Float | Int | Choice):
                return extra
    return None


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(repr(option) for option in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(_type_name(option) for option in get_args(kind))
    return str(kind) if get_origin(kind) else getattr(kind, "__name__", str(kind))


_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _bound(extra: Any) -> str:
    return ", ".join(f"{s} {getattr(extra, n)}" for n, s in _BOUNDS.items() if hasattr(extra, n))

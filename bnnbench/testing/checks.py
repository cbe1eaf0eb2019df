"""What a check is: a function whose docstring is the law, and after "If not:" the way out.

The classes of pytest and ``bnnbench plugins check`` run the same functions. One that returns has
passed; one that raises has failed, :class:`Failure` with words of its own; :class:`Skipped` says
why there is nothing to check.
"""

from __future__ import annotations

import importlib
import inspect
import random
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bnnbench.conformance import FAILED, LEVELS, OK, SKIPPED, Outcome
from bnnbench.errors import DataError, UsageError
from bnnbench.testing.blame import blamed, home

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMON = "common"  #: the checks of every kind that has hyperparameters
PLAIN = ("figures", "studies")  #: the kinds that have none


class Failure(AssertionError):  # noqa: N818  # a check's verdict, not an error of ours
    """What is wrong with a component, in its author's words."""


class Skipped(Exception):  # noqa: N818  # no error either
    """Why there is nothing to check."""


@dataclass(frozen=True)
class Subject:
    """A component that is checked, with values in place of its hyperparameters' defaults.

    ``options`` are what a check of its kind may be told, as the shapes that a network takes.
    """

    kind: str
    name: str
    target: Any
    given: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, Any]:
        """All hyperparameters, defaults filled in.

        Raises:
            UsageError: one is missing, or out of range.
        """
        from bnnbench.experiments import GIVEN
        from bnnbench.spaces import validate

        return validate(self.target, self.given, self.name, GIVEN.get(self.kind, ()))

    def build(self, **supplied: Any) -> Any:
        """Return what the component makes, as the harness asks for it."""
        return self.target(**supplied, **self.values)


@dataclass(frozen=True)
class Check:
    """A check of one kind of components, and the level that it belongs to."""

    kind: str
    level: str
    function: Callable[[Subject], None]

    @property
    def name(self) -> str:
        """The check's name, that of its function with hyphens."""
        return self.function.__name__.replace("_", "-")

    @property
    def law(self) -> str:
        """What is true of every component that passes."""
        return self._told[0]

    @property
    def advice(self) -> str:
        """What the author of one that fails can do."""
        return self._told[1]

    @property
    def _told(self) -> tuple[str, str]:
        law, _, advice = (inspect.getdoc(self.function) or "").partition("If not:")
        return " ".join(law.split()), " ".join(advice.split())

    def on(self, subject: Subject) -> Outcome:
        """Return how the check ended; whatever the component raises is its failure."""
        try:
            with quiet():
                self.function(subject)
        except Skipped as reason:
            return Outcome(self.name, self.level, SKIPPED, str(reason))
        except (UsageError, DataError) as refused:
            return self._refused(subject, refused)
        except Failure as failure:
            return Outcome(self.name, self.level, FAILED, str(failure), self.advice)
        except (Exception, SystemExit) as error:  # whatever a plugin's code may raise
            why = blamed(error, subject.target)
            return Outcome(self.name, self.level, FAILED, why, self.advice)
        return Outcome(self.name, self.level, OK)

    def _refused(self, subject: Subject, error: UsageError | DataError) -> Outcome:
        """A component may refuse what the check offers; a refusal of ours is its failure."""
        import traceback

        place = home(subject.target)
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if place is not None and any(str(place) in file for file in files):
            why = f"it refuses what the check has to offer: {error}"
            return Outcome(self.name, self.level, SKIPPED, why)
        return Outcome(self.name, self.level, FAILED, str(error), self.advice)


_FOUND: dict[str, list[Check]] = {}


def check(kind: str, level: str) -> Callable[[Callable[[Subject], None]], Callable[..., None]]:
    """Add a function to the checks of a kind."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        _FOUND.setdefault(kind, []).append(Check(kind, level, function))
        return function

    return add


def checks_of(kind: str, *, strict: bool = False) -> list[Check]:
    """Return the checks of a kind, by level; those of the level "strict" only if asked for."""
    kinds = [kind] if kind in PLAIN else [COMMON, kind]
    for each in kinds:
        importlib.import_module(f"bnnbench.testing.{each}")
    wanted = LEVELS if strict else LEVELS[:-1]
    found = [each for name in kinds for each in _FOUND[name] if each.level in wanted]
    return sorted(found, key=lambda each: LEVELS.index(each.level))


@contextmanager
def quiet() -> Iterator[None]:
    """Let a check have one thread and seeds of its own; put the caller's back after it."""
    import numpy as np
    import torch

    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    theirs = random.getstate(), np.random.get_state()  # what is guarded
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.manual_seed(20251)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            random.setstate(theirs[0])
            np.random.set_state(theirs[1])

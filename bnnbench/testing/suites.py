"""The checks of each kind as a class of pytest, which an author inherits and gives a component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from bnnbench.conformance import FAILED, SKIPPED
from bnnbench.testing.checks import Check, Subject, checks_of


class Suite:
    """The checks of one kind; a subclass with a ``component`` has them as tests."""

    kind: ClassVar[str] = ""
    component: ClassVar[Any] = None
    hyperparameters: ClassVar[Mapping[str, Any]] = {}
    strict: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = vars(cls).get("component")
        if given is None:
            return
        if not isinstance(given, staticmethod | classmethod):
            cls.component = staticmethod(given)  # a function does not become a method
        for check in checks_of(cls.kind, strict=cls.strict):
            name = f"test_{check.function.__name__}"
            if not hasattr(cls, name):  # one that the author has overridden stays
                setattr(cls, name, _test(check))

    def subject(self) -> Subject:
        """Return what the checks look at."""
        target = self.component
        name = str(getattr(target, "__name__", target))
        return Subject(self.kind, name, target, self.hyperparameters, self.options())

    def options(self) -> dict[str, Any]:
        """Return what the checks of this kind may be told."""
        return {}


def _test(check: Check) -> Callable[[Suite], None]:
    def test(self: Suite) -> None:
        import pytest

        __tracebackhide__ = True
        outcome = check.on(self.subject())
        if outcome.state == SKIPPED:
            pytest.skip(outcome.why)
        if outcome.state == FAILED:
            pytest.fail(f"{check.law}\n{outcome.why}\n{outcome.advice}", pytrace=False)

    test.__doc__ = check.law
    test.__name__ = f"test_{check.function.__name__}"
    return test


class OptimizerSuite(Suite):
    """The promises of a torch.optim.Optimizer of latents."""

    kind = "optimizers"


class BinarizerSuite(Suite):
    """The promises of a :class:`bnnbench.interfaces.Binarizer`."""

    kind = "binarizers"


class MethodSuite(Suite):
    """The promises of a function from hyperparameters to a :class:`bnnbench.methods.Method`."""

    kind = "methods"


class ArchitectureSuite(Suite):
    """The promises of a :class:`bnnbench.interfaces.Architecture`.

    ``shapes``: the inputs to try and their numbers of classes.
    """

    kind = "architectures"
    shapes: ClassVar[Mapping[tuple[int, ...], int]] = {}

    def options(self) -> dict[str, Any]:
        """Return the shapes."""
        return {"shapes": dict(self.shapes)} if self.shapes else {}


class DatasetSuite(Suite):
    """The promises of a function to a :class:`bnnbench.interfaces.Dataset`.

    ``shared``: why its splits may have examples in common.
    """

    kind = "datasets"
    shared: ClassVar[str] = ""

    def options(self) -> dict[str, Any]:
        """Return why examples may be shared."""
        return {"shared": self.shared} if self.shared else {}


class LossSuite(Suite):
    """The promises of a function to a :class:`bnnbench.interfaces.Loss`."""

    kind = "losses"


class ProbeSuite(Suite):
    """The promises of a :class:`bnnbench.interfaces.Probe`."""

    kind = "probes"


class FigureSuite(Suite):
    """The promises of a function to a :class:`bnnbench.interfaces.Figure`."""

    kind = "figures"

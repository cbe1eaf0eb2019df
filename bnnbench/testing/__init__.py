"""Tests for plugins, shipped: the promises of each kind of component, as classes of pytest.

    from bnnbench.testing import OptimizerSuite

    class TestSignDescent(OptimizerSuite):
        component = SignDescent
        hyperparameters = {"lr": 0.1}      # in place of its defaults, if need be

pytest collects the inherited tests, one for each check. ``strict = True`` adds those of
``bnnbench plugins check --strict``. A network takes ``shapes = {(1, 28, 28): 10}``, inputs and
their number of classes, where it wants others than :data:`bnnbench.testing.architectures.SHAPES`.
A check that is not to be runs is a test to override, with ``pytest.skip`` and the reason.
"""

from bnnbench.testing.suites import (
    ArchitectureSuite,
    BinarizerSuite,
    DatasetSuite,
    FigureSuite,
    LossSuite,
    MethodSuite,
    OptimizerSuite,
    ProbeSuite,
)

__all__ = [
    "ArchitectureSuite",
    "BinarizerSuite",
    "DatasetSuite",
    "FigureSuite",
    "LossSuite",
    "MethodSuite",
    "OptimizerSuite",
    "ProbeSuite",
]

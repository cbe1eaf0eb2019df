"""Hyperparameters are read from signatures."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from annotated_types import Gt

from bnnbench.errors import UsageError
from bnnbench.spaces import Float, hyperparameters, validate


def component(
    shape,
    *,
    lr: Annotated[float, Gt(0), Float(1e-4, 1e-1, log=True)] = 1e-2,
    n: int = 3,
    kind: Literal["a", "b"] = "a",
): ...


def test_signature_is_the_list():
    """Defaults, types and search spaces come from the signature, but for what is given."""
    found = hyperparameters(component, given=("shape",))

    assert ["lr", "n", "kind"] == list(found)
    assert (1e-2, Float(1e-4, 1e-1, log=True)) == (found["lr"].default, found["lr"].space)
    assert ["float, > 0", "int", "'a' | 'b'"] == [h.type_name for h in found.values()]
    assert [False, True, False] == [h.is_whole for h in found.values()]


def test_validate_fills_in_defaults():
    """What is not given is as published."""
    assert {"lr": 0.5, "n": 3, "kind": "a"} == validate(component, {"lr": 0.5}, "c", ("shape",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1}, "c: lr = -1: input should be greater than 0"),
        ({"n": 1.5}, "c: n = 1.5: input should be a valid integer"),
        ({"kind": "z"}, "c: kind = 'z': input should be 'a' or 'b'"),
        ({"lrr": 1}, "c has no hyperparameter 'lrr'; did you mean 'lr'?"),
    ],
)
def test_wrong_hyperparameter_is_one_line(values, message):
    """The line names the component, the value and the law."""
    with pytest.raises(UsageError) as error:
        validate(component, values, "c", ("shape",))

    assert message in str(error.value)


def test_missing_hyperparameter():
    """A parameter without a default must be given."""
    with pytest.raises(UsageError, match="needs a value for 'shape'"):
        validate(component, {}, "c")


@pytest.mark.parametrize("value", [True, "0.01", [0.1], None])
def test_numbers_are_numbers(value):
    """Neither a text that looks like a number nor true is one."""

    def component(lr: float = 1.0, n: int = 1, betas: tuple[float, float] = (0.9, 0.99)): ...

    with pytest.raises(UsageError, match=r"c: lr = .*valid number"):
        validate(component, {"lr": value}, "c")
    with pytest.raises(UsageError, match=r"c: n = .*valid integer"):
        validate(component, {"n": value}, "c")
    found = validate(component, {"lr": 2, "n": 3.0, "betas": [0, 0.5]}, "c")
    assert {"lr": 2.0, "n": 3, "betas": (0.0, 0.5)} == found

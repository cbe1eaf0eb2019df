"""A study that is given more: methods, seeds, trials or seconds to tune. What it has, it keeps.

Numbers are new totals, so that to extend twice by the same is to extend once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnbench.errors import UsageError
from bnnbench.studies import MethodSpec
from bnnbench.studyfile import parse_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.studies import Protocol, Study


def extended(study: Study, methods: Sequence[MethodSpec] = (), **totals: float | None) -> Study:
    """Return the study with more of what it has.

    Args:
        study: as it is.
        methods: those that it shall have too; one that it has already, described alike, stays.
        totals: new numbers of the protocol's ``seeds``, ``trials`` and ``seconds``; None leaves
            them.

    Raises:
        UsageError: a number would be less than it is, a method is there and described otherwise,
            or the budget cannot grow so.
    """
    protocol = study.protocol.model_dump()
    for key, total in totals.items():
        if total is not None:
            _check_growth(key, study.protocol, total)
            protocol[key] = total
    added = [method for method in methods if not _is_there(study, method)]
    values = study.model_dump() | {"protocol": protocol}
    values["methods"] = [*values["methods"], *(method.model_dump() for method in added)]
    return parse_study(values, "the extended study")


def changes(before: Study, after: Study) -> str:
    """Return in a few words what a study has more than before; empty where that is nothing."""
    told = [
        f"{key} {was or 0:g} -> {now:g}"
        for key in ("seeds", "trials", "seconds")
        if (was := getattr(before.protocol, key)) != (now := getattr(after.protocol, key))
    ]
    new = [method.name for method in after.methods[len(before.methods) :]]
    return ", ".join([*told, *([f"methods + {' + '.join(new)}"] if new else [])])


def _is_there(study: Study, method: MethodSpec) -> bool:
    """Whether a study has a method already.

    Raises:
        UsageError: it has another of this name.
    """
    same = [old for old in study.methods if old.name == method.name]
    if same and same[0] != method:
        raise UsageError(
            f"a study keeps its methods as they are, and has another {method.name!r}; give the new"
            " one a name of its own, in a study file"
        )
    return bool(same)


def _check_growth(key: str, protocol: Protocol, total: Any) -> None:
    """Refuse less than there is, and budgets that cannot be made of the present one."""
    now = getattr(protocol, key)
    if key == "seconds" and now is None and protocol.trials:
        raise UsageError(
            "a study's budget grows in its own unit, this one is tuned by trials; give --trials"
        )
    if key == "trials" and not now and protocol.seconds:
        raise UsageError(
            "a study's budget only grows, this one has no limit of trials; give --budget-seconds"
        )
    if total < (now or 0):
        raise UsageError(
            f"a study only grows, this one has {now:g} {key} and would have {total:g}; give the new"
            " total, or create another study"
        )
    if key == "trials" and now and total > now and protocol.sampler == "grid":
        raise UsageError(
            f"a grid is laid out for its {now} trials and cannot grow; create another study"
        )

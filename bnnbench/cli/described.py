"""What a study is to be, from files and from options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnnbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnbench.cells import Cell
    from bnnbench.experiments import Workbench
    from bnnbench.plugins import Plugins
    from bnnbench.studies import MethodSpec, Study

_PROTOCOL = ("trials", "seconds", "seeds", "sampler", "pruner")
_TASK = ("epochs", "batch_size", "loss")


def described(plugins: Plugins, name: str, source: str | None, flags: dict[str, Any]) -> Study:
    """Return the study of a file, bundled or not, or of flags, with what the flags set otherwise.

    Raises:
        UsageError: both are given, the file cannot be read, or what it says cannot be.
    """
    if flags["values"] and not flags["architecture"]:
        raise UsageError("--set is for the network that --architecture names; give both")
    if not (flags["dataset"] or flags["methods"] or flags["architecture"]):
        return overridden(study_file(plugins, name, source), flags, source or name)
    from bnnbench.studyfile import parse_study

    if source:
        raise UsageError("give either --from or --dataset, --architecture, --method, not both")
    return overridden(parse_study(_from_flags(flags), "the flags"), flags, name)


def study_file(plugins: Plugins, name: str, source: str | None) -> Study:
    """Return the study of a file or a bundled one, by default the bundled one of its own name."""
    from bnnbench.studyfile import read_study

    source = source or name
    if source in plugins.names("studies"):
        return read_study(plugins.get("studies", source), f"{source}.toml")
    if source == name and not source.endswith(".toml"):
        plugins.get("studies", name)  # says that there is none, and which is near
    return read_study(source)


def _from_flags(flags: dict[str, Any]) -> dict[str, Any]:
    task = {key: flags[key] for key in ("dataset", "architecture", "loss") if flags[key]}
    if flags["values"]:
        task["architecture"] = {"name": flags["architecture"], **flags["values"]}
    task |= {"epochs": flags["epochs"] or 10, "batch_size": flags["batch_size"] or 100}
    return {"task": task, "methods": [method_of(name) for name in flags["methods"]]}


def method_of(name: str) -> dict[str, str]:
    """Return a method by its name; "sign+bop" is a binarizer crossed with an optimizer.

    >>> method_of("sign+bop")
    {'binarizer': 'sign', 'optimizer': 'bop'}
    """
    binarizer, crossed, optimizer = name.partition("+")
    return {"binarizer": binarizer, "optimizer": optimizer} if crossed else {"method": name}


def overridden(study: Study, flags: dict[str, Any], where: str) -> Study:
    """Return the study with what the flags set otherwise, checked again."""
    from bnnbench.studyfile import parse_study

    values = study.model_dump()
    values["protocol"] |= {k: flags[k] for k in _PROTOCOL if flags.get(k) is not None}
    task = {k: flags[k] for k in _TASK if flags.get(k) is not None}
    values["tasks"] = [old | task for old in values["tasks"]]
    return parse_study(values, where)


def small(study: Study, scale: float, flags: dict[str, Any], workbench: Workbench) -> Study:
    """Return the study scaled, and say what was cut; a budget from the flags is as it is given.

    Raises:
        UsageError: the flags give epochs too, or the study cannot be scaled so.
    """
    from bnnbench.scaling import scaled, told

    if flags["epochs"] is not None:
        raise UsageError("give either --epochs or --scale, not both: each says how long to train")
    made = scaled(study, scale, workbench)
    click.echo(f"scaled by {scale:g}:")
    for line in told(study, made, workbench):
        click.echo(f"  {line}")
    return overridden(made, {"seconds": flags["seconds"]}, "the scaled study")


def more_methods(
    plugins: Plugins, name: str, source: str | None, given: Sequence[str]
) -> list[MethodSpec]:
    """Return the methods of a file and those that flags name.

    Raises:
        UsageError: the file cannot be read, or a name can be none.
    """
    found = list(study_file(plugins, name, source).methods) if source else []
    return [*found, *map(_method, given)]


def _method(name: str) -> MethodSpec:
    from pydantic import ValidationError

    from bnnbench.studies import MethodSpec

    try:
        return MethodSpec.model_validate(method_of(name))
    except ValidationError:
        raise UsageError(
            f"--method must be a method, or BINARIZER+OPTIMIZER, got {name!r}"
        ) from None


def check_with_data(planned: list[Cell], workbench: Workbench) -> None:
    """Build everything once, where the data are here; where they are not, say so."""
    from bnnbench.cells import check

    try:
        check(planned, workbench)
    except DataError as error:
        click.echo(f"warning: not checked with its data: {error}", err=True)

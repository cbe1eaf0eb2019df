"""How to repeat a study, or several: commands, versions, seeds, protocol and study files."""

from __future__ import annotations

import itertools
import shlex
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bnnbench.cli.comparisons import trained
from bnnbench.cli.options import masked
from bnnbench.together import said
from bnnbench_reports.toml import study_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.results import Results
    from bnnbench.studies import Protocol

TOLD = ("seed", "sampler", "pruner", "select")  #: of the protocol, as it is on the page


def commands(results: Results) -> list[str]:
    """Return the commands that repeat the study or the studies, without any password."""
    names = [part.name for part in results.parts]
    created = [(masked(part.command), part.name) for part in results.parts]
    lines = [
        line
        for command, name in created
        for line in filter(None, (command, f"bnnbench study run {name}{_where(command)}"))
    ]
    return [*lines, f"bnnbench report {' '.join(names)}{_where(created[0][0])}"]


def exports(results: Results) -> str:
    """Return the command that writes every run, with its whole configuration, into tables."""
    created = [(part.name, _where(masked(part.command))) for part in results.parts]
    return " && ".join(f"bnnbench study export {name}{where}" for name, where in created)


def code(results: Results) -> list[str]:
    """Return the versions of bnnbench and of the plugins that the runs were made with.

    A plugin's version has the first digits of the checksum of its code; each set of versions is a
    line.
    """
    found = {
        ", ".join(f"{name} {version}" for name, version in sorted(entry.run.code.items()))
        for entry in results.entries
    }
    return sorted(found - {""})


def _where(created: str) -> str:
    """The option of the command that created a study by which other commands find it."""
    words = list(itertools.takewhile(lambda word: word != "&&", shlex.split(created)))
    pairs = itertools.pairwise(["", *words])
    place = [word for before, word in pairs if "--storage" in (before, word.partition("=")[0])]
    return f" {shlex.join(place)}" if place else ""


def requirements(results: Results) -> list[str]:
    """Return a line of pinned versions for each set of versions that the runs had.

    A local version, like the "+cpu" of a torch build, is not to be had everywhere and left out.
    """
    found = [
        " ".join(
            f"{package}=={version.partition('+')[0]}"
            for package, version in spec.get("packages", {}).items()
            if version != "not installed"
        )
        for spec in results.environments.values()
    ]
    return sorted({line for line in found if line})


def seeds(results: Results) -> str:
    """Return the seeds of the confirming runs.

    They are ``seed + 1`` to ``seed + seeds`` of the protocol.
    """
    return said(results, lambda part: _seeds(part.study.protocol))


def _seeds(protocol: Protocol) -> str:
    first, last = protocol.seed + 1, protocol.seed + protocol.seeds
    return f"{first} to {last}" if last > first else str(first)


def protocol(results: Results) -> Any:
    """Return the protocol as the page tells it: where studies differ, with their names."""
    every = [part.study.protocol for part in results.parts]
    if len(every) == 1 and not every[0].seconds:
        return every[0]
    told = {key: said(results, _of_protocol(key)) for key in TOLD}
    budget = said(results, lambda part: trials(part.study.protocol))
    return SimpleNamespace(**told, trials=budget if any(each.tunes for each in every) else 0)


def _of_protocol(key: str) -> Callable[[Results], Any]:
    return lambda part: getattr(part.study.protocol, key)


def trials(protocol: Protocol) -> str:
    """Return how many trials a method has, or for how long it is tuned.

    >>> from bnnbench.studies import Protocol
    >>> trials(Protocol(trials=20)), trials(Protocol(seconds=600, trials=40))
    ('20', 'as many as train for 600 s, at most 40')
    """
    if protocol.seconds is None:
        return f"{protocol.trials}"
    most = f", at most {protocol.trials}" if protocol.trials else ""
    return f"as many as train for {protocol.seconds:g} s{most}"


def files_of(results: Results) -> str:
    """Return the study file, or those of all studies one after the other."""
    if len(results.parts) == 1:
        return study_file(results.study)
    return "\n\n\n".join(
        f"# study {part.name}\n\n{study_file(part.study)}" for part in results.parts
    )


def limits(results: Results) -> str:
    """Return in a sentence what sets the study apart from its source; "" where nothing does.

    >>> from bnnbench.studies import Study
    >>> from types import SimpleNamespace as Some
    >>> study = Some(scale=0.01, departures=("Other augmentation.",))
    >>> for clause in limits(Some(parts=[Some(name="s", study=study)], study=study)).split("; "):
    ...     print(clause)
    The runs had 0.01 of the published training
    the study departs from its source in 1 point, see below.
    """
    told, count = [], len(results.study.departures)
    if any(part.study.scale < 1 for part in results.parts):
        shares = said(results, lambda part: trained(part.study.scale))
        told.append(f"the runs had {shares}")
    if count:
        points = "1 point" if count == 1 else f"{count} points"
        told.append(f"the study departs from its source in {points}, see below")
    return f"T{'; '.join(told)[1:]}." if told else ""

"""The process in which ``bnnbench plugins check`` lets plugins run, whatever they do to it.

It is told a :class:`Job` as JSON, and writes a line of JSON for each thing that happens:

    {"component": [kind, name, distribution, version], "plugin": ..., "code": ...}
    {"begin": [kind, name, check, level]}
    {"end": [kind, name], "outcome": [...]}
    {"error": message, "usage": whether the question was wrong}
    {"over": true}
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnbench.plugins import Component, Plugins

START = 120.0  #: seconds for Python, torch and plugins to load, whatever the limit
STEPPING = ("binarizers", "losses", "methods", "optimizers", "probes")  #: kinds checked by training

Tell = Any  #: takes what a line says


@dataclass(frozen=True)
class Job:
    """What is to be checked: names, the plugins in use, and what has been checked before.

    ``done`` are (kind, name) of components that are left out. A check has ``limit`` seconds.
    """

    names: tuple[str, ...]
    blocked: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    strict: bool = False
    limit: float = 60.0
    done: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return the job that :meth:`to_json` described."""
        values = json.loads(text)
        pairs = tuple(tuple(each) for each in values["done"])
        return cls(**values | {"names": tuple(values["names"]), "done": pairs})


def main(text: str) -> None:
    """Do a job; lines go to the standard output as it was, what plugins print to the errors."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    job = Job.from_json(text)

    def tell(**what: Any) -> None:
        channel.write(json.dumps(what) + "\n")
        channel.flush()

    try:
        _loaded(job, tell)
    finally:
        faulthandler.cancel_dump_traceback_later()
    tell(over=True)


def _loaded(job: Job, tell: Tell) -> None:
    """Load the plugins, and check what has the names."""
    from bnnbench.errors import BnnbenchError, UsageError
    from bnnbench.plugins import load_plugins

    faulthandler.dump_traceback_later(max(START, job.limit), exit=True)
    try:
        plugins = load_plugins(job.blocked, job.files)
        found = dict.fromkeys(c for name in job.names for c in named(plugins, name))
    except BnnbenchError as error:
        tell(error=str(error), usage=isinstance(error, UsageError))
        return
    for component in found:
        if (component.kind, component.name) not in job.done:
            faulthandler.dump_traceback_later(max(START, job.limit), exit=True)
            _checked(component, job, tell)


def named(plugins: Plugins, name: str) -> list[Component]:
    """Return the components of a name.

    Raises:
        PluginError: it is a plugin that could not be loaded.
        UsageError: there is none.
    """
    from bnnbench.cli import components
    from bnnbench.errors import PluginError

    for plugin in plugins.plugins:
        if plugin.name == name and plugin.status == "failed":
            raise PluginError(f"plugin {name!r} of {plugin.module} does not load: {plugin.reason}")
    return components.named(plugins, name)


def _checked(component: Component, job: Job, tell: Tell) -> None:
    """Go through the checks of a component; a level is left out where one below it has faults."""
    from bnnbench.conformance import FAILED, Checked, Outcome
    from bnnbench.errors import PluginError
    from bnnbench.testing.blame import defined
    from bnnbench.testing.checks import Subject, checks_of

    stands = Checked.of(component)
    where = [component.kind, component.name]
    try:
        target = component.target
    except PluginError as error:
        tell(component=stands, plugin=component.plugin.name, code=str(component.reference))
        fault = Outcome("import", "loads", FAILED, str(error), "Register what can be imported.")
        tell(end=where, outcome=fault)
        return
    tell(component=stands, plugin=component.plugin.name, code=defined(target))
    subject = Subject(component.kind, component.name, target)
    if component.kind in STEPPING:
        _warmed_up()
    faulty = ""
    for check in checks_of(component.kind, strict=job.strict):
        if faulty and check.level != faulty:
            break
        tell(begin=[*where, check.name, check.level])
        faulthandler.dump_traceback_later(job.limit, exit=True)
        outcome = check.on(subject)
        faulthandler.cancel_dump_traceback_later()
        tell(end=where, outcome=outcome)
        if outcome.state == FAILED:
            faulty = check.level


def _warmed_up() -> None:
    """Let torch import, at the first step of all, what takes seconds and is nobody's fault."""
    import torch

    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()


if __name__ == "__main__":
    main(sys.argv[1])

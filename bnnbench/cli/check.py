"""``bnnbench plugins check``: the promises of a plugin's components, one by one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from bnnbench.cli.completion import components
from bnnbench.plugins import KINDS

if TYPE_CHECKING:
    from bnnbench.cli import Settings
    from bnnbench.conformance import Checked, Outcome
    from bnnbench.plugins import Plugin, Plugins
    from bnnbench.testing.isolation import Begun


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=components(*KINDS)
)
@click.option("--strict", is_flag=True, help="Ask for explanations, bounds and compiling too.")
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one check may take.",
)
@click.pass_obj
def check(settings: Settings, names: tuple[str, ...], *, strict: bool, limit: float) -> None:
    """Check plugins or components, by NAME or KIND/NAME, and say how far each comes.

    \b
    loads      it is imported, and its hyperparameters can be read
    works      it does its part in the harness, once
    conforms   it keeps what its interface promises
    strict     and what --strict asks for

    The level is remembered with the component's version; `plugins list`, `plugins show` and the
    report show it. Plugins run in a process of their own, which may hang or crash. Exit code 5:
    a check failed.
    """  # noqa: D301  # click reads it
    from bnnbench import conformance
    from bnnbench.errors import PluginError
    from bnnbench.testing.child import Job
    from bnnbench.testing.isolation import Begun, checked

    job = Job(names, settings.blocked, settings.files, strict=strict, limit=limit)
    found: dict[Checked, list[Outcome]] = {}
    for event in checked(job):
        if isinstance(event, Begun):
            _conclude(found)
            _head(event)
            found[event.component] = []
        else:
            found[event.component].append(event.outcome)
            _line(event.outcome, found[event.component])
    _conclude(found)
    levels = {component: conformance.reached(outcomes) for component, outcomes in found.items()}
    conformance.keep(levels)
    failed = sum(o.state == conformance.FAILED for outcomes in found.values() for o in outcomes)
    if failed:
        total = sum(map(len, found.values()))
        raise PluginError(f"{failed} of {total} checks failed; what is wrong stands above")


def _head(event: Begun) -> None:
    whose = f"{event.component.distribution} {event.component.version}".strip()
    told = f" ({whose})" if whose else ""
    click.echo(f"{event.component} of plugin {event.plugin!r}{told}, {event.code}")


def _line(outcome: Outcome, before: list[Outcome]) -> None:
    """Print a check; a reason that stood just above is not repeated."""
    why = outcome.why
    if why and any(other is not outcome and other.why == why for other in before):
        why = "as above"
    click.echo(f"  {outcome.state:9}{outcome.check:26}{why}".rstrip())
    if outcome.advice and why != "as above":
        click.echo(f"{'':11}{outcome.advice}")


def _conclude(found: dict[Checked, list[Outcome]]) -> None:
    """Print the level of the component that was checked last."""
    from bnnbench.conformance import FAILED, reached

    if not found:
        return
    component, outcomes = list(found.items())[-1]
    states = Counter(outcome.state for outcome in outcomes)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    later = "; what comes after that is checked once it passes" if states[FAILED] else ""
    click.echo(f"  {component}: {reached(outcomes)} ({counts}{later})")
    click.echo()


def summary(plugins: Plugins, plugin: Plugin) -> str:
    """Return how many components of a plugin have reached which level: "2 conforms, 1 fails"."""
    from bnnbench.conformance import FAILS, LEVELS, UNCHECKED, known_levels

    offered = {kind: names for kind, names in plugin.components.items() if kind in KINDS}
    found = [plugins.component(kind, name) for kind, names in offered.items() for name in names]
    counts = Counter(known_levels(found).values())
    order = (*reversed(LEVELS), FAILS, UNCHECKED)
    return ", ".join(f"{counts[level]} {level}" for level in order if counts[level])

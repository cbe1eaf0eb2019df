"""The report as one HTML file: all it needs is inside, and nothing is ever fetched.

The same database and plugins give the same bytes. Whatever comes from them is escaped, and the
page's security policy runs no script but the two that are known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bnnbench import __version__
from bnnbench.cli.comparisons import trained
from bnnbench.deployments import WAYS
from bnnbench.store import BASE, CONFIRM
from bnnbench.together import said
from bnnbench_reports import comparisons, data, deployed, records, tables
from bnnbench_reports.cards import Card, cards_of, from_curves, safe
from bnnbench_reports.citations import citations_table
from bnnbench_reports.claims import claims_table
from bnnbench_reports.figures.compared import compared
from bnnbench_reports.repeat import (
    code,
    commands,
    exports,
    files_of,
    protocol,
    requirements,
    seeds,
)
from bnnbench_reports.sections import sections
from bnnbench_reports.settings import settings_table
from bnnbench_reports.thinning import first_said
from bnnbench_reports.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnnbench.plugins import Plugins
    from bnnbench.results import Results
    from bnnbench.rows import Row
    from bnnbench_reports.cards import Draw

#: the page's own script, in the order in which its files are joined
SCRIPT = ("statistics", "view", "selection", "curves", "drawings", "files", "sorting", "page")


class Report(NamedTuple):
    """A report: its page, and what that is made of."""

    html: str
    cards: list[Card]
    known: dict[str, Any]
    told: dict[str, Any]


def build(
    results: Results, figures: Iterable[tuple[str, Draw]], plugins: Plugins | None = None
) -> str:
    """Return the report as HTML. A figure that fails becomes a card that says why.

    With ``plugins`` it says what to cite.
    """
    return made(results, figures, plugins).html


def made(
    results: Results, figures: Iterable[tuple[str, Draw]], plugins: Plugins | None = None
) -> Report:
    """Return the report as HTML, with what it is made of; see :func:`build`."""
    cards, known = cards_of(results, figures), data.collected(results)
    told = facts(results, plugins)
    return Report(rendered(cards, known, told), cards, known, told)


def rendered(cards: Sequence[Card], known: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Return the page: its template, filled in."""
    from plotly.offline import get_plotlyjs

    scripts = [_script(own_script())]
    if cards or known["curves"]:
        scripts.insert(0, _script(get_plotlyjs()))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    there = sections(told, known, cards)
    return environment.from_string(_read("page.html")).render(
        told,
        cards=from_curves(cards, known),
        sections=there,
        shown={section.id for section in there},
        **choices(known),
        known=known,
        data=safe(data.as_text(known)),
        policy=policy(scripts),
        scripts=[Markup(script) for script in scripts],  # noqa: S704  # our own and plotly's
        style=Markup(_read("page.css")),  # noqa: S704  # our own
    )


def facts(results: Results, plugins: Plugins | None = None) -> dict[str, Any]:
    """Return all that the page says besides its figures; with ``plugins``, what to cite."""
    found, study = compared(results), results.study
    rows = found.rows
    return {
        "name": results.name,
        "title": study.title or results.name,
        "source": study.source,
        "version": __version__,
        "unfinished": unfinished(results),
        "status": status(results),
        "dates": records.dates(results),
        "finishing": finishing(results),
        "verdict": verdict(results, rows, found),
        "departures": study.departures,
        "results": tables.noted(tables.results_table(rows, study.reference, found), results.notes),
        "differences": tables.noted(comparisons.differences_table(found), results.notes),
        "published": tables.noted(comparisons.published_table(found), results.notes),
        "trained": said(results, lambda part: trained(part.study.scale)),
        "arrivals": tables.noted(comparisons.arrivals_table(found), results.notes),
        "ranks": comparisons.ranks_table(found),
        "ranks_said": comparisons.ranks_said(found),
        "reference": study.reference,
        "hyperparameters": tables.noted(
            tables.hyperparameters_table(rows, tables.levels(results)), results.notes
        ),
        "coverage": tables.noted(tables.coverage_table(results), results.notes),
        "buckets": tables.noted(records.buckets_table(results), results.notes),
        **packed(results),
        "roles": records.roles(results),
        "environments": records.environments(results),
        **recorded(results, rows),
        **repeated(results, plugins),
        "events": records.events_table(results),
    }


def recorded(results: Results, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the page says of every run and its configuration."""
    export = exports(results)
    return {
        "settings": tables.noted(settings_table(results), results.notes),
        "runs": tables.noted(records.runs_table(results, rows), results.notes),
        "runs_said": first_said(len(records.of_role(results, CONFIRM)), export),
        "bases": tables.noted(records.bases_table(results), results.notes),
        "bases_said": first_said(
            len(records.of_role(results, BASE)), export, "runs that they build on"
        ),
    }


def repeated(results: Results, plugins: Plugins | None) -> dict[str, Any]:
    """Return what the page says of how to repeat the study, and of what to cite."""
    return {
        "commands": commands(results),
        "cited": citations_table(results, plugins),
        "requirements": requirements(results),
        "code": code(results),
        "splits": tables.noted(records.splits_table(results), results.notes),
        "protocol": protocol(results),
        "seeds": seeds(results),
        "file": files_of(results),
    }


def packed(results: Results) -> dict[str, Any]:
    """Return what the page says of networks as they would be deployed."""
    found = deployed.deployed(results)
    return {
        "sizes": tables.noted(deployed.sizes_table(found), results.notes),
        "operations": tables.noted(deployed.operations_table(found), results.notes),
        "answers": tables.noted(deployed.times_table(found), results.notes),
        "alone": tables.noted(deployed.layers_table(found), results.notes),
        "energy": tables.noted(deployed.energy_table(found), results.notes),
        "claims": claims_table(found),
        "conditions": deployed.conditions(found),
        "ways": WAYS,
        "refusals": deployed.refusals(results),
    }


def progress(results: Results) -> tuple[int, int]:
    """Return how many confirming runs have ended, and how many were asked for."""
    asked = sum(results.asked.values())
    return tables.ended(e for e in results.entries if e.role == CONFIRM), asked


def unfinished(results: Results) -> str:
    """Return "unfinished: k of n runs", or nothing where all confirming runs have ended."""
    ended, asked = progress(results)
    return f"unfinished: {ended} of {asked} runs" if ended < asked else ""


def finishing(results: Results) -> str:
    """Return the command that finishes what is missing: that of each study that lacks runs."""
    lacking = [part.name for part in results.parts if unfinished(part)]
    return " && ".join(f"bnnbench study run {name}" for name in lacking)


def status(results: Results) -> str:
    """Return in a few words how the confirming runs stand."""
    ended, asked = progress(results)
    done = len(results.confirmed())
    bad = f", {ended - done} of them failed or diverged" if ended > done else ""
    return (unfinished(results) or f"complete: {asked} runs") + bad


def choices(known: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return what the page's lists offer, as values and texts; of metrics those with data."""
    scored, curved = ({each["metric"] for each in known[key]} for key in ("scores", "curves"))
    axes = [("epoch", "epochs")]
    axes += [("step", "steps")] if any(cell["steps"] for cell in known["cells"]) else []
    axes += [("seconds", "seconds of training")] if known["clocks"] else []
    return {
        "metrics": _offered(known["metrics"], scored),
        "curve_metrics": _offered(known["curve_metrics"], curved),
        "modes": [("", "as judged"), *((mode, mode) for mode in known["modes"] if mode)],
        "references": [("", "none"), *((each["name"],) * 2 for each in known["methods"])],
        "axes": axes,
    }


def _offered(metrics: Iterable[Mapping[str, Any]], held: set[int]) -> list[tuple[str, str]]:
    return [(each["name"], each["label"]) for place, each in enumerate(metrics) if place in held]


def own_script() -> str:
    """Return the page's own script: its files see each other, and nothing else sees them."""
    parts = "\n".join(_read(f"{name}.js") for name in SCRIPT)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def policy(scripts: Iterable[str]) -> str:
    """Return a security policy that lets only these scripts run, and nothing be fetched.

    plotly.js sets styles on elements and draws images from data that it holds.
    """
    hashes = " ".join(source_hash(script) for script in scripts) or "'none'"
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none';"
        f" style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}"
    )


def source_hash(script: str) -> str:
    """Return the name by which a security policy knows a script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _script(text: str) -> str:
    """A script as browsers read and hash it; text that would end its element is escaped."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=/script)", r"\\x3c", text, flags=re.IGNORECASE)


def _read(name: str) -> str:
    return files("bnnbench_reports").joinpath(name).read_text(encoding="utf-8")

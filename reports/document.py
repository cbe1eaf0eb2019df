"""The report as ``report.json``: the data of the page's controls, and what else the page shows.

    verdict         the sentences
    figures         each figure's title, explanation, summary and ``info``, what it is drawn from
    configurations  what runs were described by, each once
    runs            every run, with its configuration by its place
    environments    hardware and versions, by the keys that runs have
    repeat          commands, code, checksums of the data, what to cite

docs/report.md describes every key.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bnnbench.catalogue import FORMER
from bnnbench.plugins import describe
from bnnbench_reports.figures.summaries import points
from bnnbench_reports.infos import plain
from bnnbench_reports.tables import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.store import Entry
    from bnnbench_reports.cards import Card
    from bnnbench_reports.page import Report
    from bnnbench_reports.tables import Table

RUNS = 10_000  #: runs that stand one by one
OWN = ("seed", "start_from", "teacher")  #: of a run's description, what it shares with no other


def document(results: Results, report: Report) -> dict[str, Any]:
    """Return what report.json holds, of plain values only; the same database gives the same."""
    entries = [e for e in results.entries if not e.role.startswith(FORMER)]
    configurations, runs = described(entries[:RUNS])
    return {
        **report.known,
        "verdict": report.told["verdict"],
        "figures": [told(card) for card in report.cards],
        "configurations": configurations,
        "runs": runs,
        "runs_left_out": len(entries) - len(runs),
        "environments": results.environments,
        "repeat": repeat(report.told),
    }


def told(card: Card) -> dict[str, Any]:
    """Return a figure: what it says, and what it is drawn from; or why it is not there."""
    if card.figure is None:
        return {"name": card.name, "title": card.title, "error": card.error}
    said = {"name": card.name, "title": card.title, "explanation": card.explanation}
    said["summary"] = card.summary
    try:
        info = card.figure.info
        value, longest = plain(points(card.figure.drawing) if info is None else info)
    except Exception as error:  # whatever a plugin's values may raise
        return said | {"error": describe(error)}
    return said | {"longest": longest, "info": value}


def described(entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the configurations of some runs, each once, and the runs."""
    places: dict[str, int] = {}
    runs = []
    for entry in entries:
        text = json.dumps(dict(_configuration(entry)), sort_keys=True)
        place = places.setdefault(text, len(places))
        runs.append({**_run(entry), "configuration": place})
    return [json.loads(text, parse_constant=str) for text in places], runs


def _configuration(entry: Entry) -> Iterator[tuple[str, Any]]:
    """What a run's description has in common with those of the other seeds."""
    for name, value in asdict(entry.run).items():
        if name not in OWN:
            yield name, value


def _run(entry: Entry) -> dict[str, Any]:
    begun, ended = entry.started_at, entry.finished_at
    return {
        "task": entry.task,
        "method": entry.method,
        "role": entry.role,
        "number": entry.number,
        **{name: getattr(entry.run, name) for name in OWN},
        "key": entry.run.key,
        "state": entry.state,
        "error": one_line(entry.error) if entry.error else "",
        "shared": entry.shared,
        "seconds": None if begun is None or ended is None else round(ended - begun, 3),
        "environment": entry.environment,
    }


def repeat(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to repeat the study, as the page says it."""
    tables = {"splits": said["splits"], "citations": said["cited"]}
    plain_ones = ("commands", "requirements", "code", "seeds", "file")
    return {name: said[name] for name in plain_ones} | {n: rows(t) for n, t in tables.items()}


def rows(table: Table) -> list[dict[str, str]]:
    """Return a table's rows by the names of its columns."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]

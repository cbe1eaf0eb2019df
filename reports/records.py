"""The tables behind the answer: time, roles of the parameters, environments, every run."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.buckets import BUCKETS, TRAIN, WARMUP
from bnnbench.metrics import accuracy_of
from bnnbench.results import points
from bnnbench.store import CONFIRM
from bnnbench_reports.readings import Cell, judged_mode
from bnnbench_reports.settings import chosen, described, values
from bnnbench_reports.tables import NONE, Table
from bnnbench_reports.thinning import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.rows import Row
    from bnnbench.store import Entry

COLUMNS = (TRAIN, WARMUP, *BUCKETS[1:])
SPLITS = ("train", "validation", "test")


class Roles(NamedTuple):
    """The roles of a network's parameters, and for which task and methods they hold."""

    heading: str
    summary: str
    table: Table


def seconds_by_bucket(results: Results) -> dict[Cell, dict[str, float]]:
    """Return the seconds in each bucket, the sum over the finished confirming runs."""
    by_run: dict[int, dict[str, float]] = {}
    for series in results.series([f"seconds.{bucket}" for bucket in COLUMNS], layer=""):
        bucket = series.metric.removeprefix("seconds.")
        by_run.setdefault(series.run_id, {})[bucket] = float(points(series)[1].sum())
    found: dict[Cell, dict[str, float]] = {}
    for entry in results.confirmed():
        cell = found.setdefault((entry.task, entry.method), {})
        for bucket, seconds in by_run.get(entry.run_id, {}).items():
            cell[bucket] = cell.get(bucket, 0.0) + seconds
    return {cell: seconds for cell, seconds in found.items() if seconds}


def buckets_table(results: Results) -> Table:
    """Return where the time of the confirming runs went, in seconds and as shares."""
    found = seconds_by_bucket(results)
    study = results.study
    order = [(task.name, method.name) for task in study.tasks for method in study.methods]
    lines = [(*cell, *_shares(found[cell])) for cell in order if cell in found]
    columns = ("task", "method", "total, s", *(f"{bucket}, s (%)" for bucket in COLUMNS))
    return Table(columns, lines, frozenset(range(2, len(columns))))


def _shares(seconds: Mapping[str, float]) -> list[str]:
    total = sum(seconds.values())
    shown = [
        f"{seconds.get(bucket, 0):.2f} ({100 * seconds.get(bucket, 0) / (total or 1):.0f} %)"
        for bucket in COLUMNS
    ]
    return [f"{total:.2f}", *shown]


def roles(results: Results) -> list[Roles]:
    """Return the roles of the parameters, once for all methods of a task that share them."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in results.confirmed():
        key = entry.task, json.dumps(entry.facts.get("roles", []))
        methods = groups.setdefault(key, [])
        if entry.method not in methods:
            methods.append(entry.method)
    alone = [task for task, _ in groups]
    return [
        _roles(
            task if alone.count(task) == 1 else f"{task}: {', '.join(methods)}", json.loads(known)
        )
        for (task, known), methods in groups.items()
        if known != "[]"
    ]


def _roles(heading: str, known: Sequence[Mapping[str, Any]]) -> Roles:
    sizes = [math.prod(role["shape"]) for role in known]
    binary = sum(n for n, role in zip(sizes, known, strict=True) if role["role"] == "binary")
    total = sum(sizes)
    lines = [
        (
            str(role["parameter"]),
            str(role["role"]),
            " × ".join(map(str, role["shape"])) or "1",
            f"{size:,}",
            str(role["place"]),
        )
        for role, size in zip(known, sizes, strict=True)
    ]
    summary = (
        f"{binary:,} of {total:,} parameters ({100 * binary / max(total, 1):.1f} %) can be binary,"
        f" {total - binary:,} are real."
    )
    table = Table(("parameter", "role", "shape", "count", "place"), lines, frozenset({3}))
    return Roles(heading, summary, table)


def environments(results: Results) -> list[tuple[str, Table]]:
    """Return each environment as a heading with its number of runs and a table of its values."""
    runs = Counter(entry.environment for entry in results.entries)
    return [
        (
            f"{runs[key]} run{'s' if runs[key] > 1 else ''}",
            Table(("", ""), [(name, text(value)) for name, value in spec.items()]),
        )
        for key, spec in sorted(
            results.environments.items(), key=lambda item: (-runs[item[0]], item[0])
        )
        if spec
    ]


def text(value: Any) -> str:
    """Return a value of an environment in one line.

    >>> text({"torch": "2.13.0", "numpy": "2.4.6"})
    'torch 2.13.0, numpy 2.4.6'
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return NONE if value is None else str(value)


def runs_table(results: Results, rows: Sequence[Row] | None = None) -> Table:
    """Return the confirming runs: configuration, test accuracy in the judged mode, key.

    ``rows`` are the results' own, where they are at hand.
    """
    own = chosen(results, results.rows() if rows is None else rows)
    lines = [
        (
            entry.task,
            entry.method,
            str(entry.number),
            _number(_tested(results, entry)),
            judged_mode(entry) or NONE,
            values(entry.run.method.hyperparameters, own.get((entry.task, entry.method), ())),
            wall(entry),
            "yes" if entry.shared else "no",
            entry.state,
            entry.run.key,
        )
        for entry in of_role(results, CONFIRM)[:ROWS]
    ]
    columns = ["task", "method", "seed", f"test {_accuracy(results)}, %", "judged with"]
    columns += ["set or tuned", "wall time, s", "shared machine", "state", "key"]
    shown = [[cell or NONE for cell in line] for line in lines]
    return Table(columns, shown, frozenset({2, 3, 6}))


def splits_table(results: Results) -> Table:
    """Return the checksums of the images and labels that the confirming runs saw."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    for entry in of_role(results, CONFIRM):
        examples, checksums = entry.facts.get("examples", {}), entry.facts.get("splits", {})
        for split in filter(checksums.get, SPLITS):
            count = f"{examples[split]:,}" if split in examples else NONE
            found[entry.task, split, count, str(checksums[split])] += 1
    lines = [(*place, str(count)) for place, count in found.items()]
    return Table(("task", "split", "examples", "SHA-256", "runs"), lines, frozenset({2, 4}))


def of_role(results: Results, role: str) -> list[Entry]:
    """Return the runs that are there for something, in the order in which they were made."""
    return [entry for entry in results.entries if entry.role == role]


def _tested(results: Results, entry: Entry) -> float | None:
    found = results.outcomes.get(entry.run_id)
    return found.test.get("accuracy", {}).get(judged_mode(entry)) if found else None


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def bases_table(results: Results) -> Table:
    """Return the runs that others start from or learn from."""
    lines = [
        (
            entry.task,
            entry.method,
            str(entry.number),
            _number(base.validation),
            judged_mode(entry) or NONE,
            ", ".join(base.used_by) or NONE,
            described(entry.run.method),
            wall(entry),
            entry.state,
            entry.run.key,
        )
        for base in results.bases()[:ROWS]
        for entry in [base.entry]
    ]
    columns = ["task", "run", "seed", f"validation {_accuracy(results)}, %", "judged with"]
    columns += ["used as", "configuration", "wall time, s", "state", "key"]
    return Table(columns, lines, frozenset({2, 3, 7}))


def _accuracy(results: Results) -> str:
    return accuracy_of(results.kind(task.name) for task in results.study.tasks)


def wall(entry: Entry) -> str:
    """Return a run's seconds from its start to its end."""
    if entry.started_at is None or entry.finished_at is None:
        return NONE
    return f"{entry.finished_at - entry.started_at:.1f}"


def events_table(results: Results) -> Table:
    """Return what happened to the study out of the ordinary, and when, in UTC."""
    lines = [(utc(at), kind, text) for at, kind, text in results.events[:ROWS]]
    return Table(["when", "what", ""], lines)


def dates(results: Results) -> tuple[str, str]:
    """Return when the study's first run began and its last one ended, in UTC."""
    begun = [e.started_at for e in results.entries if e.started_at is not None]
    ended = [e.finished_at for e in results.entries if e.finished_at is not None]
    return utc(min(begun, default=None)), utc(max(ended, default=None))


def utc(seconds: float | None) -> str:
    """Return a time in UTC, to the minute.

    >>> utc(0)
    '1970-01-01 00:00 UTC'
    """
    if seconds is None:
        return NONE
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")

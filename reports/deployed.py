"""The tables of networks as they would be deployed: packed, checked and timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.deployments import (
    BATCHES,
    BEST,
    DEFAULT,
    ONE_BIT,
    PACKED,
    WAYS,
    WORD,
    Deployment,
    Refusal,
    Timed,
    Timing,
)
from bnnbench_reports.tables import NONE, SPACE, Table, bits, digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnnbench.results import Results
    from bnnbench.store import Entry


QUIET = 0.005  #: share of the machine that is not worth a word


class Deployed(NamedTuple):
    """A run whose network was packed."""

    entry: Entry
    found: Deployment


def deployed(results: Results) -> list[Deployed]:
    """Return the runs whose networks were packed, in the order of the study."""
    return [Deployed(e, d) for e, d in _kept(results) if isinstance(d, Deployment)]


def refusals(results: Results) -> list[str]:
    """Return why the others cannot be packed, a sentence for each method that was tried."""
    found = {
        f"{entry.method} on {entry.task}: {kept.reason}": None
        for entry, kept in _kept(results)
        if isinstance(kept, Refusal)
    }
    return list(found)


def _kept(results: Results) -> Iterable[tuple[Entry, Deployment | Refusal]]:
    kept = results.deployments
    runs = {(e.task, e.method, e.number): e for e in results.confirmed() if e.run_id in kept}
    order = {cell: place for place, cell in enumerate(results.asked)}
    chosen = sorted(runs.values(), key=lambda e: (order.get((e.task, e.method), 0), e.number))
    return [(entry, kept[entry.run_id]) for entry in chosen]


def sizes_table(found: Sequence[Deployed]) -> Table:
    """Return what each packed network takes, and that it is the trained one."""
    columns = (
        "task", "method", "seed", "test accuracy, %", "predictions that differ", "float32, KiB",
        "packed, KiB", "of it real, KiB", "times smaller",
    )  # fmt: skip
    rows = [
        (
            each.entry.task,
            each.entry.method,
            str(each.entry.number),
            f"{each.found.accuracy:.2f}",
            f"{each.found.differing:,} of {each.found.examples:,}",
            kib(each.found.float32),
            kib(sum(each.found.bytes.values())),
            kib(each.found.bytes.get("real", 0)),
            f"{each.found.compression:.1f}",
        )
        for each in found
    ]
    return Table(columns, rows, frozenset(range(2, len(columns))))


def operations_table(found: Sequence[Deployed]) -> Table:
    """Return the multiplications and additions of one example, and what bits leave of them."""
    columns = (
        "task", "method", "in float32", "of 1-bit weights and inputs", "share", "as words of 64",
        "of 1-bit weights, real inputs", "still real", "times fewer operations",
    )  # fmt: skip
    rows = [
        (
            each.entry.task,
            each.entry.method,
            f"{sum(macs.values()):,}",
            f"{macs.get(ONE_BIT, 0):,}",
            share(each.found, ONE_BIT),
            f"{macs.get(ONE_BIT, 0) / WORD:,.0f}",
            f"{macs.get('1/32', 0):,}",
            f"{macs.get('32/1', 0) + macs.get('32/32', 0):,}",
            f"{each.found.fewer:.1f}",
        )
        for each in found
        for macs in (each.found.macs,)
    ]
    return Table(columns, rows, frozenset(range(2, len(columns))))


def times_table(found: Sequence[Deployed]) -> Table:
    """Return how long a batch takes packed, and how many times as long each other way takes."""
    others = [way for way in WAYS if way != PACKED]
    columns = ["task", "method", "batch", "threads", "packed, ms", *others]
    rows = [
        [
            each.entry.task,
            each.entry.method,
            str(batch),
            str(each.found.threads),
            spread(ours),
            *(times(each.found, way, batch) for way in others),
        ]
        for each in found
        for batch in BATCHES
        if (ours := each.found.timing(PACKED, batch))
    ]
    return Table(columns, rows, frozenset(range(2, len(columns))))


def layers_table(found: Sequence[Deployed]) -> Table:
    """Return how long the largest binary layers take by themselves, packed and by PyTorch."""
    columns = (
        "task", "method", "layer", "kind", "inputs and outputs", "bits", "batch", "packed, ms",
        f"{DEFAULT}, ms", DEFAULT, BEST,
    )  # fmt: skip
    rows = [
        (
            each.entry.task,
            each.entry.method,
            layer.name,
            layer.kind,
            layer.shape,
            bits(*layer.bits.split("/")),
            str(batch),
            spread(ours),
            spread(layer.timing(DEFAULT, batch)),
            times(layer, DEFAULT, batch),
            times(layer, BEST, batch),
        )
        for each in found
        for layer in each.found.layers
        for batch in BATCHES
        if (ours := layer.timing(PACKED, batch))
    ]
    return Table(columns, rows, frozenset(range(6, len(columns))))


def energy_table(found: Sequence[Deployed]) -> Table:
    """Return the energy of one example each way, in batches; no rows where none could be read."""
    columns = ("task", "method", "batch", *WAYS)
    rows = [
        (
            each.entry.task,
            each.entry.method,
            str(batch),
            *(joules(each.found.timing(way, batch)) for way in WAYS),
        )
        for each in found
        for batch in BATCHES
        if any(t.joules is not None for t in each.found.timings if t.batch == batch)
    ]
    return Table(columns, rows, frozenset(range(2, len(columns))))


def spread(timing: Timing | None) -> str:
    """Return the milliseconds of a batch: median and quartiles.

    >>> spread(Timing("packed", 1, 0.5, 0.4, 0.75))
    '0.500 (0.400 to 0.750)'
    """
    if timing is None:
        return NONE
    return f"{digits(timing.median)} ({digits(timing.low)} to {digits(timing.high)})"


def joules(timing: Timing | None) -> str:
    """Return the energy of one example in millijoules: median and quartiles, where it is known.

    >>> joules(Timing("packed", 1, 0.5, 0.4, 0.75, 0.25, 0.125, 0.5))
    '250 (125 to 500)'
    """
    known = () if timing is None else (timing.joules, timing.joules_low, timing.joules_high)
    if not known or None in known:
        return NONE
    median, low, high = (digits(1000 * value) for value in known if value is not None)
    return f"{median} ({low} to {high})"


def kib(count: float) -> str:
    """Return bytes in KiB.

    >>> kib(1536), kib(11_000_000)
    ('1.5', '10,742')
    """
    size = count / 1024
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}"


def share(found: Deployment, *bits: str) -> str:
    """Return which share of the multiplications and additions has these bits, in percent."""
    total = sum(found.macs.values())
    return f"{100 * sum(found.macs.get(b, 0) for b in bits) / total:.1f}{SPACE}%" if total else NONE


def times(found: Timed, way: str, batch: int) -> str:
    """Return how many times as long as packed bits a way takes."""
    speedup = found.speedup(way, batch)
    return f"{speedup:.2f}{SPACE}×" if speedup is not None else NONE


def conditions(found: Sequence[Deployed]) -> str:
    """Return on what was timed, in how many rounds, and how much of it others used at most."""
    busy: dict[str, float] = {}
    for each in found:
        where = _conditions(each.found)
        busy[where] = max(busy.get(where, 0.0), each.found.foreign or 0.0)
    return "; ".join(
        f"{where}, others used up to {share:.0%} of the machine" if share >= QUIET else where
        for where, share in busy.items()
    )


def _conditions(found: Deployment) -> str:
    machine: dict[str, Any] = {"processor": "", "cores": "", **found.environment}
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    torch = machine.get("packages", {}).get("torch", "")
    return (
        f"{machine['processor']}, {machine['cores']} cores, torch {torch}: {threads},"
        f" n = {found.rounds} rounds"
    )

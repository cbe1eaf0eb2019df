"""What is claimed of binary networks, beside what the networks of a study were measured to do.

A claim has its numbers from one machine, and often from a count. Beside it stands what comes
nearest to it: whole networks beside a whole network, layers beside a layer; or that nothing does.

source: Sharifi and Mansouri's slides on the geometry of binary networks (2019); Paren and Poudel's
poster on BNEW (2022); for what was measured the abstract of Courbariaux et al. (2016), and that of
Rastegari et al. (2016) as it stands in Communications of the ACM (2020)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bnnbench.deployments import BATCHES, DEFAULT, ONE_BIT, WAYS, Timed
from bnnbench_reports.tables import SPACE, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bnnbench_reports.deployed import Deployed

    Measure = Callable[[Sequence[Deployed]], Iterable[str]]

NOTHING = "not measured in this study"
SLIDES, POSTER = "Sharifi and Mansouri 2019", "Paren and Poudel 2022"


class Claim(NamedTuple):
    """A number that is said of binary networks, who says it, and what it was measured on."""

    said: str
    source: str
    origin: str
    measure: Measure


def claims_table(found: Sequence[Deployed]) -> Table:
    """Return each claim beside what was measured in the study."""
    columns = ("claim", "source", "what it was", "measured in this study")
    rows = [
        (claim.said, claim.source, claim.origin, "; ".join(claim.measure(found)) or NOTHING)
        for claim in CLAIMS
    ]
    return Table(columns, rows)


def memory(found: Sequence[Deployed]) -> Iterator[str]:
    """Yield how many times smaller the networks of a task are, with what stays real."""
    for place, mine in _by_place(found).items():
        yield f"{place}: {_times([each.found.compression for each in mine])}, {_networks(mine)}"


def networks(found: Sequence[Deployed]) -> Iterator[str]:
    """Yield how many times faster the networks with 1-bit inputs are."""
    for place, mine in _by_place(found).items():
        timed = [each.found for each in mine if each.found.macs.get(ONE_BIT)]
        if said := _faster(timed):
            yield f"{place}: {said}, {against(mine)}"


def dense(found: Sequence[Deployed]) -> Iterator[str]:
    """Yield how many times faster dense layers with 1-bit inputs are."""
    return _layers(found, "dense")


def convolutions(found: Sequence[Deployed]) -> Iterator[str]:
    """Yield the same of convolutions, and how many operations are left of whole networks."""
    yield from _layers(found, "convolution")
    for place, mine in _by_place(found).items():
        fewer = [each.found.fewer for each in mine if each.found.macs.get(ONE_BIT)]
        if fewer:
            yield f"{place}, all layers, counted: {_times(fewer)} fewer operations"


def _layers(found: Sequence[Deployed], kind: str) -> Iterator[str]:
    for place, mine in _by_place(found).items():
        layers = [
            a for each in mine for a in each.found.layers if (a.kind, a.bits) == (kind, ONE_BIT)
        ]
        for shape in dict.fromkeys(layer.shape for layer in layers):
            if said := _faster([layer for layer in layers if layer.shape == shape]):
                yield f"{place}, {shape}: {said}, {against(mine)}"


def _faster(timed: Sequence[Timed]) -> str:
    """How many times faster packed bits are than float32, by size of a batch."""
    said = []
    for batch in BATCHES:
        ratios = [r for each in timed if (r := each.speedup(DEFAULT, batch)) is not None]
        if ratios:
            said.append(f"{_times(ratios)} in batches of {batch}")
    return ", ".join(said)


def against(found: Iterable[Deployed]) -> str:
    """Return with what was compared, on how many threads, in how many rounds."""
    kinds = {(each.found.threads, each.found.rounds): None for each in found}
    turns = " and ".join(
        f"{threads} thread{'s' if threads > 1 else ''}, n = {rounds}" for threads, rounds in kinds
    )
    return f"against {WAYS[DEFAULT]} ({turns})"


def _by_place(found: Iterable[Deployed]) -> dict[str, list[Deployed]]:
    """Packed networks by task, network and data set."""
    places: dict[str, list[Deployed]] = {}
    for each in found:
        run = each.entry.run
        name = f"{each.entry.task} ({run.architecture.name} on {run.dataset.name})"
        places.setdefault(name, []).append(each)
    return places


def _times(values: Sequence[float]) -> str:
    """How many times, of several the least and the most."""
    least, most = f"{min(values):.1f}", f"{max(values):.1f}"
    return f"{least}{SPACE}×" if least == most else f"{least} to {most}{SPACE}×"


def _networks(found: Sequence[Deployed]) -> str:
    return f"{len(found)} network{'s' if len(found) > 1 else ''}"


CLAIMS = (
    Claim(
        "32 times less memory",
        f"{POSTER}; {SLIDES}",
        "weights of one bit in place of 32; the slides say so of memory accesses",
        memory,
    ),
    Claim(
        "7 times faster",
        SLIDES,
        "after Courbariaux et al. (2016): an MLP for MNIST on a GPU, against a kernel that was not"
        " optimized",
        networks,
    ),
    Claim(
        "23 times faster",
        SLIDES,
        "products by XNOR and popcount against real ones; no layer, machine or baseline is named",
        dense,
    ),
    Claim(
        "up to 58 times faster on the CPU",
        POSTER,
        "after Rastegari et al. (2016): a convolution of bits, in the number of operations of high"
        " precision",
        convolutions,
    ),
)

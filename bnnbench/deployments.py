"""What the network of a run is as it would be deployed: packed, checked, timed; or why it is not.

Knows no torch: :mod:`bnnbench.packing` measures, the report shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from bnnbench import schema

if TYPE_CHECKING:
    from bnnbench.store import Store

PACKED, DEFAULT, BEST, BF16, INT8 = "packed", "fp32", "fp32-best", "bf16", "int8"
#: the ways to compute a batch, and what each is
WAYS: Mapping[str, str] = {
    PACKED: "packed bits",
    DEFAULT: "float32, PyTorch as it comes",
    BEST: "float32, the fastest that PyTorch has here",
    BF16: "bfloat16 products",
    INT8: "8-bit integers",
}
BATCHES = (1, 100)  #: examples at a time
ONE_BIT = "1/1"  #: the bits of weights and inputs of a product that a word has 64 of
WORD = 64


class Timing(NamedTuple):
    """How long a batch takes one way: milliseconds, median and quartiles over the rounds.

    ``joules`` are those that the machine took for one example, likewise, where it can be read.
    """

    way: str
    batch: int
    median: float
    low: float
    high: float
    joules: float | None = None
    joules_low: float | None = None
    joules_high: float | None = None

    @property
    def throughput(self) -> float:
        """Examples in a second, at the median.

        >>> Timing("packed", 100, 2.5, 2.0, 4.0).throughput
        40000.0
        """
        return 1000 * self.batch / self.median


@dataclass(frozen=True)
class Timed:
    """What was timed in several ways, in turns."""

    timings: tuple[Timing, ...]

    def timing(self, way: str, batch: int) -> Timing | None:
        """Return how long a batch of this size takes this way, None where it was not timed."""
        fitting = (t for t in self.timings if (t.way, t.batch) == (way, batch))
        return next(fitting, None)

    def speedup(self, way: str, batch: int) -> float | None:
        """Return how many times longer this way takes than packed bits."""
        theirs, ours = self.timing(way, batch), self.timing(PACKED, batch)
        return theirs.median / ours.median if theirs and ours else None


@dataclass(frozen=True)
class Layer(Timed):
    """A binary layer by itself: packed from words of bits, or real inputs, to its sums.

    ``kind`` is "dense" or "convolution", ``shape`` its inputs and outputs in words, ``bits`` those
    of its weights and inputs ("1/1", "1/32"), ``macs`` its multiplications for one example.
    """

    name: str
    kind: str
    shape: str
    bits: str
    macs: int


@dataclass(frozen=True)
class Deployment(Timed):
    """A packed network that was found to be the trained one, and what it costs.

    ``bytes`` are those of the packed network by kind ("binary", "thresholds", "real"), ``float32``
    those of the trained one; ``macs`` are its multiplications and additions by the bits of weights
    and inputs ("1/1", "1/32", "32/32"). Of ``examples`` of the test split, ``differing`` have
    another prediction and ``strays`` another sign, of a sum within rounding of 0; ``accuracy`` is
    that of the binary mode, in percent. The ways took turns in ``rounds`` on ``threads`` threads,
    while others used the share ``foreign`` of the machine (None: not known). ``layers`` are the
    largest binary layers by themselves.
    """

    bytes: Mapping[str, int]
    float32: int
    macs: Mapping[str, int]
    examples: int
    differing: int
    strays: int
    accuracy: float
    rounds: int
    threads: int
    foreign: float | None
    environment: Mapping[str, Any]
    layers: tuple[Layer, ...] = ()

    @property
    def compression(self) -> float:
        """How many times smaller the packed network is; 32 is the most that one bit can give."""
        return self.float32 / sum(self.bytes.values())

    @property
    def is_metered(self) -> bool:
        """Whether the energy of some batch could be read."""
        return any(timing.joules is not None for timing in self.timings)

    @property
    def fewer(self) -> float:
        """How many times fewer operations there are where 64 products of one bit count as one."""
        left = sum(count / WORD if bits == ONE_BIT else count for bits, count in self.macs.items())
        return sum(self.macs.values()) / left if left else 1.0


class Refusal(NamedTuple):
    """Why a run's network cannot be packed."""

    reason: str


def as_text(found: Deployment | Refusal) -> str:
    """Return it as JSON."""
    plain = found._asdict() if isinstance(found, Refusal) else asdict(found)
    return json.dumps(plain, sort_keys=True)


def of_text(text: str) -> Deployment | Refusal:
    """Return what :func:`as_text` wrote.

    >>> of_text(as_text(Refusal("its weights are ternary")))
    Refusal(reason='its weights are ternary')
    """
    plain = json.loads(text)
    if "reason" in plain:
        return Refusal(**plain)
    layers = tuple(Layer(**_timed(layer)) for layer in plain.get("layers", ()))
    return Deployment(**_timed(plain) | {"layers": layers})


def _timed(plain: dict[str, Any]) -> dict[str, Any]:
    """What JSON has of something timed, its timings as they were."""
    return plain | {"timings": tuple(Timing(*each) for each in plain["timings"])}


def keep(store: Store, run_id: int, found: Deployment | Refusal) -> None:
    """Keep what was found of a run, in place of what was found before."""
    d = schema.deployments
    with store.begin() as connection:
        connection.execute(sa.delete(d).where(d.c.run_id == run_id))
        connection.execute(d.insert(), {"run_id": run_id, "spec": as_text(found)})


def kept(store: Store, study: str) -> dict[int, Deployment | Refusal]:
    """Return what was found of a study's runs, by run."""
    d, e, s = schema.deployments, schema.entries, schema.studies
    mine = sa.select(e.c.run_id).join(s, s.c.id == e.c.study_id).where(s.c.name == study)
    query = sa.select(d).where(d.c.run_id.in_(mine)).order_by(d.c.run_id)
    with store.begin() as connection:
        return {row.run_id: of_text(row.spec) for row in connection.execute(query)}

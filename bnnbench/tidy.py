"""The lines of a study's tables, one after the other, read by a few runs at a time.

Runs come by task, method, role and number, so that the order does not depend on who was first; what
was measured comes by run, metric, split, mode, layer and epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench import binding
from bnnbench.catalogue import chunks
from bnnbench.database import many_made
from bnnbench.dictionary import DICTIONARY, LAYERS, MEASUREMENTS, RESULTS, RUNS, TABLES
from bnnbench.entries import ENDED
from bnnbench.outcomes import Outcome
from bnnbench.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnnbench.columns import Column, Table
    from bnnbench.entries import Entry
    from bnnbench.runs import Run
    from bnnbench.series import Measured, Series
    from bnnbench.store import Store

TOGETHER = 16  #: runs whose series are read at once; those of a deep network are a few megabytes
NOTHING = Outcome(None, None, {}, {}, {})  #: of a run that has not ended


class Placed(NamedTuple):
    """A run in its place in a study, and all that its row tells."""

    study: str
    entry: Entry
    outcome: Outcome
    selected_epoch: int | None
    environment: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """What was trained."""
        return self.entry.run


class Reading(NamedTuple):
    """A measurement and the key of its run."""

    key: str
    measured: Measured


class Tidy:
    """The tables of a study."""

    def __init__(self, store: Store, name: str) -> None:
        self.results, self._store = Results(store, name), store
        self.entries = sorted(self.results.entries, key=_place)

    def rows(self, table: Table) -> Iterator[list[Any]]:
        """Yield the rows of a table of :data:`bnnbench.dictionary.TABLES`."""
        lines = {
            RUNS.name: self.runs,
            MEASUREMENTS.name: self.measurements,
            LAYERS.name: self.layers,
            RESULTS.name: self.results.rows,
            DICTIONARY.name: columns,
        }
        return table.rows(lines[table.name]())

    def runs(self) -> Iterator[Placed]:
        """Yield every run in its place."""
        name, environments = self.results.name, self.results.environments
        outcomes: dict[int, Outcome] = {}
        for state in ENDED:
            outcomes |= self._store.outcomes(name, state)
        selected = self._selected()
        for entry in self.entries:
            yield Placed(
                name,
                entry,
                outcomes.get(entry.run_id, NOTHING),
                selected.get(entry.run_id),
                environments.get(entry.environment, {}),
            )

    def _selected(self) -> dict[int, int]:
        """The selected epochs of the runs that have one."""
        found = self._store.series(self.results.name, ["selected_epoch"])
        return {series.run_id: int(max(series.values().values())) for series in found}

    def measurements(self) -> Iterator[Reading]:
        """Yield what was measured over all layers."""
        return _readings(self.series(layer=[""]))

    def layers(self) -> Iterator[Reading]:
        """Yield what was measured of each layer."""
        return _readings(pair for pair in self.series() if pair[1].layer)

    def series(self, **wanted: Sequence[str]) -> Iterator[tuple[str, Series]]:
        """Yield the series of each run with the run's key; ``wanted``: the values of a field."""
        keys = {entry.run_id: entry.run.key for entry in self.entries}
        for some in chunks(list(keys), TOGETHER):
            with self._store.begin() as connection, many_made():
                found = binding.read(connection, some, **wanted)
            found.sort(key=lambda series: some.index(series.run_id))  # the rest is in order
            for series in found:
                yield keys[series.run_id], series


def columns() -> Iterator[tuple[Table, Column]]:
    """Yield every column with its table."""
    return ((table, column) for table in TABLES for column in table.columns)


def _place(entry: Entry) -> tuple[str, str, str, int]:
    return entry.task, entry.method, entry.role, entry.number


def _readings(found: Iterator[tuple[str, Series]]) -> Iterator[Reading]:
    return (Reading(key, measured) for key, series in found for measured in series.measured())

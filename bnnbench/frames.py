"""A study as pandas frames, for notebooks; made by :func:`bnnbench.load_study`.

The columns are those of :mod:`bnnbench.dictionary`. Texts are strings, whole numbers and flags have
pandas' types that can be missing, nested values are dicts and lists.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnbench.dictionary import LAYERS, MEASUREMENTS, RESULTS, RUNS
from bnnbench.errors import UsageError, suggestion
from bnnbench.formats import need
from bnnbench.results import POINT
from bnnbench.store import Store
from bnnbench.tidy import Tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pandas import DataFrame

    from bnnbench.columns import Kind, Table
    from bnnbench.series import Series

DTYPES: Mapping[Kind, str] = {
    "text": "str",
    "integer": "Int64",
    "number": "float64",
    "flag": "boolean",
    "json": "object",
}


class StudyFrames:
    """The tables of a study, each read from the database when it is asked for."""

    def __init__(self, name: str, storage: str | Path | None = None) -> None:
        self._pandas = need("pandas", "frames")
        self.name = name
        self._store = Store(str(storage or default_storage()), create=False)
        self._store.study(name)  # says that there is none, and which is near

    def __repr__(self) -> str:
        return f"<study {self.name!r} in {self._store.url.render_as_string(hide_password=True)}>"

    def runs(self) -> DataFrame:
        """Return a row for each run in its place in the study, in whatever state."""
        return self._read(RUNS)

    def results(self) -> DataFrame:
        """Return the table of results, with the figures of ``study show`` and of the report."""
        return self._read(RESULTS)

    def measurements(
        self,
        metric: str | Iterable[str] | None = None,
        *,
        split: str | Iterable[str] | None = None,
        mode: str | Iterable[str] | None = None,
    ) -> DataFrame:
        """Return what was measured over all layers, all of it or of some metrics, splits, modes.

        Raises:
            UsageError: no run of the study has such a metric, split or mode.
        """
        asked = {"metric": metric, "split": split, "mode": mode}
        return self._measured(MEASUREMENTS, asked, lambda series: not series.layer)

    def layers(
        self, metric: str | Iterable[str] | None = None, *, layer: str | Iterable[str] | None = None
    ) -> DataFrame:
        """Return what was measured of each layer, all of it or of some metrics and layers.

        Raises:
            UsageError: no run of the study has such a metric or layer.
        """
        asked = {"metric": metric, "layer": layer}
        return self._measured(LAYERS, asked, lambda series: bool(series.layer))

    def _read(self, table: Table) -> DataFrame:
        rows = list(Tidy(self._store, self.name).rows(table))
        cells = zip(*rows, strict=True) if rows else ([] for _ in table.columns)
        return self._frame(table, dict(zip(table.names, map(list, cells), strict=True)))

    def _measured(
        self, table: Table, asked: Mapping[str, Any], fits: Callable[[Series], bool]
    ) -> DataFrame:
        """The measurements that fit, of those fields and values that are asked for."""
        wanted = {field: _listed(value) for field, value in asked.items() if value is not None}
        tidy = Tidy(self._store, self.name)
        found = [pair for pair in tidy.series(**wanted) if fits(pair[1])]
        got = {(field, getattr(series, field)) for _, series in found for field in wanted}
        for field, values in wanted.items():
            for value in values:
                if (field, value) not in got:
                    self._check_known(field, value, filter(fits, (s for _, s in tidy.series())))
        return self._frame(table, _spelled_out(found))

    def _check_known(self, field: str, value: str, every: Iterable[Series]) -> None:
        """Refuse a value that nothing measured has, where something is measured."""
        known = {getattr(series, field) for series in every}
        if known and value not in known:
            hint = suggestion(value, known)
            raise UsageError(f"no run of study {self.name!r} has the {field} {value!r}{hint}")

    def _frame(self, table: Table, values: Mapping[str, Any]) -> DataFrame:
        pandas = self._pandas
        return pandas.DataFrame(
            {
                column.name: pandas.Series(values[column.name], dtype=DTYPES[column.kind])
                for column in table.columns
            }
        )


def default_storage() -> str:
    """Return the database that the command line takes when it is given none."""
    from bnnbench.cli.options import DEFAULT_STORAGE

    return os.environ.get("BNNBENCH_STORAGE") or DEFAULT_STORAGE


def _listed(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _spelled_out(found: Sequence[tuple[str, Series]]) -> dict[str, Any]:
    """The points of series with what they are points of, each field an array."""
    points = np.frombuffer(b"".join(series.points for _, series in found), POINT)
    counts = [len(series.points) // POINT.itemsize for _, series in found]
    names = {"key": [key for key, _ in found]}
    names |= {
        field: [getattr(series, field) for _, series in found]
        for field in ("metric", "split", "mode", "layer")
    }
    return {name: points[name] for name in POINT.names or ()} | {
        name: np.repeat(np.array(values, dtype=object), counts) for name, values in names.items()
    }

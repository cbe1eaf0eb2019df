"""The formats of a table in a file: CSV, JSON Lines, Parquet. Each is written row by row.

    csv      RFC 4180 in UTF-8; floats have as many digits as it takes to read the same again, flags
             are true and false, what is missing is empty, nested values are JSON
    jsonl    an object a line, all in ASCII; nested values are nested, what is missing is null
    parquet  what is missing is null, nested values are JSON in texts; units and meanings are in the
             fields' metadata

A text in a CSV file that a spreadsheet would take for a formula has an apostrophe before it, and so
has a text that begins with one: without its first apostrophe each is what it was. The other formats
change nothing.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from bnnbench.columns import Kind, Table

Rows = Iterable[list[Any]]
Writer = Callable[["Path", "Table", Rows], None]

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  #: what spreadsheets compute from
GROUP = 50_000  #: rows of a group in a Parquet file, which is made in memory


def write_csv(path: Path, table: Table, rows: Rows) -> None:
    """Write a table as CSV."""
    tell = [_TOLD.get(column.kind, _itself) for column in table.columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.names)
        for row in rows:
            writer.writerow([told(value) for told, value in zip(tell, row, strict=True)])


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    >>> guarded("=1+1"), guarded("'tis"), guarded("bop"), guarded("")
    ("'=1+1", "''tis", 'bop', '')
    """
    return f"'{text}" if text.startswith((*FORMULA, "'")) else text


def _itself(value: Any) -> Any:
    return value  # the csv module writes a float as its repr, None as nothing


_TOLD: Mapping[Kind, Callable[[Any], Any]] = {
    "text": guarded,
    "flag": lambda value: None if value is None else str(value).lower(),
    "json": lambda value: _json(value),
}


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True)


def write_jsonl(path: Path, table: Table, rows: Rows) -> None:
    """Write a table as JSON Lines."""
    names = table.names
    with path.open("w", encoding="ascii", newline="\n") as file:
        for row in rows:
            named = dict(zip(names, row, strict=True))
            file.write(json.dumps(named, allow_nan=False) + "\n")


def write_parquet(path: Path, table: Table, rows: Rows) -> None:
    """Write a table as Parquet, a group of rows after the other."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema, source = _schema(table), iter(rows)
    nested = [n for n, column in enumerate(table.columns) if column.kind == "json"]
    with ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(source, GROUP)):
            for row, n in itertools.product(group, nested):
                row[n] = _json(row[n])
            columns = zip(schema, zip(*group, strict=True), strict=True)
            arrays = [pa.array(values, field.type) for field, values in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _schema(table: Table) -> Any:
    """The names, types, units and meanings of a table's columns."""
    import pyarrow as pa

    types = {"integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
    return pa.schema(
        pa.field(
            column.name,
            types.get(column.kind, pa.string()),
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in table.columns
    )


FORMATS: Mapping[str, Writer] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def writer(name: str) -> Writer:
    """Return what writes tables in a format.

    Raises:
        UsageError: there is no such format, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"a format must be one of {', '.join(FORMATS)}, got {name!r}")
    if name == "parquet":
        need("pyarrow", "Parquet files, or choose the format csv or jsonl")
    return FORMATS[name]


def need(package: str, purpose: str) -> Any:
    """Return a package of the extra "frames".

    Raises:
        UsageError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise UsageError(
            f"{package} is not installed; pip install 'bnnbench[frames]' for {purpose}"
        ) from None

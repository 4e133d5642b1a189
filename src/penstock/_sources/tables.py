"""Tables with a column of paths: CSV, JSON lines, Parquet; a row's other columns travel with its item."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock._contracts import Item
from penstock._sources.paths import AnyPath, id_of, stamp_of
from penstock.errors import MissingDependency, UsageError

PATH_COLUMNS = ("path", "file", "filename", "image")
"""Names that a column of paths may have, the first one found being taken."""

_CHUNK_ROWS = 1024

Row = Mapping[str, Any]


class TableSource:
    """The files that a table names; ids are the paths as they stand there, and relative ones start at its folder.

    `column`: the column of paths; without it the first of `path`, `file`, `filename`, `image` that the table has. No
    suffix is asked for, and a missing file is an item that fails. One chunk of rows is in memory. A folder called
    `NAME.parquet` is read as its parts in the order of their names.

    Raises:
        UsageError: while reading: no such column, a row without a path, or what is no table of its kind.
        MissingDependency: a `.parquet` without pyarrow.
    """

    positional = False
    ignored = 0

    def __init__(self, path: AnyPath, column: str | None = None) -> None:
        """Take the table; nothing is read yet."""
        self._path = Path(path)
        self._column = column
        self._count: int | None = None
        self._read = _reader(self._path)

    def __iter__(self) -> Iterator[Item]:
        """Yield one item for each row."""
        folder = os.fsencode(self._path.parent)
        for raw, row in self._paths():
            path = os.path.join(folder, raw)
            yield Item(id_of(raw), os.fsdecode(path), row, stamp_of(path))

    def ids(self) -> Iterator[str]:
        """Yield the ids alone, without a look at the files."""
        return (id_of(raw) for raw, _ in self._paths())

    def count(self) -> int:
        """Return the number of rows; the table is read through for it once."""
        if self._count is None:
            self._count = sum(1 for _ in self._paths())
        return self._count

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return {"kind": "table", "column": self._column}

    def __repr__(self) -> str:
        return f"TableSource({str(self._path)!r}, column={self._column!r})"

    def _paths(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        column = self._column
        n = 0
        for where, row in self._read(self._path):
            n += 1
            column = column or self._choose(row)
            yield self._raw(row, column, where), {name: value for name, value in row.items() if name != column}
        self._count = n

    def _choose(self, row: Row) -> str:
        for name in PATH_COLUMNS:
            if name in row:
                return name
        raise UsageError(
            f"{self._path} has no column of paths: its columns are {_listed(row)}, and none is called "
            f"{', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}. Rename the column that has the paths."
        )

    def _raw(self, row: Row, column: str, where: str) -> bytes:
        if column not in row:
            raise UsageError(f"{self._path}, {where}: there is no column {column!r}, only {_listed(row)}.")
        value = row[column]
        if not isinstance(value, str) or not value:
            raise UsageError(f"{self._path}, {where}: the column {column!r} has {value!r} where a path should be.")
        try:
            return os.fsencode(value)
        except UnicodeEncodeError as error:
            raise UsageError(f"{self._path}, {where}: {value!r} can be no file name: {error.reason}.") from error


def read_rows(path: AnyPath) -> Iterator[tuple[str, Row]]:
    """Yield (where, row by column) of a table, one chunk at a time; `where` is "line 7". Raises as `TableSource`."""
    return _reader(Path(path))(Path(path))


def _reader(path: Path) -> Callable[[Path], Iterator[tuple[str, Row]]]:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise UsageError(f"{path} is no table: its suffix is none of {', '.join(TABLE_SUFFIXES)}.")
    return _READERS[suffix]


def _listed(row: Row) -> str:
    return ", ".join(map(repr, row)) or "none"


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    # surrogateescape: the bytes of a file name that is not UTF-8 reach the operating system unchanged.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            _check_header(path, names)
            for row in reader:
                if row:
                    yield f"line {reader.line_num}", _csv_row(path, names, row, reader.line_num)
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num}: no CSV: {error}.") from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise UsageError(f"{path} has two columns of one name: {', '.join(map(repr, sorted(double)))}. Rename one.")


def _csv_row(path: Path, names: Sequence[str], row: Sequence[str], line: int) -> Row:
    if len(row) != len(names):
        raise UsageError(f"{path}, line {line}: {len(row)} values for {len(names)} columns.")
    return dict(zip(names, row, strict=True))


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _json_row(path, line, number)


def _json_row(path: Path, line: bytes, number: int) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}, line {number}: no JSON: {error}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path}, line {number}: {type(row).__name__} where an object with columns should be.")
    return row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingDependency.of("pyarrow", "parquet", f"Reading {path}") from error
    number = 0
    for part in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        try:
            # No threads of Arrow's: the interpreter now and then aborts at its end while they are being joined.
            with parquet.ParquetFile(part, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=_CHUNK_ROWS, use_threads=False):
                    for row in batch.to_pylist():
                        yield f"row {number}", row
                        number += 1
        except ArrowInvalid as error:
            raise UsageError(f"{part}: no Parquet: {error}.") from error


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
TABLE_SUFFIXES = tuple(_READERS)

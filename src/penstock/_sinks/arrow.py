"""Rows of (id, output) <-> the bytes of a Parquet file, with columns of the kind that is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from penstock._sinks.kinds import Kind
from penstock._sinks.records import Array, Nulls, to_text
from penstock.errors import LedgerError

Rows = Sequence[tuple[int | str, Any]]
Values = Sequence[Any] | Array
"""The values of a column; an array (N, ...) stands for its N rows."""

_METADATA = b"penstock"
_LIKE_ID = re.compile(r"(output\.)*id")


def to_parquet(rows: Rows, kind: dict[str, Kind], nulls: Nulls) -> bytes:
    """Return a Parquet file of `rows`: `id`, and one column for each key of the outputs (or one called `output`).

    `kind`: that of `{"id": ..., "output": ...}`, wide enough for every row. It is kept in the file's metadata. The same
    rows and kind give the same bytes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, tuple[Kind, Values]] = {"id": (kind["id"], [id_ for id_, _ in rows])}
    columns.update(_output_columns(kind["output"], [output for _, output in rows]))
    arrays = [_array(values, part, nulls) for part, values in columns.values()]
    table = pa.Table.from_arrays(arrays, names=list(columns))
    table = table.replace_schema_metadata({_METADATA: json.dumps(kind)})
    buffer = pa.BufferOutputStream()
    parquet.write_table(table, buffer, row_group_size=max(len(rows), 1))
    return bytes(buffer.getvalue())


def _output_columns(kind: Kind, outputs: Sequence[Any]) -> dict[str, tuple[Kind, Values]]:
    if not isinstance(kind, dict) or not kind:
        return {"output": (kind, outputs)}
    return {_column(name): (part, _field(outputs, name)) for name, part in kind.items()}


def _column(name: str) -> str:
    """Return the column of a key; one called `id` would be the column of the ids, so it is `output.id`, and so on."""
    return f"output.{name}" if _LIKE_ID.fullmatch(name) else name


def _field(values: Iterable[Any], name: str) -> list[Any]:
    return [None if value is None else value.get(name) for value in values]


def kind_in(path: Path) -> dict[str, Kind]:
    """Return the kind that a file was written with."""
    with _opened(path) as file:
        kind: dict[str, Kind] = json.loads(file.schema_arrow.metadata[_METADATA])
    return kind


def rows_in(path: Path) -> int:
    """Return the number of rows of a file."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def from_parquet(path: Path) -> list[tuple[int | str, Any]]:
    """Return the rows of a file; their kind is that of the file, or a narrower one."""
    with _opened(path) as file:
        table = file.read(use_threads=False)
    kind = json.loads(table.schema.metadata[_METADATA])
    ids = _values(table["id"].combine_chunks(), kind["id"])
    output = kind["output"]
    if not isinstance(output, dict) or not output:
        outputs = _python(_values(table["output"].combine_chunks(), output))
    else:
        parts = [_python(_values(table[_column(name)].combine_chunks(), part)) for name, part in output.items()]
        outputs = [dict(zip(output, row, strict=True)) for row in zip(*parts, strict=True)]
    return list(zip(_python(ids), outputs, strict=True))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file that was written here. Raises LedgerError where it is none any more.

    Without Arrow's threads: an interpreter now and then aborts at its end while they are being joined.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowInvalid, FileNotFoundError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path} was changed by somebody else: {error}. Bring it back, or start over with --fresh."
        ) from error


# ---- values -> Arrow


def _array(values: Values, kind: Kind, nulls: Nulls) -> Any:
    import pyarrow as pa

    if isinstance(kind, list):
        return _list_array(values, kind, nulls)
    if isinstance(kind, dict) and kind:
        return _struct_array(values, kind, nulls)
    if kind is None:
        return pa.nulls(len(values))
    if kind == "json" or isinstance(kind, dict):
        return pa.array([None if value is None else to_text(value, "", nulls) for value in values], pa.string())
    if kind == "str":
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return _number_array(values, np.dtype(kind))


def _number_array(values: Values, dtype: np.dtype[Any]) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        return pa.array(values.astype(dtype, copy=False))
    missing = np.array([value is None for value in values], np.bool_)
    numbers = np.array([0 if value is None else value for value in values], dtype)
    return pa.array(numbers, mask=missing) if missing.any() else pa.array(numbers)


def _list_array(values: Values, kind: list[Any], nulls: Nulls) -> Any:
    import pyarrow as pa

    _, part, length = kind
    inner = _array(_joined(values), part, nulls)
    if length is not None:
        return pa.FixedSizeListArray.from_arrays(inner, length)
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int32)]).astype(np.int32)
    missing = np.array([*(value is None for value in values), False], np.bool_)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=missing), inner)


def _joined(values: Values) -> Values:
    """Return the parts of all lists, one after another; as one array where all are arrays of one form."""
    if isinstance(values, np.ndarray):
        return values.reshape(-1, *values.shape[2:])
    there = [value for value in values if value is not None]
    forms = {(value.shape[1:], value.dtype) if isinstance(value, np.ndarray) else None for value in there}
    if len(forms) == 1 and None not in forms:
        return np.concatenate(there)
    return list(chain.from_iterable(there))


def _struct_array(values: Values, kind: dict[str, Kind], nulls: Nulls) -> Any:
    import pyarrow as pa

    parts = [_array(_field(values, name), part, nulls) for name, part in kind.items()]
    missing = np.array([value is None for value in values], np.bool_)
    mask = pa.array(missing) if missing.any() else None
    return pa.StructArray.from_arrays(parts, names=list(kind), mask=mask)


# ---- Arrow -> values


def _values(array: Any, kind: Kind) -> Values:
    if isinstance(kind, list):
        return _lists(array, kind)
    if isinstance(kind, dict) and kind:
        return _structs(array, kind)
    if kind == "json" or isinstance(kind, dict):
        return [None if text is None else json.loads(text) for text in array.to_pylist()]
    if kind is None or kind == "str":
        return list(array.to_pylist())
    return _numbers(array, np.dtype(kind))


def _numbers(array: Any, dtype: np.dtype[Any]) -> Values:
    if array.null_count == 0:
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype)
    return [None if value is None else dtype.type(value) for value in array.to_pylist()]


def _lists(array: Any, kind: list[Any]) -> Values:
    _, part, length = kind
    inner = _values(array.flatten(), part)
    if length is not None and isinstance(inner, np.ndarray):
        return inner.reshape(-1, length, *inner.shape[1:])
    lengths = [length] * len(array) if length is not None else array.value_lengths().to_pylist()
    rows, begin = [], 0
    for n in lengths:
        rows.append(None if n is None else inner[begin : begin + n])
        begin += n or 0
    return rows


def _structs(array: Any, kind: dict[str, Kind]) -> Values:
    parts = [_python(_values(array.field(i), part)) for i, part in enumerate(kind.values())]
    rows = [dict(zip(kind, row, strict=True)) for row in zip(*parts, strict=True)]
    there = array.is_valid().to_pylist()
    return [row if valid else None for row, valid in zip(rows, there, strict=True)]


def _python(values: Values) -> Iterable[Any]:
    """Return values for a dict: rows of an array stay arrays, plain numbers of Python's own types become those."""
    plain = isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.name in ("bool", "int64", "float64")
    return values.tolist() if plain else values  # type: ignore[union-attr]

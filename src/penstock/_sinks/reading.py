"""The items of a job with their outputs, read back from whatever kind of output it has."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock._sinks.ledger import DONE, FAILED, MENDED
from penstock._sinks.records import Row
from penstock.errors import LedgerError, PenstockError

_BY_PLACE = "SELECT id, path, state, place FROM items ORDER BY place"
# In a folder a result has no place: there is one where the item is done, or where some of its models are.
_BY_POSITION = """
SELECT id, path, state, CASE WHEN state = ? OR EXISTS (SELECT 1 FROM answers a WHERE a.position = i.position) THEN 0 END
FROM items i ORDER BY position
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a job. `there`: it has a result, which is `output`; `failed`: it failed, or some of its models did."""

    id: int | str
    path: str | None
    failed: bool
    there: bool
    output: Any = None


def entries(db: sqlite3.Connection, out: Path, job: Path, state: Mapping[str, Any] | None) -> Iterator[Entry]:
    """Yield the items of the ledger `db` in the order of their results; those without a result come first.

    A row at a time is in memory (a part of Parquet). Rows that the ledger does not count (of items that were done
    again since, or behind the last commit) are passed over. Arrays of outputs may stay references, see `split_arrays`.

    Args:
        db: a connection in a transaction, so that it and `state` are of one moment.
        out: the output.
        job: the job's own folder.
        state: the sink's state in the ledger.

    Raises:
        LedgerError: the output is not what the ledger says, or a rewrite of it was interrupted.
        MissingDependency: a `.parquet` without pyarrow.
    """
    if not out.suffix:
        yield from _in_folder(db, out)
        return
    with _intact(out):
        _refuse_rewrite(out, job, state)
        rows = iter(()) if state is None else _READERS[out.suffix.lower()](out, job, state)
        for id_, path, is_now, place in db.execute(_BY_PLACE):
            there = place is not None
            output = _output_at(rows, place, id_, out) if there else None
            yield Entry(id_, _text(path), is_now in (FAILED, MENDED), there, output)


def _in_folder(db: sqlite3.Connection, out: Path) -> Iterator[Entry]:
    from penstock._sinks.folder import read_one

    with _intact(out):
        for id_, path, is_now, there in db.execute(_BY_POSITION, (DONE,)):
            output = None if there is None else read_one(out, id_)
            yield Entry(id_, _text(path), is_now in (FAILED, MENDED), there is not None, output)


def _text(path: bytes | None) -> str | None:
    return None if path is None else os.fsdecode(path)


def _output_at(rows: Iterator[Row], place: int, id_: int | str, out: Path) -> Any:
    """Return the output of the row at `place`; those before it are passed over."""
    row = next((row for row in rows if row[0] >= place), None)
    if row is None or row[:2] != (place, id_):
        found = "there is no such row" if row is None else f"row {row[0]:,} is that of {row[1]!r}"
        raise _changed(out, f"the ledger has {id_!r} in row {place:,}, and {found}")
    return row[2]


@contextmanager
def _intact(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        if isinstance(error, PenstockError):  # some are ValueErrors, too
            raise
        raise _changed(out, f"{type(error).__name__}: {error}") from error


def _changed(out: Path, how: str) -> LedgerError:
    return LedgerError(
        f"{out} cannot be read back: {how}. If a run is writing it, wait for its end; if somebody else changed it, "
        "bring it back, or start over with --fresh."
    )


def _refuse_rewrite(out: Path, job: Path, state: Mapping[str, Any] | None) -> None:
    generation = 0 if state is None else int(state["generation"])
    if generation and (job / f"rewrite-{generation}").with_suffix(_REWRITTEN[out.suffix.lower()]).exists():
        raise LedgerError(
            f"{out} was being put in order when its run was killed. Run the same command again, which completes that."
        )


def _jsonl(out: Path, *_: object) -> Iterator[Row]:
    from penstock._sinks.jsonl import read_jsonl

    return read_jsonl(out)


def _parquet(out: Path, job: Path, state: Mapping[str, Any]) -> Iterator[Row]:
    from penstock._sinks.parquet import read_parquet

    return read_parquet(out, job, state)


def _sqlite(out: Path, *_: object) -> Iterator[Row]:
    from penstock._sinks.sqlite import read_sqlite

    return read_sqlite(out)


_READERS: dict[str, Callable[[Path, Path, Mapping[str, Any]], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
_REWRITTEN = {".jsonl": ".jsonl", ".parquet": "", ".sqlite": ".sqlite"}

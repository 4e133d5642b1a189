"""What a job has: its items with their files, and its results, whatever kind of output they are in."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock._job import job_folder
from penstock._sinks.names import SUFFIXES, stem_of
from penstock.errors import ItemError, LedgerError

Id = int | str
_WITH_RESULT = (1, 2)
"""States of items that may have one: done, or failed on some models only."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An item in the ledger: where its file is (None for an item of an iterable), and its state there."""

    id: Id
    path: str | None
    state: int


def listed(out: Path) -> Iterator[Listed]:
    """Yield the items of the job at `out` in input order; another process may be at work on it."""
    query = "SELECT id, path, state FROM items ORDER BY position"
    with closing(sqlite3.connect(job_folder(out) / "ledger.sqlite")) as db:
        for id_, path, state in db.execute(query):
            yield Listed(id_, None if path is None else os.fsdecode(path), state)


def results(out: Path) -> Iterator[tuple[Id, Any]]:
    """Yield (id, output) of all results that are there now, in the order of the output.

    Arrays may be numpy's, lists, or what stands for them in JSON. Of a job that goes on, some of the last may be
    missing. Raises LedgerError where the output holds something else than results.
    """
    kind = {".jsonl": _of_lines, ".sqlite": _of_sqlite, ".parquet": _of_parquet}.get(out.suffix.lower(), _of_folder)
    try:
        yield from kind(out)
    except (ValueError, KeyError, TypeError, sqlite3.DatabaseError) as error:
        raise LedgerError(
            f"{out} holds something that is no result of penstock ({type(error).__name__}: {error}). Bring it back, or "
            "start over with --fresh."
        ) from error


def _of_lines(out: Path) -> Iterator[tuple[Id, Any]]:
    if not out.exists():
        return
    with out.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # else it is being written
                record = json.loads(line)
                yield record["id"], record["output"]


def _of_folder(out: Path) -> Iterator[tuple[Id, Any]]:
    for item in listed(out):
        if item.state not in _WITH_RESULT:
            continue
        try:
            record = json.loads((out / (stem_of(item.id) + SUFFIXES[0])).read_bytes())
        except (FileNotFoundError, ItemError):
            continue
        yield item.id, record["output"]


def _of_sqlite(out: Path) -> Iterator[tuple[Id, Any]]:
    if not out.exists():
        return
    with closing(sqlite3.connect(out)) as db:
        for id_, text in db.execute("SELECT id, output FROM results ORDER BY place"):
            yield id_, json.loads(text)


def _of_parquet(out: Path) -> Iterator[tuple[Id, Any]]:
    from penstock._sinks.arrow import from_parquet

    for part in sorted(out.glob("part-*.parquet")):
        yield from from_parquet(part)

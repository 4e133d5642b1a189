"""The ledger: what is planned, done and failed, under which fingerprint. SQLite in WAL mode in the job's own folder.

Durable before done: a sink makes its rows durable, then one transaction here says so. What a kill leaves beyond the
last transaction is cut off when the job is opened again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from penstock._contracts import Failure, Item
from penstock._sinks.answers import pack, unpack
from penstock._sinks.damage import damaged, refuse_truncated, schema_of, unwritable
from penstock.errors import LedgerError

VERSION = 2
PENDING, DONE, FAILED, MENDED = 0, 1, 2, 3
"""States of an item; MENDED: it failed, and its file has changed since, so that both a run and a retry do it again."""

_NO_END = 2**62
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (position INTEGER PRIMARY KEY, id, path BLOB, columns TEXT, size INTEGER, mtime_ns INTEGER,
                    state INTEGER NOT NULL DEFAULT 0, place INTEGER);
CREATE TABLE failures (position INTEGER, id, stage TEXT, model TEXT, type TEXT, message TEXT, attempts INTEGER,
                       PRIMARY KEY (position, model));
CREATE TABLE answers (position INTEGER, id, model TEXT, tree TEXT, arrays BLOB, PRIMARY KEY (position, model));
"""
_LISTED = """
CREATE TEMP TABLE listed (position INTEGER PRIMARY KEY, id, path BLOB, columns TEXT, size INTEGER, mtime_ns INTEGER)
"""
_SAME = """
SELECT NOT EXISTS (SELECT 1 FROM listed l LEFT JOIN items i ON i.position = l.position AND i.id = l.id
                   AND i.size IS l.size AND i.mtime_ns IS l.mtime_ns AND i.columns IS l.columns
                   AND i.path IS l.path WHERE i.position IS NULL)
   AND (SELECT count(*) FROM listed) = (SELECT count(*) FROM items WHERE position >= 0)
"""
# A vanished item keeps its result (negative position: in front of all others); a failed or pending one is forgotten.
_MERGE = """
CREATE INDEX item_id ON items (id);
CREATE INDEX temp.listed_id ON listed (id);
CREATE TABLE merged AS
    SELECT l.position, l.id, l.path, l.columns, l.size, l.mtime_ns,
           CASE WHEN i.id IS NULL THEN 0
                WHEN i.size IS l.size AND i.mtime_ns IS l.mtime_ns AND i.columns IS l.columns THEN i.state
                WHEN i.state >= 2 THEN 3 ELSE 0 END AS state,
           CASE WHEN i.size IS l.size AND i.mtime_ns IS l.mtime_ns AND i.columns IS l.columns THEN i.place END AS place,
           i.position AS former
    FROM listed l LEFT JOIN items i ON i.id = l.id
    UNION ALL
    SELECT -1 - row_number() OVER (ORDER BY i.position DESC), i.id, i.path, i.columns, i.size, i.mtime_ns, i.state,
           i.place, i.position
    FROM items i WHERE i.state = 1 AND i.id NOT IN (SELECT id FROM listed);
CREATE TABLE merged_failures AS SELECT m.position, f.id, f.stage, f.model, f.type, f.message, f.attempts
    FROM failures f JOIN merged m ON m.former = f.position WHERE m.state = 2;
CREATE TABLE merged_answers AS SELECT m.position, a.id, a.model, a.tree, a.arrays
    FROM answers a JOIN merged m ON m.former = a.position WHERE m.state = 2;
DELETE FROM failures;
INSERT INTO failures SELECT * FROM merged_failures;
DELETE FROM answers;
INSERT INTO answers SELECT * FROM merged_answers;
DELETE FROM items;
INSERT INTO items SELECT position, id, path, columns, size, mtime_ns, state, place FROM merged;
DROP TABLE merged;
DROP TABLE merged_failures;
DROP TABLE merged_answers;
DROP INDEX item_id;
"""
_UPSERT = """
INSERT INTO items (position, id, state, place) VALUES (?, ?, ?, ?)
ON CONFLICT (position) DO UPDATE SET state = excluded.state, place = excluded.place
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Items by state; `vanished` were done once and are no longer in the source, or beyond its limit.

    `rows`: results that lie in a sequential output, those of items of which some models failed included.
    """

    planned: int
    done: int
    failed: int
    vanished: int
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: no `failures` = done; its row, if it has one, is at `place` of a sequential sink.

    `answers`: what some models gave for an item that others failed on, see `Partial`.
    """

    position: int
    item: Item | int
    failures: tuple[Failure, ...]
    place: int | None
    answers: Mapping[str, Any] | None = None

    @property
    def id(self) -> int | str:
        """The item's id."""
        return self.item.id if isinstance(self.item, Item) else self.item


class Ledger:
    """The record of one job; a context manager. One thread uses it; the job's lock keeps other processes out."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger at `path`. Raises LedgerError for another version or a file that is none."""
        self._path = path
        refuse_truncated(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA cell_size_check = ON")
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL: the log reaches the disk at each commit, so that a power cut loses no more than a kill does.
            self._db.execute("PRAGMA synchronous = FULL")
            self._check_version()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise unwritable(self._path, error) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its message may hold bytes of the file
            self._db.close()
            raise damaged(path, error) from error
        except LedgerError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; uncommitted work is rolled back."""
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._db.close()

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise LedgerError(
                f"{self._path} has ledger version {version}; this penstock reads version {VERSION}. "
                "Use another out, or --fresh to start over."
            )
        else:
            self._check_schema()

    def _check_schema(self) -> None:
        """Refuse a file with other tables than ours, or with triggers and views, which would run in our statements."""
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript(_SCHEMA)
            ours = schema_of(model)
        if (found := schema_of(self._db)) != ours:
            strange = ", ".join(sorted({name for _, name, _ in found ^ ours})[:3])
            raise LedgerError(
                f"{self._path} is no ledger of penstock, or was changed: it differs in {strange!a}. "
                "Use another out, or --fresh to start over."
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes made inside together, or none. Raises SinkError where they cannot be written."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise unwritable(self._path, error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # ---- small values

    def get(self, key: str) -> Any:
        """Return the JSON value stored under `key`, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._loaded(row[0])

    def _loaded(self, text: Any) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise damaged(self._path, error) from error

    def put(self, key: str, value: Any) -> None:
        """Store a JSON value under `key`."""
        text = json.dumps(value, ensure_ascii=True, sort_keys=True)
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    # ---- what is planned

    def begun(self) -> bool:
        """Tell whether anything was ever done, or failed."""
        return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM items WHERE state != 0)").fetchone()[0])

    def forget(self) -> None:
        """Forget the plan; for a job that has done nothing."""
        self._db.execute("DELETE FROM items")

    def sync(self, items: Iterable[Item]) -> bool:
        """Make the plan equal to `items`; return whether it changed an existing plan.

        Items with the same id and stamp keep their state, changed and new ones become pending, vanished results stay.
        """
        self._db.execute(_LISTED)
        try:
            rows = (_listed_row(position, item) for position, item in enumerate(items))
            with self.transaction():
                while chunk := list(islice(rows, 4096)):
                    self._db.executemany("INSERT INTO listed VALUES (?, ?, ?, ?, ?, ?)", chunk)
            if self._db.execute(_SAME).fetchone()[0]:
                return False
            return self._replace_plan()
        finally:
            self._db.execute("DROP TABLE temp.listed")

    def _replace_plan(self) -> bool:
        with self.transaction():
            if not self._db.execute("SELECT EXISTS (SELECT 1 FROM items)").fetchone()[0]:
                self._db.execute("INSERT INTO items SELECT *, 0, NULL FROM listed")
                return False
            for statement in _MERGE.split(";"):
                if statement.strip():
                    self._db.execute(statement)
        return True

    def counts(self, planned: int | None = None) -> Counts:
        """Return the items by state: of the first `planned` positions, where others were done once."""
        end = _NO_END if planned is None else planned
        # One pass without a sort: a million items take a tenth of a second, GROUP BY five times that.
        row = self._db.execute(
            "SELECT count(*), total(state = 1), total(state = 2) FROM items WHERE position >= 0 AND position < ?",
            (end,),
        ).fetchone()
        vanished = self._db.execute(
            "SELECT count(*) FROM items WHERE position < 0 OR (position >= ? AND state = 1)", (end,)
        ).fetchone()[0]
        rows = self._db.execute("SELECT count(place) FROM items").fetchone()[0]
        return Counts(int(row[0]), int(row[1]), int(row[2]), vanished, rows)

    def pending(self, *, retry: bool) -> Iterator[tuple[int, Item]]:
        """Yield (position, item) of what is to be done, in order: pending items, or with `retry` the failed ones.

        Items that failed before their file changed are among both.
        """
        after, wanted = -1, FAILED if retry else PENDING
        query = (
            "SELECT position, id, path, columns, size, mtime_ns FROM items WHERE position > ? AND state IN (?, 3) "
            "ORDER BY position LIMIT 512"
        )
        # A connection of its own: the source's thread reads while the writer's thread commits.
        with closing(sqlite3.connect(self._path, check_same_thread=False)) as reader:
            while rows := reader.execute(query, (after, wanted)).fetchall():
                for position, id_, path, columns, size, mtime_ns in rows:
                    stamp = None if size is None else (size, mtime_ns)
                    row = None if columns is None else self._loaded(columns)
                    yield position, Item(id_, None if path is None else os.fsdecode(path), row, stamp)
                after = rows[-1][0]

    def count_retries(self) -> int:
        """Return how many items a retry would do."""
        return int(self._db.execute("SELECT count(*) FROM items WHERE state IN (2, 3)").fetchone()[0])

    def failed_positions(self) -> list[int]:
        """Return the positions of the failed items, in order."""
        return [row[0] for row in self._db.execute("SELECT position FROM items WHERE state = 2 ORDER BY position")]

    def contiguous(self) -> int | None:
        """Return n if exactly the positions 0..n-1 are settled (done or failed), None if there are holes."""
        n, last = self._db.execute("SELECT count(*), max(position) FROM items WHERE state IN (1, 2)").fetchone()
        return int(n) if n == 0 or last == n - 1 else None

    def settled(self) -> Iterator[int]:
        """Yield the settled positions in order."""
        with closing(sqlite3.connect(self._path, check_same_thread=False)) as reader:
            yield from (
                r[0] for r in reader.execute("SELECT position FROM items WHERE state IN (1, 2) ORDER BY position")
            )

    def last_done(self) -> int:
        """Return the highest position that is done, or -1."""
        query = "SELECT position FROM items WHERE state = 1 OR place IS NOT NULL ORDER BY position DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        return -1 if row is None else int(row[0])

    # ---- what became of it

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Note outcomes; call inside a transaction together with the sink's state."""
        self._db.executemany(_UPSERT, ((o.position, o.id, FAILED if o.failures else DONE, o.place) for o in outcomes))
        failed = [o for o in outcomes if o.failures]
        if failed or self._has_failures():
            # An item that is done now has no failure any more; one that failed again has a new one.
            self._db.executemany("DELETE FROM failures WHERE position = ?", ((o.position,) for o in outcomes))
            self._db.executemany("DELETE FROM answers WHERE position = ?", ((o.position,) for o in outcomes))
        self._db.executemany(
            "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((o.position, o.id, f.stage, f.model, f.type, f.message, f.attempts) for o in failed for f in o.failures),
        )
        self._db.executemany(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
            (
                (o.position, o.id, name, *packed)
                for o in failed
                for name, answer in (o.answers or {}).items()
                if (packed := pack(answer)) is not None  # else the model is asked again
            ),
        )

    def _has_failures(self) -> bool:
        return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM failures)").fetchone()[0])

    def attempts(self) -> dict[tuple[int, str | None], int]:
        """Return (position, model) -> how often what failed there was tried so far."""
        return {(p, model): n for p, model, n in self._db.execute("SELECT position, model, attempts FROM failures")}

    def answers(self) -> dict[int | str, dict[str, Any]]:
        """Return id -> model -> its answer, for the items that other models failed on."""
        found: dict[int | str, dict[str, Any]] = {}
        for id_, model, tree, arrays in self._db.execute("SELECT id, model, tree, arrays FROM answers"):
            try:
                found.setdefault(id_, {})[model] = unpack(tree, arrays)
            except Exception as error:  # whatever reading a damaged archive, or one with a pickle in it, raises
                raise damaged(self._path, error) from error
        return found

    def failures(self, limit: int = -1) -> Iterator[dict[str, Any]]:
        """Yield the failures in input order as records: id, stage, model, type, message, attempts."""
        names = ("id", "stage", "model", "type", "message", "attempts")
        query = "SELECT id, stage, model, type, message, attempts FROM failures ORDER BY position, model LIMIT ?"
        for row in self._db.execute(query, (limit,)):
            yield dict(zip(names, row, strict=True))

    # ---- the order of a sequential output

    def places(self, *, by_input: bool) -> Iterator[int]:
        """Yield the place of every result to keep, in input order or in the order they were written."""
        order = "position" if by_input else "place"
        query = f"SELECT place FROM items WHERE place IS NOT NULL ORDER BY {order}"  # noqa: S608
        yield from (row[0] for row in self._db.execute(query))

    def renumber(self, *, by_input: bool) -> None:
        """Give the results the places they have after a rewrite in that order."""
        order = "position" if by_input else "place"
        ranked = f"SELECT position AS p, row_number() OVER (ORDER BY {order}) - 1 AS rank FROM items "  # noqa: S608
        ranked += "WHERE place IS NOT NULL"
        self._db.execute(f"UPDATE items SET place = r.rank FROM ({ranked}) AS r WHERE items.position = r.p")  # noqa: S608

    def done_ids(self) -> Iterator[int | str]:
        """Yield the ids of all results, vanished and partial ones too."""
        query = "SELECT id FROM items WHERE state = 1 UNION SELECT id FROM answers"
        yield from (row[0] for row in self._db.execute(query))


def _listed_row(position: int, item: Item) -> tuple[Any, ...]:
    size, mtime_ns = item.stamp or (None, None)
    columns = None if item.row is None else json.dumps(item.row, ensure_ascii=True, default=str)
    return position, item.id, None if item.path is None else os.fsencode(item.path), columns, size, mtime_ns


def write_failures(ledger: Ledger, path: Path) -> None:
    """Write all failures as JSON lines to `path`, atomically; removes the file when there are none."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        n = 0
        for n, failure in enumerate(ledger.failures(), start=1):  # noqa: B007 - n is read below
            file.write(json.dumps(_printable(failure), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if n:
        temporary.replace(path)
        return
    temporary.unlink()
    path.unlink(missing_ok=True)


def _printable(failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return `failure` without lone surrogates, which UTF-8 cannot hold."""
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in failure.items()}

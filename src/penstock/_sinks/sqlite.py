"""One SQLite file: a table of results, and a table of their arrays."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from penstock._contracts import Item
from penstock._sinks.disk import cannot_write, put_in_place, sync_file, writing
from penstock._sinks.records import Array, Nulls, split_arrays, to_text
from penstock._sinks.records import Row as Read
from penstock.errors import ItemError, LedgerError, SinkError

_TABLES = (
    "CREATE TABLE results (place INTEGER PRIMARY KEY, id NOT NULL, output TEXT NOT NULL)",
    "CREATE INDEX results_id ON results (id)",
    """CREATE TABLE arrays (place INTEGER NOT NULL, key TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,
                            data BLOB NOT NULL, PRIMARY KEY (place, key))""",
)
_PAGE_BYTES = 4096
_MAX_VALUE_BYTES = 999_999_999
_PATIENCE_S = 60.0
"""How long a commit waits for another program that is reading the file."""

Row = tuple[int | str, str, list[tuple[str, str, str, bytes]]]


def read_sqlite(out: Path) -> Iterator[Read]:
    """Yield the rows of the file, as (place, id, output); arrays stay references."""
    with closing(sqlite3.connect(f"{out.absolute().as_uri()}?mode=ro", uri=True)) as db:
        for place, id_, text in db.execute("SELECT place, id, output FROM results ORDER BY place"):
            yield place, id_, json.loads(text)


class SqliteTable:
    """The sink for `.sqlite`: `results(place, id, output)`, `arrays(place, key, dtype, shape, data)`.

    `output` is JSON (`output ->> '$.top[0].label'`); in the place of an array it has a reference to its key in
    `arrays`, where `numpy.frombuffer(data, dtype).reshape(json.loads(shape))` is the exact array. The file can be
    read while the job runs. `finish` writes it anew, so that its bytes depend on the rows alone, not on how they were
    committed.
    """

    sequential = True

    def __init__(self, out: Path, job: Path) -> None:
        """Prepare; nothing is touched before `open`."""
        self._out = out
        self._job = job
        self._nulls = Nulls()
        self._db: sqlite3.Connection | None = None
        self._rows = self._generation = 0
        self._compact = self._torn = False
        self._prepared: dict[str, Any] | None = None

    @property
    def nulls(self) -> int:
        """How many numbers were written as null in JSON."""
        return self._nulls.value

    def open(self, state: Mapping[str, Any] | None) -> None:
        """Begin a new file, or delete the rows beyond what `state` says was committed.

        Raises:
            LedgerError: the file has fewer rows than that, or is none: somebody else changed it.
            SinkError: it cannot be opened or written.
        """
        self.close()
        state = state or {"rows": 0, "generation": 0, "compact": False}
        self._rows, self._generation = int(state["rows"]), int(state["generation"])
        self._compact, self._torn, self._prepared = bool(state["compact"]), False, None
        with self._writing():
            self._complete_rewrite()
            if self._rows == 0:
                self._remove()
            elif not self._out.exists():
                raise self._changed("does not exist")
            self._db = _connect(self._out)
            self._cut_off(self._db)

    def _complete_rewrite(self) -> None:
        """Put the rewrite that the state counts on in its place, and drop those that it knows nothing of."""
        wanted = self._rewritten(self._generation)
        if self._generation and wanted.exists():
            self._put_in_place(wanted)
        for path in self._job.glob("rewrite*.sqlite*"):
            path.unlink()

    def _put_in_place(self, path: Path) -> None:
        # A journal beside the file belongs to the one that goes: it must never be played into the one that comes.
        Path(f"{self._out}-journal").unlink(missing_ok=True)
        put_in_place(path, self._out)

    def _remove(self) -> None:
        for suffix in ("-journal", ""):
            Path(f"{self._out}{suffix}").unlink(missing_ok=True)

    def _cut_off(self, db: sqlite3.Connection) -> None:
        if self._rows == 0:
            _in_transaction(db, lambda: _create(db))
            return
        try:
            last = db.execute("SELECT max(place) FROM results").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise self._changed(f"says: {error}") from error
        if last is None or last < self._rows - 1:
            raise self._changed(f"has {0 if last is None else last + 1:,} rows")
        if last >= self._rows:
            _in_transaction(db, lambda: _delete_from(db, self._rows))

    def _changed(self, how: str) -> LedgerError:
        return LedgerError(
            f"{self._out} was changed by somebody else: the ledger knows {self._rows:,} rows, but the file {how}. "
            "Bring it back, or start over with --fresh."
        )

    def _rewritten(self, generation: int) -> Path:
        return self._job / f"rewrite-{generation}.sqlite"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(self._out):
                yield
        except sqlite3.Error as error:
            raise cannot_write(self._out, OSError(str(error))) from error

    def encode(self, item: Item | int, output: Any) -> Row:
        """Return the row of one result. Raises ItemError where it has no form for the output."""
        id_ = item if isinstance(item, int) else item.id
        tree, arrays = split_arrays(output)
        packed = [(key, *_packed(array)) for key, array in arrays.items()]
        for key, _, _, data in packed:
            if len(data) > _MAX_VALUE_BYTES:
                raise ItemError(
                    f"{id_!r}: the array {key!r} has {len(data):,} bytes; SQLite takes {_MAX_VALUE_BYTES:,}."
                )
        return id_, to_text(tree, id_, self._nulls), packed

    def append(self, encoded: Sequence[Row]) -> None:
        """Insert rows behind the last one."""
        db = self._whole()
        places = range(self._rows, self._rows + len(encoded))
        self._torn = True  # until all are in
        with self._writing():
            if not db.in_transaction:
                db.execute("BEGIN IMMEDIATE")
            rows = ((place, id_, text) for place, (id_, text, _) in zip(places, encoded, strict=True))
            db.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
            arrays = ((place, *array) for place, row in zip(places, encoded, strict=True) for array in row[2])
            db.executemany("INSERT INTO arrays VALUES (?, ?, ?, ?, ?)", arrays)
        self._torn = False
        self._rows += len(encoded)
        self._compact = self._compact and not encoded

    def _whole(self) -> sqlite3.Connection:
        if self._torn or self._db is None:
            raise SinkError(f"{self._out}: an earlier write failed, so nothing more is written. Open the job again.")
        return self._db

    def commit(self) -> dict[str, Any]:
        """Make the rows durable."""
        db = self._whole()
        if db.in_transaction:
            with self._writing():
                db.execute("COMMIT")
        return self._state()

    def _state(self) -> dict[str, Any]:
        return {"rows": self._rows, "generation": self._generation, "compact": self._compact}

    def rewrite(self, places: Iterable[int]) -> dict[str, Any]:
        """Write the rows at `places` to a file of their own."""
        self.commit()
        target = self._rewritten(self._generation + 1)
        rows = self._copy(places, target)
        self._prepared = {"rows": rows, "generation": self._generation + 1, "compact": True}
        return dict(self._prepared)

    def _copy(self, places: Iterable[int], target: Path) -> int:
        partial = self._job / "rewrite.sqlite"
        with self._writing():
            partial.unlink(missing_ok=True)
            rows = _write_copy(self._out, partial, places)
            sync_file(partial)
            put_in_place(partial, target)
        return rows

    def publish(self) -> None:
        """Put a prepared rewrite in the place of the file. Without one there is nothing to do: `open` completes it."""
        if self._prepared is not None:
            self.open(self._prepared)

    def finish(self) -> dict[str, Any]:
        """Commit, and write the file anew in one go, unless it is as `finish` left it."""
        self.commit()
        if not self._compact:
            compact = self._job / "rewrite-compact.sqlite"
            self._copy(range(self._rows), compact)
            self.close()
            with self._writing():
                self._put_in_place(compact)
            self.open({**self._state(), "compact": True})
        return self._state()

    def stored(self) -> int:
        """Return how many rows the table has."""
        return int(self._whole().execute("SELECT count(*) FROM results").fetchone()[0])

    def close(self) -> None:
        """Close the file; what was not committed is rolled back; idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def __repr__(self) -> str:
        return f"SqliteTable({str(self._out)!r}, {self._rows:,} rows)"


def _packed(array: Array) -> tuple[str, str, bytes]:
    """Return (dtype, shape, little-endian bytes in C order) of an array."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.dtype.str, json.dumps(array.shape), little.tobytes()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE_S)
    db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    # A journal that is deleted, not a log: beside a finished file nothing stays, and a copy of it is the whole of it.
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _in_transaction(db: sqlite3.Connection, change: Callable[[], None]) -> None:
    db.execute("BEGIN IMMEDIATE")
    change()
    db.execute("COMMIT")


def _create(db: sqlite3.Connection) -> None:
    for table in _TABLES:
        db.execute(table)


def _delete_from(db: sqlite3.Connection, place: int) -> None:
    db.execute("DELETE FROM results WHERE place >= ?", (place,))
    db.execute("DELETE FROM arrays WHERE place >= ?", (place,))


def _write_copy(source: Path, target: Path, places: Iterable[int]) -> int:
    """Write a new file with the rows of `source` at `places`, numbered anew; return how many.

    The same statements in the same order over the same rows give the same bytes, whatever the source went through
    (VACUUM would not: it counts in the file's header how often the tables were changed).
    """
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        for pragma in (f"page_size = {_PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("ATTACH ? AS old", (os.fspath(source),))
        db.execute("CREATE TEMP TABLE wanted (place INTEGER PRIMARY KEY, former INTEGER NOT NULL)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO wanted VALUES (?, ?)", enumerate(places))
        _create(db)
        # CROSS JOIN keeps SQLite from turning the join round, which would cost a sort.
        db.execute(
            "INSERT INTO results SELECT w.place, r.id, r.output FROM wanted w CROSS JOIN old.results r "
            "ON r.place = w.former ORDER BY w.place"
        )
        db.execute(
            "INSERT INTO arrays SELECT w.place, a.key, a.dtype, a.shape, a.data FROM wanted w CROSS JOIN old.arrays a "
            "ON a.place = w.former ORDER BY w.place, a.rowid"
        )
        db.execute("COMMIT")
        return int(db.execute("SELECT count(*) FROM results").fetchone()[0])

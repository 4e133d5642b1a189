"""The score sheet: truths, items and answers in a temporary database, so that no number of items fills the memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from penstock._evaluation.result import Mistake
from penstock.errors import SinkError, UsageError

# Ids keep their type: 7, the position of a value, is no file called "7". In a table of truths every id is a text, which
# is `key` of an item.
_SCHEMA = """
CREATE TABLE truths (id TEXT PRIMARY KEY, truth TEXT NOT NULL, place TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (output INTEGER, path BLOB, id NOT NULL, PRIMARY KEY (output, path)) WITHOUT ROWID;
CREATE TABLE items (number INTEGER PRIMARY KEY, id NOT NULL UNIQUE, key TEXT NOT NULL, truth TEXT,
                    failed INTEGER NOT NULL);
CREATE INDEX items_key ON items (key);
CREATE TABLE answers (model INTEGER NOT NULL, number INTEGER NOT NULL, prediction TEXT NOT NULL, score REAL,
                      wrong INTEGER NOT NULL, weight REAL, PRIMARY KEY (model, number)) WITHOUT ROWID;
CREATE INDEX answers_number ON answers (number);
"""
_LEFT_OUT = """
SELECT id, CASE WHEN truth IS NULL THEN 'without_truth' WHEN failed THEN 'failed' ELSE 'without_result' END AS why
FROM items i WHERE truth IS NULL OR NOT EXISTS (SELECT 1 FROM answers a WHERE a.number = i.number)
UNION ALL
SELECT id, 'without_result' FROM truths t WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.key = t.id)
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer was judged as. `weight`: how far in front it stands among the wrong ones; None: behind all."""

    prediction: str
    score: float | None
    right: bool
    weight: float | None


class Sheet:
    """Everything that was judged; a context manager, whose data is gone at its end."""

    def __init__(self) -> None:
        """Make the database; its file, which has no name, is written when it does not fit in memory."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Drop the data. Raises SinkError where the database could not be written."""
        self._db.close()
        if isinstance(error, sqlite3.OperationalError):
            raise SinkError(
                f"The temporary database of the evaluation cannot be written: {error}. Make room where temporary files "
                "are, or name another place in SQLITE_TMPDIR. The results are as they were."
            ) from error

    # ---- what is known

    def add_truths(self, path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
        """Take the rows (where, id, truth) of a table. Raises UsageError where it says two things of one item."""
        for where, id_, truth in rows:
            taken = self._db.execute("INSERT OR IGNORE INTO truths VALUES (?, ?, ?)", (id_, truth, where)).rowcount
            if not taken:
                self._refuse_contradiction(path, where, id_, truth)

    def _refuse_contradiction(self, path: Path, where: str, id_: str, truth: str) -> None:
        first, place = self._db.execute("SELECT truth, place FROM truths WHERE id = ?", (id_,)).fetchone()
        if first != truth:
            raise UsageError(
                f"{path} says two things of {id_!r}: {first!r} in {place} and {truth!r} in {where}. Remove one of them."
            )

    def truth_of(self, id_: int | str) -> str | None:
        """Return what the table of truths says of an item."""
        row = self._db.execute("SELECT truth FROM truths WHERE id = ?", (str(id_),)).fetchone()
        return None if row is None else str(row[0])

    def some_truth(self) -> str | None:
        """Return an id in the table of truths."""
        row = self._db.execute("SELECT id FROM truths LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def claim(self, output: int, path: bytes, id_: int | str) -> int | str:
        """Note that a file is an item's of an output; return the id of the first item that it was noted for."""
        self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", (output, path, id_))
        query = "SELECT id FROM files WHERE output = ? AND path = ?"
        first: int | str = self._db.execute(query, (output, path)).fetchone()[0]
        return first

    def add_item(self, id_: int | str, truth: str | None, *, failed: bool) -> None:
        """Take an item; one that is in several outputs is the same item."""
        self._db.execute(
            "INSERT INTO items (id, key, truth, failed) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
            "SET failed = failed OR excluded.failed, truth = coalesce(truth, excluded.truth)",
            (id_, str(id_), truth, failed),
        )

    def item(self, id_: int | str) -> tuple[int, str | None] | None:
        """Return (number, truth) of an item, None where it is not in the sheet."""
        row: tuple[int, str | None] | None = self._db.execute(
            "SELECT number, truth FROM items WHERE id = ?", (id_,)
        ).fetchone()
        return row

    def truths(self) -> set[str]:
        """Return every truth that some item has."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT truth FROM items WHERE truth IS NOT NULL")}

    # ---- what was judged

    def add_answer(self, model: int, number: int, verdict: Verdict) -> None:
        """Take the verdict on a model's answer for an item."""
        values = (model, number, verdict.prediction, verdict.score, not verdict.right, verdict.weight)
        self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)

    def judged(self) -> int:
        """Return how many items have an answer that was judged."""
        return int(self._db.execute("SELECT count(DISTINCT number) FROM answers").fetchone()[0])

    def left_out(self) -> Iterator[tuple[int | str, str]]:
        """Yield (id, why) of every item that was not judged: "without_truth", "failed" or "without_result"."""
        yield from self._db.execute(_LEFT_OUT)

    def worst(self, model: int, n: int) -> tuple[Mistake, ...]:
        """Return the n wrong answers of a model that stand in front, the worst first."""
        query = (
            "SELECT id, truth, prediction, score FROM answers JOIN items USING (number) WHERE model = ? AND wrong "
            "ORDER BY weight DESC NULLS LAST, number LIMIT ?"
        )
        return tuple(Mistake(*row) for row in self._db.execute(query, (model, n)))

    def paired(self, a: int, b: int) -> tuple[int, int, int, int]:
        """Return how many items only `a`, only `b`, both and neither have right, of those that both answered."""
        query = (
            "SELECT total(NOT a.wrong AND b.wrong), total(a.wrong AND NOT b.wrong), "
            "total(NOT a.wrong AND NOT b.wrong), total(a.wrong AND b.wrong) "
            "FROM answers a JOIN answers b ON a.number = b.number WHERE a.model = ? AND b.model = ?"
        )
        only_a, only_b, both, neither = map(int, self._db.execute(query, (a, b)).fetchone())
        return only_a, only_b, both, neither

    def lines(self, models: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the judged items in order, each with what `models` answered."""
        query = (
            "SELECT number, id, truth, model, prediction, score, wrong FROM answers JOIN items USING (number) "
            "ORDER BY number, model"
        )
        line: dict[str, Any] = {}
        at = None
        for number, id_, truth, model, prediction, score, wrong in self._db.execute(query):
            if number != at:
                if line:
                    yield line
                at, line = number, {"id": id_, "truth": truth, "answers": {}}
            line["answers"][models[model]] = {"prediction": prediction, "score": score, "right": not wrong}
        if line:
            yield line

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Item
from penstock._sinks import sqlite
from penstock._sinks.sqlite import SqliteTable
from penstock.errors import ItemError, LedgerError, SinkError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "r.sqlite"


@pytest.fixture
def sink(out: Path) -> Iterator[SqliteTable]:
    made = SqliteTable(out, out.with_name("job"))
    made.open(None)
    yield made
    made.close()


def query(out: Path, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{out}?mode=ro", uri=True)) as db:
        return db.execute(text).fetchall()


def test_results_can_be_queried_and_arrays_are_exact(sink: SqliteTable, out: Path) -> None:
    heat = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3) / 7)
    top = [{"label": "daisy", "score": np.float32(0.93)}]
    sink.append(
        [
            sink.encode(Item("d/a.jpg"), {"top": top, "heat": heat, "bad": float("nan")}),
            sink.encode(7, np.array([1], np.int8)),
        ]
    )
    sink.commit()
    assert query(out, "SELECT place, id, output ->> '$.top[0].label', output ->> '$.top[0].score' FROM results") == [
        (0, "d/a.jpg", "daisy", 0.93),
        (1, 7, None, None),
    ]
    ((key, dtype, shape, data),) = query(out, "SELECT key, dtype, shape, data FROM arrays WHERE place = 0")
    read = np.frombuffer(data, dtype).reshape(json.loads(shape))
    assert (key, read.dtype, read.tolist()) == ("heat", np.float32, heat.tolist())
    assert query(out, "SELECT output ->> 'array' FROM results WHERE place = 1") == [("output",)]
    assert sink.nulls == 1
    plan = query(out, "EXPLAIN QUERY PLAN SELECT * FROM results WHERE id = 'd/a.jpg'")
    assert "results_id" in str(plan)


def test_it_can_be_read_while_the_job_runs_and_copied_when_it_ended(sink: SqliteTable, out: Path) -> None:
    sink.append([sink.encode(i, i) for i in range(100)])
    assert query(out, "SELECT count(*) FROM results") == [(0,)]  # not committed
    sink.commit()
    assert query(out, "SELECT count(*) FROM results") == [(100,)]
    sink.finish()
    assert [path.name for path in out.parent.iterdir() if path.name.startswith("r.")] == ["r.sqlite"]
    assert query(out, "PRAGMA integrity_check") == [("ok",)]


def test_a_kill_in_the_middle_of_a_transaction(out: Path) -> None:
    """More is written than fits SQLite's cache, so that the file and its journal are really in the middle of it."""
    code = f"""if True:
        import json, os, signal, sys
        from pathlib import Path
        import numpy as np
        from penstock._sinks.sqlite import SqliteTable
        sink = SqliteTable(Path({str(out)!r}), Path({str(out.parent / "job")!r}))
        sink.open(None)
        rows = [sink.encode(i, {{"i": i, "a": np.full(2000, i)}}) for i in range(1000)]
        sink.append(rows[:300])
        print(json.dumps(sink.commit()), flush=True)
        sink.append(rows[300:])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(sqlite.__file__).parents[2])}
    killed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Path(f"{out}-journal").stat().st_size > 0
    with closing(SqliteTable(out, out.parent / "job")) as sink:
        sink.open(json.loads(killed.stdout))
        sink.append([sink.encode(i, {"i": i, "a": np.full(2000, i)}) for i in range(300, 1000)])
        sink.commit()
        sink.finish()
    assert query(out, "SELECT count(*), sum(output ->> 'i') FROM results") == [(1000, 999 * 500)]
    assert query(out, "SELECT count(*) FROM arrays") == [(1000,)]
    assert query(out, "PRAGMA integrity_check") == [("ok",)]


def test_a_full_disk_is_named_and_loses_nothing(sink: SqliteTable, out: Path) -> None:
    sink.append([sink.encode(i, "x" * 100) for i in range(50)])
    state = sink.commit()
    assert sink._db is not None
    pages = sink._db.execute("PRAGMA page_count").fetchone()[0]
    sink._db.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(SinkError, match=r"r\.sqlite cannot be written: database or disk is full"):
        sink.append([sink.encode(i, "x" * 1000) for i in range(50, 500)])
    with pytest.raises(SinkError, match="earlier write failed"):
        sink.commit()
    sink.open(state)
    sink.append([sink.encode(50, "y")])
    sink.commit()
    assert query(out, "SELECT count(*), max(place) FROM results") == [(51, 50)]


def test_a_file_that_is_none_or_lost_rows_is_refused(sink: SqliteTable, out: Path) -> None:
    sink.append([sink.encode(i, i) for i in range(9)])
    state = sink.commit()
    sink.close()
    with closing(sqlite3.connect(out)) as db:
        db.execute("DELETE FROM results WHERE place > 4")
        db.commit()
    with pytest.raises(LedgerError, match="knows 9 rows, but the file has 5 rows"):
        sink.open(state)
    sink.close()
    out.write_bytes(b"no database" * 100)
    with pytest.raises(SinkError, match="not a database"):
        sink.open(state)


def test_an_array_larger_than_sqlite_takes_costs_its_item(sink: SqliteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_MAX_VALUE_BYTES", 100)
    with pytest.raises(ItemError, match="'big' has 104 bytes; SQLite takes 100"):
        sink.encode(Item("a"), {"big": np.zeros(13)})

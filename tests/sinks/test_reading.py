"""What is read back is what the ledger counts, whatever kind of output it is and whatever state it was left in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._job import SINK_STATE, job_folder
from penstock._sinks import spool
from penstock._sinks.reading import Entry, entries
from penstock.errors import LedgerError, MissingDependency, PenstockError

NAMES = ["out", "out.jsonl", "out.sqlite", "out.parquet"]
SEQUENTIAL = NAMES[1:]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(spool, "PART_ROWS", 4)


def read(out: Path) -> Iterator[Entry]:
    job = job_folder(out)
    with closing(sqlite3.connect(job / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN")
        row = db.execute("SELECT value FROM meta WHERE key = ?", (SINK_STATE,)).fetchone()
        yield from entries(db, out, job, None if row is None else json.loads(row[0]))


def output(i: int) -> dict[str, Any]:
    return {"top": [{"index": i, "label": f"l{i}", "score": i / 8}]}


def outputs(batch: list[int]) -> list[dict[str, Any]]:
    if 5 in batch:
        raise ValueError("five is bad")
    return [output(i) for i in batch]


def done(i: int) -> Entry:
    return Entry(i, None, failed=False, there=True, output=output(i))


@pytest.mark.parametrize("name", NAMES)
def test_items_come_with_their_outputs(tmp_path: Path, name: str) -> None:
    penstock.run(range(11), outputs, out=tmp_path / name, batch=3)
    failed = Entry(5, None, failed=True, there=False)
    found = list(read(tmp_path / name))
    assert sorted(found, key=lambda entry: int(entry.id)) == [*map(done, range(5)), failed, *map(done, range(6, 11))]


def values(batch: list[Any]) -> list[Any]:
    return [len(text) for text in batch]


def text_of(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_files_have_their_paths_and_those_that_have_vanished_their_results(tmp_path: Path, name: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for letter in "abc":
        (photos / f"{letter}.jpg").write_text(letter)
    for gone in ("", "b.jpg"):
        if gone:
            (photos / gone).unlink()
        penstock.run(photos, values, stages=[text_of], out=tmp_path / name)
    found = {entry.id: (entry.path, entry.output) for entry in read(tmp_path / name)}
    assert found == {f"{letter}.jpg": (str(photos / f"{letter}.jpg"), 1) for letter in "abc"}


@pytest.mark.parametrize("name", NAMES)
def test_half_an_item_is_there_and_failed(tmp_path: Path, name: str) -> None:
    penstock.run(range(4, 7), {"a": values_of, "b": outputs}, out=tmp_path / name)
    found = {entry.id: (entry.failed, entry.there, entry.output) for entry in read(tmp_path / name)}
    assert found[0] == (False, True, {"a": 40, "b": output(4)})
    assert found[1] == (True, True, {"a": 50, "b": None})


def values_of(batch: list[int]) -> list[int]:
    return [10 * i for i in batch]


class Torn(PenstockError):
    """Ends a run as a kill would: what was not committed is lost, nothing is finished."""

    stops_run = True


@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_is_not_at_its_end_gives_what_was_committed(tmp_path: Path, name: str) -> None:
    def until_nine(batch: list[int]) -> list[Any]:
        if 9 in batch:
            raise Torn("here")
        return [output(i) for i in batch]

    penstock.run(range(20), until_nine, out=tmp_path / name, batch=3, limit=6)
    with pytest.raises(Torn):
        penstock.run(range(20), until_nine, out=tmp_path / name, batch=3)
    found = list(read(tmp_path / name))
    assert found == list(map(done, range(len(found))))
    assert 6 <= len(found) < 20


def test_rows_of_parquet_that_are_in_no_part_yet_are_read_too(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    penstock.run(range(11), values_of, out=out)
    last = out / "part-000002.parquet"
    found = list(read(out))
    set_state(out, finished=False)
    last.unlink()
    assert list(read(out)) == found
    assert [entry.output for entry in found] == [10 * i for i in range(11)]


def set_state(out: Path, **changed: Any) -> None:
    """Change what the ledger says of the output, to what a run that was killed would have left."""
    with closing(sqlite3.connect(job_folder(out) / "ledger.sqlite")) as db:
        state = json.loads(db.execute("SELECT value FROM meta WHERE key = 'sink'").fetchone()[0])
        db.execute("UPDATE meta SET value = ? WHERE key = 'sink'", (json.dumps({**state, **changed}),))
        db.commit()


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    penstock.run(range(3), values_of, out=tmp_path / "out.jsonl")
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write('{"id": 3, "out')
    assert [entry.output for entry in read(tmp_path / "out.jsonl")] == [0, 10, 20]


@pytest.mark.parametrize("name", ["out.jsonl", "out.sqlite"])
def test_rows_that_the_ledger_does_not_count_are_passed_over(tmp_path: Path, name: str) -> None:
    penstock.run(range(6), values_of, out=tmp_path / name)
    with closing(sqlite3.connect(job_folder(tmp_path / name) / "ledger.sqlite")) as db:
        db.execute("UPDATE items SET place = NULL, state = 0 WHERE id = 2")  # its file has changed, it is done again
        db.commit()
    assert [(entry.id, entry.there, entry.output) for entry in read(tmp_path / name)] == [
        (2, False, None),
        *((i, True, 10 * i) for i in (0, 1, 3, 4, 5)),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_gone_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    penstock.run(range(6), values_of, out=out)
    (next(out.glob("*.*")) if out.is_dir() else out).unlink()
    with pytest.raises(
        LedgerError, match=r"out.* (cannot be read back|was changed).*(No such file|unable to open|Failed to open)"
    ):
        list(read(out))


@pytest.mark.parametrize("change", ["torn", "short", "another id"])
def test_an_output_that_somebody_changed_is_refused(tmp_path: Path, change: str) -> None:
    out = tmp_path / "out.jsonl"
    penstock.run(range(3), values_of, out=out)
    line = '{"id": 1, "output": 10}\n'
    text = out.read_text()
    assert line in text
    out.write_text(text.replace(line, {"torn": "{\n", "short": "", "another id": line.replace("1,", "7,")}[change]))
    said = {"torn": "JSONDecodeError", "short": "in row 1, and row 1 is that of 2", "another id": "that of 7"}[change]
    with pytest.raises(LedgerError, match=f"cannot be read back: .*{said}"):
        list(read(out))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_rewrite_that_was_interrupted_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    penstock.run(range(6), values_of, out=out)
    set_state(out, generation=1)
    (job_folder(out) / f"rewrite-1{'' if name.endswith('parquet') else out.suffix}").touch()
    with pytest.raises(LedgerError, match="was being put in order when its run was killed"):
        list(read(out))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    penstock.run(range(3), values_of, out=tmp_path / "out.parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'penstock\[parquet\]'"):
        list(read(tmp_path / "out.parquet"))

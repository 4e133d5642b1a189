"""What somebody else made, a table, a folder, a ledger, a name, does no more than cost its items."""

from __future__ import annotations

import ast
import io
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._cli import main
from penstock._job import job_folder
from penstock._sinks.answers import unpack
from penstock.errors import LedgerError, PenstockError, StageError

SRC = Path(__file__).resolve().parents[1] / "src"


def size(path: str) -> int:
    return os.path.getsize(path)


def same(batch: list[Any]) -> list[Any]:
    return batch


def run(source: Any, out: Path, **options: Any) -> penstock.Report:
    return penstock.run(source, same, out=out, stages=[size], **options)


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# ---- outputs stay in the output

NASTY = [
    "../../escaped.jpg",
    "../up.jpg",
    "a/../../b.jpg",
    "./c.jpg",
    "C:\\d.jpg",
    "C:/e.jpg",
    "\\\\server\\f.jpg",
    "g\0.jpg",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder deep enough to be left, in which every nasty path leads to a file."""
    place = tmp_path / "home" / "deep" / "work"
    place.mkdir(parents=True)
    for name in NASTY:
        if "\0" not in name:
            path = Path(os.path.normpath(place / name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"xyz")
    (place / "a").mkdir(exist_ok=True)
    return place


def as_list(names: list[str], place: Path) -> Any:
    return names


def as_csv(names: list[str], place: Path) -> Any:
    table = place / "table.csv"
    table.write_text("path,label\n" + "".join(f'"{name}",1\n' for name in names if "\0" not in name))
    return table


def as_jsonl(names: list[str], place: Path) -> Any:
    table = place / "table.jsonl"
    table.write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    return table


@pytest.mark.parametrize("given", [as_list, as_csv, as_jsonl])
def test_no_id_leads_out_of_the_output(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Callable[[list[str], Path], Any]
) -> None:
    monkeypatch.chdir(place)
    names = [*NASTY, str(tmp_path / "home" / "escaped.jpg")]
    (tmp_path / "home" / "escaped.jpg").write_bytes(b"xyz")
    source = given(names, place)
    before = tree(tmp_path)
    out = place / "out"
    report = run(source, out, max_failures=3)
    assert report.done >= len(NASTY) - 1
    made = tree(tmp_path) - before
    assert {name for name in made if not name.startswith("home/deep/work/out")} == set()
    assert sum(name.endswith(".json") and "/.penstock/" not in name for name in made) == report.done
    assert all(b'"output": 3' in path.read_bytes() for path in out.rglob("*.json") if path.parent.name != ".penstock")


def test_an_iterable_names_no_files(place: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    penstock.run(NASTY[:3], same, out=place / "out", stages=[len], batch=1)
    report = penstock.run(iter(NASTY), same, out=place / "plain", batch=1)
    assert report.done == len(NASTY)
    assert {
        name for name in tree(tmp_path) - before if not name.startswith(("home/deep/work/out", "home/deep/work/plain"))
    } == set()
    assert {path.name for path in (place / "plain").glob("*.json")} == {f"{i}.json" for i in range(len(NASTY))}


def test_a_link_in_the_output_that_leads_out_of_it_is_not_followed(tmp_path: Path) -> None:
    photos, out, elsewhere = tmp_path / "photos", tmp_path / "out", tmp_path / "elsewhere"
    for folder in (photos / "sub" / "deep", photos / "fine", out / "real", elsewhere):
        folder.mkdir(parents=True)
    for name in ("sub/a.jpg", "sub/deep/b.jpg", "fine/c.jpg"):
        (photos / name).write_bytes(b"xyz")
    (out / "sub").symlink_to(elsewhere)
    report = run(photos, out)
    assert (report.done, report.failed) == (1, 2)
    assert "leads out of it, by a symbolic link" in report.failures[0]["message"]
    assert tree(elsewhere) == set()
    (elsewhere / "a.jpg.json").write_text("precious")
    run(photos, out, retry=True)
    assert (elsewhere / "a.jpg.json").read_text() == "precious"
    (out / "sub").unlink()
    assert run(photos, out, retry=True).done == 3


def test_an_output_that_is_a_link_itself_is_the_users_choice(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"xyz")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert run(photos, tmp_path / "out").done == 1
    assert (tmp_path / "disk" / "a.jpg.json").exists()


@pytest.mark.parametrize("name", ["", "ledger.sqlite", "failures.tmp", "lock", "rewrite.jsonl"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_link_in_the_folder_of_the_job_is_refused(tmp_path: Path, name: str, fresh: bool) -> None:
    out, elsewhere = tmp_path / "o.jsonl", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    if name:
        job_folder(out).mkdir()
        (job_folder(out) / name).symlink_to(elsewhere / "precious")
    else:
        job_folder(out).symlink_to(elsewhere)
    with pytest.raises(LedgerError, match="is a symbolic link"):
        penstock.run(range(3), same, out=out, fresh=fresh)
    assert (elsewhere / "precious").read_text() == "precious"
    assert tree(elsewhere) == {"precious"}


# ---- what is shown is shown, not obeyed

EVIL = "evil\x1b]0;owned\x07\x1b[2J\nplanned = done\r\u202egpj.jpg"


def test_a_name_with_escape_codes_is_shown_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "o.jsonl"
    photos.mkdir()
    (photos / EVIL).write_bytes(b"no picture")
    (photos / "b.jpg").write_bytes(b"no picture either")
    report = penstock.run(photos, same, out=out, progress="plain")
    print(report)
    assert report.failed == 2
    assert main(["failures", str(out)]) == 1
    with pytest.raises(StageError) as caught:
        penstock.run(photos, same, out=tmp_path / "p.jsonl", max_failures=0)

    def raises(batch: list[Any]) -> list[Any]:
        raise ValueError(EVIL)

    print(penstock.run(range(9), raises, out=tmp_path / "q.jsonl", batch=4))
    shown = capsys.readouterr()
    said = shown.out + shown.err + str(caught.value)
    assert not {c for c in said if not c.isprintable() and c != "\n"}
    assert "planned = done" in said
    assert "\nplanned = done" not in said


# ---- ledgers


class Part:
    """A model that gives arrays, and fails at one item if it is to."""

    version = "1"

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def predict(self, batch: list[int]) -> list[Any]:
        if self.bad in batch:
            raise ValueError("bad")
        return [np.arange(x) for x in batch]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return an output of which item 7 failed in one of two models."""
    out = tmp_path / "o.jsonl"
    assert again(out, bad=7).failed == 1
    return out


def again(out: Path, bad: int | None = None, **options: Any) -> Any:
    return penstock.run(range(20), {"a": Part(), "b": Part(bad)}, out=out, batch=1, **options)


def changed(out: Path, *statements: str) -> None:
    with sqlite3.connect(job_folder(out) / "ledger.sqlite") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END",
        "CREATE VIEW v AS SELECT * FROM items",
        "CREATE TABLE more (x)",
        "DROP TABLE answers",
        "ALTER TABLE items ADD COLUMN x",
    ],
)
def test_a_ledger_that_is_not_as_ours_is_refused(job: Path, statement: str) -> None:
    before = job.read_bytes()
    changed(job, statement)
    with pytest.raises(LedgerError, match=r"is no ledger of penstock, or was changed(.|\n)*--fresh"):
        again(job)
    assert main(["failures", str(job)]) == 2
    assert job.read_bytes() == before
    assert again(job, fresh=True).done == 20


def test_a_ledger_of_another_version_says_what_to_do(job: Path) -> None:
    changed(job, "PRAGMA user_version = 1")
    with pytest.raises(
        LedgerError, match=r"ledger version 1; this penstock reads version 2\. Use another out, or --fresh"
    ):
        again(job)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_truncated_ledger_is_refused_or_made_anew(job: Path, share: float) -> None:
    path = job_folder(job) / "ledger.sqlite"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)] if share else b"SQLite format 3\0" + b"\xff" * 4000)
    with pytest.raises(LedgerError, match=r"damaged, or no ledger of penstock(.|\n)*fresh"):
        again(job)
    assert again(job, fresh=True).done == 20


@pytest.mark.parametrize("seed", range(8))
def test_a_ledger_with_bytes_changed_never_crashes(job: Path, seed: int) -> None:
    path = job_folder(job) / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(100, len(data), 200):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    with suppress(PenstockError):
        assert again(job, retry=bool(seed % 2)).planned == 20


@pytest.mark.parametrize("value", ["not json", "{"])
def test_a_value_in_the_ledger_that_is_no_json(job: Path, value: str) -> None:
    changed(job, f"UPDATE meta SET value = '{value}' WHERE key = 'fingerprint'")
    with pytest.raises(LedgerError, match="is damaged, or no ledger"):
        again(job)


# ---- no pickle is loaded


class Evil:
    """A pickle of this makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def hostile_npz(folder: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Evil(folder)], dtype=object))
    return buffer.getvalue()


def test_a_pickle_in_stored_answers_is_refused_and_not_run(job: Path, tmp_path: Path) -> None:
    evil = tmp_path / "owned"
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack('{"array": "a", "dtype": "object", "shape": [1]}', hostile_npz(evil))
    with sqlite3.connect(job_folder(job) / "ledger.sqlite") as db:
        changed_rows = db.execute("UPDATE answers SET arrays = ?", (hostile_npz(evil),)).rowcount
    db.close()
    assert changed_rows == 1
    with pytest.raises(LedgerError, match="is damaged"):
        again(job, retry=True)
    assert not evil.exists()


def test_whatever_reads_arrays_or_weights_refuses_pickles() -> None:
    """`numpy.load` and `torch.load` in the source, each with the argument that says so."""
    wanted = {
        "np.load": ("allow_pickle", False),
        "numpy.load": ("allow_pickle", False),
        "torch.load": ("weights_only", True),
    }
    calls = [
        (path.name, node, wanted[ast.unparse(node.func)])
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in wanted
    ]
    assert len(calls) >= 2
    for name, node, (argument, value) in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert given.get(argument) == str(value), f"{name}:{node.lineno}"


def test_a_source_that_reads_a_database_of_its_own_is_no_damaged_ledger(tmp_path: Path) -> None:
    def rows() -> Any:
        yield 1
        sqlite3.connect(":memory:").execute("SELECT * FROM absent")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        penstock.run(rows(), same, out=tmp_path / "o.jsonl")

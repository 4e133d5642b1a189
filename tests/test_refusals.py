"""What a newcomer does wrong: refused in a sentence, and nothing of theirs is touched."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import errors
from penstock._cli import main
from penstock._job import job_folder


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def same(batch: list[Any]) -> list[Any]:
    return batch


def size(path: str) -> int:
    return os.stat(path).st_size


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x" * len(name))
    return folder


@pytest.mark.parametrize("source", ["empty", "empty/*.jpg", "table.csv"])
def test_a_source_without_items_is_a_mistake(tmp_path: Path, source: str) -> None:
    files(tmp_path / "empty", "notes.txt")
    (tmp_path / "table.csv").write_text("path\n")
    with pytest.raises(errors.UsageError, match="There is nothing to do"):
        penstock.run(tmp_path / source, same, out=tmp_path / "o.jsonl", stages=[size])
    assert not (tmp_path / "o.jsonl.penstock").exists()


def test_a_source_without_items_leaves_an_earlier_job_as_it_is(tmp_path: Path) -> None:
    """Also where it was to be forgotten: the pattern may be mistyped."""
    out = tmp_path / "o.jsonl"
    penstock.run(files(tmp_path / "photos", "a.jpg"), same, out=out, stages=[size])
    before = out.read_bytes()
    with pytest.raises(errors.UsageError, match="There is nothing to do"):
        penstock.run(tmp_path / "fotos" / "*.jpg", same, out=out, stages=[size], fresh=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["o.jsonl", "o"])
def test_what_is_not_penstocks_stays_as_it_is(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    theirs = out if out.suffix else out / "theirs.json"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("{}")
    with pytest.raises(errors.LedgerError, match="not"):
        penstock.run(range(3), same, out=out)
    assert theirs.read_text() == "{}"
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted({name, theirs.name})


def test_a_folder_that_has_lost_everything_changes_nothing(tmp_path: Path) -> None:
    source, out = files(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "o.jsonl"
    penstock.run(source, same, out=out, stages=[size])
    before = out.read_bytes()
    for path in source.iterdir():
        path.unlink()
    with pytest.raises(errors.UsageError, match=r"The 2 results in .* stay as they are"):
        penstock.run(source, same, out=out, stages=[size])
    assert out.read_bytes() == before
    files(source, "a.jpg", "b.jpg")
    assert penstock.run(source, same, out=out, stages=[size]).done == 2


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="limit=0"):
        penstock.run(range(5), double, out=tmp_path / "o.jsonl", limit=0)


def test_a_job_that_has_done_nothing_binds_nobody(tmp_path: Path) -> None:
    def refused(item: penstock.Item, output: Any) -> Any:
        raise errors.SpecError("there are 3 labels for 5 classes")

    out = tmp_path / "o.jsonl"
    with pytest.raises(errors.SpecError):
        penstock.run(range(5), double, out=out, post=refused)
    assert penstock.run(range(3), double, out=out).done == 3
    with pytest.raises(errors.LedgerError):
        penstock.run(range(3), double, out=out, post=refused)


def test_files_of_others_in_the_folder_are_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "mine.json").write_text("precious")
    with pytest.raises(errors.LedgerError, match=r"mine\.json for one"):
        penstock.run(range(3), double, out=out)
    assert (out / "sub" / "mine.json").read_text() == "precious"
    assert penstock.run(range(3), double, out=out, fresh=True).done == 3


def test_results_that_were_removed_are_missed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    penstock.run(range(3), double, out=out)
    (out / "1.json").unlink()
    with pytest.raises(errors.LedgerError, match="the ledger knows 3 results, 2 are there"):
        penstock.run(range(3), double, out=out)


def test_a_spent_budget_is_spent_the_second_time_too(tmp_path: Path) -> None:
    def bad(batch: list[int]) -> list[int]:
        raise ValueError("bad")

    for _ in range(2):
        with pytest.raises(errors.StageError) as raised:
            penstock.run(range(20), bad, out=tmp_path / "o.jsonl", batch=1, max_failures=2)
        assert raised.value.exit_code == 3


def test_a_stop_is_not_forgotten_because_of_what_was_done_earlier(tmp_path: Path) -> None:
    """A retry whose first fifty items all fail again stops, however many were done on the first run."""

    def mostly_bad(batch: list[int]) -> list[int]:
        if batch[0] >= 10:
            raise ValueError("bad")
        return batch

    call: Any = functools.partial(penstock.run, range(300), mostly_bad, out=tmp_path / "o.jsonl", batch=1)
    assert call().failed == 290
    with pytest.raises(errors.StageError, match="all failed; the run stops"):
        call(retry=True)


@pytest.mark.parametrize("option", ["preset", "labels", "spec", "top_k"])
def test_an_option_for_a_model_that_is_not_there(tmp_path: Path, option: str) -> None:
    options: Any = {option: {"c": "x"}}
    with pytest.raises(errors.UsageError, match="there is no model named c; the models are a, b"):
        penstock.run(range(3), {"a": double, "b": double}, out=tmp_path / "o.jsonl", **options)


@pytest.mark.parametrize("option", ["preset", "labels"])
def test_an_option_by_model_where_there_is_one(tmp_path: Path, option: str) -> None:
    options: Any = {option: {"a": "x"}}
    with pytest.raises(errors.UsageError, match="is by model, and there is one"):
        penstock.run(range(3), double, out=tmp_path / "o.jsonl", **options)


def test_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock._sinks.ledger import Ledger

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "record", full)
    with pytest.raises(errors.SinkError, match=r"database or disk is full\. What was committed is safe"):
        penstock.run(range(3), double, out=tmp_path / "o.jsonl")


def test_a_retry_goes_by_what_the_run_was_told(tmp_path: Path, shared_data: Path) -> None:
    from penstock._api import retry_arguments

    photos, model = shared_data / "photos" / "flowers", shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    out = tmp_path / "o.jsonl"
    given = ["--preset", "inception", "--runtime", "onnxruntime", "--limit", "3", "--max-failures", "9", "--quiet"]
    assert main(["run", str(photos), "--model", str(model), "--out", str(out), *given]) == 0
    arguments = retry_arguments(out)
    assert (arguments["limit"], arguments["max_failures"], arguments["device"]) == (3, "9", "auto")


def test_paths_from_a_closed_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(errors.UsageError, match="no standard input"):
        penstock.run("-", same, out=tmp_path / "o.jsonl", stages=[size])


def test_a_list_written_on_windows() -> None:
    import io

    from penstock._sources.paths import read_paths

    assert read_paths(io.BytesIO(b"a.jpg\r\nb c.jpg\r\n")) == ["a.jpg", "b c.jpg"]
    assert read_paths(io.BytesIO(b"a.jpg\r\nb.jpg\n")) == ["a.jpg\r", "b.jpg"]  # a name may end so


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    def bad(batch: list[int]) -> list[int]:
        raise ValueError("x" * 300)

    out = tmp_path / "o.jsonl"
    with pytest.raises(errors.StageError):
        penstock.run(range(2000), bad, out=out, batch=1, max_failures=1900)
    assert len((job_folder(out) / "failures.jsonl").read_text().splitlines()) > 1000
    command = [sys.executable, "-m", "penstock", "failures", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "ValueError"
        process.stdout.close()
        assert process.wait(40) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_run_whose_report_nobody_reads_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock import _cli

    def closed(*_: Any) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(_cli, "_run", closed)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main(["run", "photos", "--model", "m.onnx", "--out", "o.jsonl"]) == 141

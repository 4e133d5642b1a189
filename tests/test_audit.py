"""Rule 2: what is lost on the way, wherever that is, makes a run fail its own audit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._cli import main
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._job import Job
from penstock._sinks.jsonl import JsonLines
from penstock.errors import AuditError

N = 60


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def run(out: Path, n: int = N, **options: Any) -> penstock.Report:
    return penstock.run(range(n), double, out=out, batch=4, **options)


def fails(out: Path, match: str) -> None:
    with pytest.raises(AuditError, match=match) as caught:
        run(out)
    assert caught.value.exit_code == 5


def goes_on(out: Path) -> None:
    """The next run, without the fault, does what was lost."""
    assert run(out).done == N
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == [{"id": x, "output": 2 * x} for x in range(N)]


def test_a_result_dropped_inside_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive = Flow.arrive
    with monkeypatch.context() as patch:
        patch.setattr(Flow, "arrive", lambda flow, parcel: 17 in parcel.positions or arrive(flow, parcel))
        fails(tmp_path / "o.jsonl", "items entered the pipeline and did not come out")
    goes_on(tmp_path / "o.jsonl")


def test_a_result_that_another_one_took_the_place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many come out as went in."""
    arrive = Flow.arrive
    first: list[Parcel] = []

    def exchanged(flow: Flow, parcel: Parcel) -> None:
        if not first and len(parcel) == 4:
            first.append(parcel.part(0, 4))
        elif first and len(parcel) == 4 and len(first) == 1:
            parcel.positions, parcel.items, parcel.values = first[0].positions, first[0].items, list(first[0].values)
            first.append(parcel)
        arrive(flow, parcel)

    with monkeypatch.context() as patch:
        patch.setattr(Flow, "arrive", exchanged)
        fails(tmp_path / "o.jsonl", "60 items were planned, but 56 done")
    assert len(first) == 2


def test_a_result_dropped_before_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absorb = Job.absorb
    dropped: list[int] = []

    def forgetful(self: Job, positions: Sequence[int], items: Sequence[Any], values: Sequence[Any]) -> tuple[int, int]:
        if not dropped:
            dropped.extend(positions)
            return len(positions), 0
        return absorb(self, positions, items, values)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "absorb", forgetful)
        fails(tmp_path / "o.jsonl", "60 items were planned")
    goes_on(tmp_path / "o.jsonl")


def test_a_row_dropped_by_the_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = JsonLines.append
    with monkeypatch.context() as patch:
        patch.setattr(
            JsonLines, "append", lambda sink, lines: append(sink, [li for li in lines if b'"id": 7,' not in li])
        )
        fails(tmp_path / "o.jsonl", "rows were given to the output")
    goes_on(tmp_path / "o.jsonl")


def lose_a_row(out: Path) -> None:
    """Take row 7 out of an output in a way that its sink does not see."""
    if out.suffix == "":
        (out / "7.json").unlink()
    elif out.suffix == ".sqlite":
        with sqlite3.connect(out) as db:
            db.execute("DELETE FROM results WHERE place = 7")
        db.close()
    elif out.suffix == ".jsonl":
        data = out.read_bytes()
        line = b'{"id": 7, "output": 14}\n'
        assert line in data
        out.write_bytes(data.replace(line[:-1] + b"\n", line[:-1] + b" "))
    else:
        import pyarrow.parquet as pq

        (part,) = out.glob("part-*.parquet")
        whole = pq.read_table(part)
        pq.write_table(whole.slice(1), part)


@pytest.mark.parametrize("name", ["o", "o.jsonl", "o.sqlite", "o.parquet"])
def test_a_row_that_is_gone_from_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Counted where it lies, at the end; and not forgotten by the next run, which has nothing to do."""
    if name == "o.parquet":
        pytest.importorskip("pyarrow")
    out, finish = tmp_path / name, Job.finish

    def losing(self: Job, *, by_input: bool) -> None:
        finish(self, by_input=by_input)
        lose_a_row(out)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "finish", losing)
        fails(out, "has 59 results, and 60 are in the ledger")
    if name:
        with pytest.raises(penstock.errors.PenstockError, match="59"):
            run(out)
    assert run(out, fresh=True).done == N
    assert run(out).attempted == 0


def test_files_of_others_in_a_folder_are_no_loss(tmp_path: Path) -> None:
    out = tmp_path / "o"
    run(out, 10)
    (out / "notes.json").write_text("{}")
    assert run(out, 20).done == 20


def test_the_command_says_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def losing(*_: Any, **__: Any) -> Any:
        raise AuditError("12 items were planned")

    monkeypatch.setattr("penstock._api.run", losing)
    assert main(["run", "photos", "--model", "m.onnx", "--out", str(tmp_path / "o")]) == 5
    assert "12 items were planned" in capsys.readouterr().err

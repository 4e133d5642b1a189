from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock._contracts import Item
from penstock._sinks import jsonl
from penstock._sinks.jsonl import JsonLines
from penstock.errors import ItemError, LedgerError, SinkError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "r.jsonl.penstock").mkdir()
    return tmp_path / "r.jsonl"


@pytest.fixture
def sink(out: Path) -> Iterator[JsonLines]:
    made = JsonLines(out, out.with_name("r.jsonl.penstock"))
    made.open(None)
    yield made
    made.close()


def write(sink: JsonLines, outputs: list[object]) -> None:
    sink.append([sink.encode(Item(f"{output}.jpg"), output) for output in outputs])


def outputs(out: Path) -> list[object]:
    return [json.loads(line)["output"] for line in out.read_text("utf-8").splitlines()]


def test_lines_in_the_order_given(sink: JsonLines, out: Path) -> None:
    sink.append([sink.encode(0, 2), sink.encode(Item("a.jpg"), {"v": np.array([0.1, np.inf], np.float32)})])
    sink.append([])
    assert sink.commit() == {"bytes": out.stat().st_size, "rows": 2, "generation": 0}
    assert out.read_bytes() == b'{"id": 0, "output": 2}\n{"id": "a.jpg", "output": {"v": [0.1, null]}}\n'
    assert sink.nulls == 1


def test_encode_refuses_what_json_has_no_form_for(sink: JsonLines) -> None:
    with pytest.raises(ItemError, match="set"):
        sink.encode(1, {1})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"the ledger knows 3 rows in [\d,]+ bytes, but the file has [\d,]+ bytes"),
        (lambda data: data[:-5] + b"xxxxx" + data, "no end of a line there"),
    ],
)
def test_a_file_somebody_changed_is_refused(sink: JsonLines, out: Path, damage: object, message: str) -> None:
    write(sink, [1, 2, 3])
    state = sink.commit()
    changed = damage(out.read_bytes())  # type: ignore[operator]
    out.write_bytes(changed)
    with pytest.raises(LedgerError, match=message):
        sink.open(state)
    assert out.read_bytes() == changed


def test_rewrite_in_any_order_with_any_rows(sink: JsonLines, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_CHUNK", 7)  # lines longer than what is read at a time
    write(sink, list(range(10)))
    sink.commit()
    for places in ([9, 8, 3, 4, 5, 0, 0], [6, 5], []):
        before = outputs(out)
        sink.rewrite(iter(places))
        assert outputs(out) == before
        sink.publish()
        assert outputs(out) == [before[place] for place in places]


def test_a_rewrite_of_a_file_with_other_lines_is_refused(sink: JsonLines, out: Path) -> None:
    write(sink, [1, 2])
    sink.commit()
    data = out.read_bytes()
    out.write_bytes(data[:10] + b"\n" + data[11:])
    with pytest.raises(LedgerError, match="has 3 rows"):
        sink.rewrite([0, 1])


def test_a_place_that_is_not_there_is_an_error(sink: JsonLines) -> None:
    write(sink, [1, 2])
    with pytest.raises(IndexError):
        sink.rewrite([2])


def test_an_output_that_cannot_be_made_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").mkdir()
    sink = JsonLines(tmp_path / "r.jsonl", tmp_path)
    with pytest.raises(SinkError, match=r"r\.jsonl cannot be written: Is a directory"):
        sink.open(None)

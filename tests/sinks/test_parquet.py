from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Item
from penstock._sinks import parquet, spool
from penstock._sinks.parquet import ParquetParts
from penstock.errors import LedgerError, SinkError

pytest.importorskip("pyarrow")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "r.parquet"


@pytest.fixture
def sink(out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ParquetParts]:
    monkeypatch.setattr(spool, "PART_ROWS", 4)
    made = ParquetParts(out, out.with_name("job"))
    made.open(None)
    yield made
    made.close()


def write(sink: ParquetParts, outputs: list[Any]) -> None:
    sink.append([sink.encode(Item(f"{i}.jpg"), output) for i, output in enumerate(outputs)])


def read(out: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(out, use_threads=False, pre_buffer=False)


def parts(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_parts_appear_whole_and_the_rest_at_the_end(sink: ParquetParts, out: Path) -> None:
    write(sink, [{"n": i} for i in range(10)])
    state = sink.commit()
    assert (state["rows"], state["parts"], parts(out)) == (10, 2, ["part-000000.parquet", "part-000001.parquet"])
    sink.finish()
    assert parts(out)[2:] == ["part-000002.parquet"]
    assert read(out).to_pylist() == [{"id": f"{i}.jpg", "n": i} for i in range(10)]


def test_a_part_is_full_by_weight_too(sink: ParquetParts, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PART_WEIGHT", 4 * 150)
    write(sink, [np.zeros(100)] * 4)
    assert sink.commit()["parts"] == 2


def test_rows_that_disagree_widen_the_columns_of_all_parts(sink: ParquetParts, out: Path) -> None:
    none, some = np.zeros((0, 4), np.float32), np.ones((2, 4), np.float32)
    outputs: list[Any] = [{"boxes": none, "text": None, "n": 1}] * 6 + [{"boxes": some, "text": "x", "n": 0.5}] * 3
    outputs += [{"boxes": some, "text": "y", "n": 2, "late": "column"}]
    write(sink, outputs)
    sink.commit()
    sink.finish()
    table = read(out)  # one schema, or this fails
    assert table["boxes"].to_pylist() == [output["boxes"].tolist() for output in outputs]
    assert table["n"].to_pylist() == [1.0] * 6 + [0.5] * 3 + [2.0]
    assert table["late"].to_pylist() == [None] * 9 + ["column"]


def test_rows_that_agree_on_nothing_become_json(sink: ParquetParts, out: Path) -> None:
    write(sink, [1, 2, 3, 4, 5, "six", [7]])
    sink.commit()
    sink.finish()
    assert read(out)["output"].to_pylist() == ["1", "2", "3", "4", "5", '"six"', "[7]"]


def test_spools_are_kept_until_the_ledger_needs_them_no_more(sink: ParquetParts, out: Path) -> None:
    job = out.with_name("job")
    write(sink, [1, 2])
    before = sink.commit()
    write(sink, [3, 4, 5])
    sink.commit()  # killed before the ledger hears of it
    sink.close()
    sink.open(before)
    assert parts(out) == []
    write(sink, [3, 4, 5])
    sink.commit()
    assert len(list(job.glob("spool-*"))) == 2
    sink.commit()
    assert [path.name for path in job.glob("spool-*")] == ["spool-0-1"]
    sink.finish()
    assert read(out)["output"].to_pylist() == [1, 2, 3, 4, 5]


def test_parts_or_spools_that_somebody_removed_are_refused(sink: ParquetParts, out: Path) -> None:
    write(sink, list(range(10)))
    state = sink.commit()
    (out / "part-000001.parquet").rename(out.parent / "kept")
    with pytest.raises(LedgerError, match=r"knows 10 rows, but .*part-000001\.parquet does not exist"):
        sink.open(state)
    (out.parent / "kept").rename(out / "part-000001.parquet")
    (out.parent / "job" / "spool-0-2").write_bytes(b"")
    with pytest.raises(LedgerError, match="spool-0-2 is too short"):
        sink.open(state)


def test_files_of_others_in_the_folder_stay(sink: ParquetParts, out: Path) -> None:
    (out / "README.txt").write_text("mine")
    write(sink, list(range(10)))
    sink.commit()
    sink.rewrite([3, 2])
    sink.publish()
    sink.finish()
    assert parts(out) == ["README.txt", "part-000000.parquet"]
    assert read(out / "part-000000.parquet")["output"].to_pylist() == [3, 2]


def test_a_rewrite_that_was_moved_by_half_is_completed(sink: ParquetParts, out: Path) -> None:
    write(sink, list(range(13)))
    sink.commit()
    prepared = sink.rewrite(reversed(range(13)))
    sink.close()
    (out.with_name("job") / "rewrite-1" / "part-000001.parquet").replace(out / "part-000001.parquet")
    sink.open(prepared)
    sink.finish()
    assert read(out)["output"].to_pylist() == list(reversed(range(13)))


def test_rows_that_make_no_table_are_named(sink: ParquetParts, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise ValueError("offset overflow")

    monkeypatch.setattr(parquet, "to_parquet", failing)
    with pytest.raises(SinkError, match=r"items '0\.jpg' to '3\.jpg' make no table: offset overflow"):
        write(sink, [1, 2, 3, 4])
    with pytest.raises(SinkError, match="earlier write failed"):
        sink.commit()

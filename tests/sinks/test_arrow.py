from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._sinks.arrow import from_parquet, kind_in, rows_in, to_parquet
from penstock._sinks.frames import pack, unpack
from penstock._sinks.kinds import kind_of, widen
from penstock._sinks.records import Nulls
from penstock.errors import LedgerError

pytest.importorskip("pyarrow")


def table(path: Path, outputs: list[Any], kind: Any = None) -> Any:
    import pyarrow.parquet as pq

    rows = [(f"{i}.jpg", output) for i, output in enumerate(outputs)]
    kind = kind or reduce(widen, [kind_of({"id": id_, "output": output}) for id_, output in rows])
    path.write_bytes(to_parquet(rows, kind, Nulls()))
    assert json.dumps(kind_in(path)) == json.dumps(kind)
    assert rows_in(path) == len(rows)
    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read(use_threads=False)


def test_arrays_are_exact_lists_of_fixed_size(tmp_path: Path) -> None:
    vectors = [np.array([0.1, np.nan, np.inf], np.float32) * i for i in range(1, 4)]
    masks = [np.full((2, 2), i, np.uint8) for i in range(3)]
    read = table(tmp_path / "t", [{"v": v, "m": m, "h": np.float16(0.1)} for v, m in zip(vectors, masks, strict=True)])
    assert [str(field.type).replace("element", "item") for field in read.schema] == [
        "string",
        "fixed_size_list<item: float>[3]",
        "fixed_size_list<item: fixed_size_list<item: uint8>[2]>[2]",
        "halffloat",
    ]
    values = read["v"].combine_chunks().flatten().to_numpy()
    assert values.tobytes() == np.concatenate(vectors).tobytes()
    assert read["m"].to_pylist() == [mask.tolist() for mask in masks]
    assert read["h"].combine_chunks().to_numpy(zero_copy_only=False)[0] == np.float16(0.1)


def test_records_and_lists_and_nulls(tmp_path: Path) -> None:
    outputs: list[dict[str, Any]] = [
        {"top": [{"index": 1, "label": "é", "score": 0.5}], "text": None, "boxes": np.zeros((2, 4), np.float32)},
        {"top": [], "text": "x", "boxes": np.zeros((0, 4), np.float32)},
        {"top": [{"index": 2, "label": "b", "score": 1}] * 2, "text": "", "boxes": None},
    ]
    read = table(tmp_path / "t", outputs)
    assert read.column_names == ["id", "top", "text", "boxes"]
    assert read["id"].to_pylist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert read["top"].to_pylist() == [output["top"] for output in outputs]
    assert read["text"].to_pylist() == [None, "x", ""]
    assert read["boxes"].to_pylist() == [np.zeros((2, 4)).tolist(), [], None]


@pytest.mark.parametrize(
    ("outputs", "columns", "values"),
    [
        ([1, 2.5, None], ["id", "output"], [1.0, 2.5, None]),
        (
            [1, "x", {"a": np.float32(0.1)}, None, float("nan")],
            ["id", "output"],
            ["1", '"x"', '{"a": 0.1}', None, "null"],
        ),
        ([{}, {}], ["id", "output"], ["{}", "{}"]),
        ([None], ["id", "output"], [None]),
        ([2**70], ["id", "output"], [str(2**70)]),
        ([True, False], ["id", "output"], [True, False]),
        ([np.array(["a", "b"])], ["id", "output"], [["a", "b"]]),
    ],
)
def test_what_is_no_dict_is_one_column(
    tmp_path: Path, outputs: list[Any], columns: list[str], values: list[Any]
) -> None:
    read = table(tmp_path / "t", outputs)
    assert read.column_names == columns
    assert read["output"].to_pylist() == values


def test_an_output_called_id_keeps_its_column(tmp_path: Path) -> None:
    read = table(tmp_path / "t", [{"id": 5, "output.id": 6, "x": 7}])
    assert read.column_names == ["id", "output.id", "output.output.id", "x"]
    assert read.to_pylist() == [{"id": "0.jpg", "output.id": 5, "output.output.id": 6, "x": 7}]
    assert from_parquet(tmp_path / "t") == [("0.jpg", {"id": 5, "output.id": 6, "x": 7})]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.sampled_from(
        [np.float32(0.1), np.int8(3), np.zeros((2, 3), np.uint8), np.zeros((0, 3)), np.ones(2, np.float16)]
    )
)
OUTPUTS = st.recursive(
    LEAVES,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "id"]), part, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.lists(OUTPUTS, min_size=1, max_size=6))
def test_what_is_read_back_and_written_again_is_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, outputs: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    outputs = [unpack(pack(0, output))[1] for output in outputs]
    table(path, outputs)
    kind = kind_in(path)
    assert to_parquet(from_parquet(path), kind, Nulls()) == path.read_bytes()
    # What is read back is no wider than the file says.
    for id_, output in from_parquet(path):
        assert json.dumps(widen(kind, kind_of({"id": id_, "output": output}))) == json.dumps(kind)


@pytest.mark.parametrize("content", [b"", b"PAR1no parquetPAR1", None])
def test_a_part_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "part-000000.parquet"
    if content is not None:
        path.write_bytes(content)
    for reading in (kind_in, rows_in, from_parquet):
        with pytest.raises(LedgerError, match=r"part-000000\.parquet was changed by somebody else"):
            reading(path)


def test_a_strangers_file_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(LedgerError, match="changed by somebody else"):
        kind_in(tmp_path / "t.parquet")

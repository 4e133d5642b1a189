from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import pytest

from penstock._sources.tables import TableSource
from penstock.errors import MissingDependency, UsageError

ROWS = [{"path": "p/a.jpg", "label": "x"}, {"path": "gone.jpg", "label": 'y, "z"\n'}, {"path": "c.jpg", "label": ""}]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_become_items_and_columns_travel(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"abc")
    table = tmp_path / f"t.{kind}"
    WRITERS[kind](table, ROWS)
    source = TableSource(table)
    items = list(source)
    assert [item.id for item in items] == ["p/a.jpg", "gone.jpg", "c.jpg"] == list(source.ids())
    assert [item.path for item in items] == [str(tmp_path / str(item.id)) for item in items]
    assert [item.row for item in items] == [{"label": row["label"]} for row in ROWS]
    assert items[0].stamp == (3, os.stat(tmp_path / "p" / "a.jpg").st_mtime_ns)
    assert items[1].stamp is None
    assert (source.count(), source.positional, source.ignored) == (3, False, 0)
    assert str(tmp_path) not in str(source.describe())


@pytest.mark.parametrize("kind", WRITERS)
def test_the_column_is_found_by_name_or_given(tmp_path: Path, kind: str) -> None:
    table = tmp_path / f"t.{kind}"
    WRITERS[kind](table, [{"image": "a.jpg", "file": "b.jpg", "where": "c.jpg"}])
    assert list(TableSource(table).ids()) == ["b.jpg"]
    assert list(TableSource(table, column="where").ids()) == ["c.jpg"]
    with pytest.raises(UsageError, match=r"no column 'photo', only 'image', 'file', 'where'"):
        list(TableSource(table, column="photo"))
    WRITERS[kind](table, [{"photo": "a.jpg", "n": "1"}])
    with pytest.raises(UsageError, match=r"its columns are 'photo', 'n', and none is called path, file, filename or"):
        list(TableSource(table))


def test_absolute_paths_stay(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    write_jsonl(table, [{"path": "/photos/a.jpg"}])
    (item,) = TableSource(table)
    assert (item.id, item.path) == ("/photos/a.jpg", "/photos/a.jpg")


def test_csv_with_a_byte_order_mark_crlf_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b"\xef\xbb\xbfpath,n\r\ncaf\xe9.jpg,1\r\n")
    (item,) = TableSource(table)
    assert (item.id, item.row) == ("caf%E9.jpg", {"n": "1"})
    assert os.fsencode(item.path or "").endswith(b"caf\xe9.jpg")


def test_values_of_json_keep_their_types(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    write_jsonl(table, [{"path": "a", "box": [1, 2.5], "n": None}])
    assert [item.row for item in TableSource(table)] == [{"box": [1, 2.5], "n": None}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"path,n\na.jpg,1\nb.jpg\n", r"line 3: 1 values for 2 columns"),
        ("t.csv", b"path,n\n,1\n", r"line 2: the column 'path' has '' where a path should be"),
        ("t.csv", b"path,path\na,b\n", r"two columns of one name: 'path'"),
        ("t.csv", b'path\n"a"b\n', r"line 2: no CSV"),
        ("t.jsonl", b'{"path": "a"}\n{"path": ', r"line 2: no JSON"),
        ("t.jsonl", b'{"path": "a\xff"}\n', r"line 1: no JSON"),
        ("t.jsonl", b"[1]\n", r"line 1: list where an object"),
        ("t.jsonl", b'{"path": 3}\n', r"has 3 where a path should be"),
        ("t.jsonl", b'{"path": "a"}\n{"file": "b"}\n', r"line 2: there is no column 'path', only 'file'"),
        ("t.jsonl", b'{"path": "\\ud800"}\n', r"line 1: .* can be no file name"),
        ("t.parquet", b"PAR?", r"no Parquet"),
    ],
)
def test_a_bad_table_is_refused_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    table = tmp_path / name
    table.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        list(TableSource(table))


def test_empty_tables_have_no_items(tmp_path: Path) -> None:
    for name, content in (("a.csv", b""), ("b.csv", b"n,m\n"), ("c.jsonl", b"")):
        (tmp_path / name).write_bytes(content)
        assert list(TableSource(tmp_path / name)) == []


def test_a_folder_of_parquet_parts_is_one_table(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    table.mkdir()
    write_parquet(table / "part-1.parquet", [{"path": "b"}])
    write_parquet(table / "part-0.parquet", [{"path": "a"}])
    assert [(item.id, item.path) for item in TableSource(table)] == [
        ("a", str(tmp_path / "a")),
        ("b", str(tmp_path / "b")),
    ]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(MissingDependency, match=r"penstock\[parquet\]"):
        list(TableSource(tmp_path / "t.parquet"))


def test_another_suffix_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl, \.parquet"):
        TableSource("t.xlsx")

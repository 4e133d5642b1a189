from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock._evaluation.truth import TextFiles, check_truth, folder_name, is_table, is_text, truths_in
from penstock._sinks.reading import Entry
from penstock.errors import UsageError


def entry(id_: int | str, path: str | None = None) -> Entry:
    return Entry(id_, path, failed=False, there=True)


def text_files(folder: Path) -> TextFiles:
    claimed: dict[bytes, int | str] = {}
    return TextFiles(folder, claimed.setdefault)


def csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "truth.csv"
    path.write_bytes(text.encode(encoding))
    return path


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = folder / "truth.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_tables_of_every_kind_give_ids_and_truths(tmp_path: Path, write: Any) -> None:
    rows = [{"path": "a.jpg", "label": "x"}, {"path": "b.jpg", "label": None}, {"path": "c.jpg", "label": ""}]
    assert list(truths_in(write(tmp_path, [*rows, {"path": "é.jpg", "label": "ü"}])))[1][1:] == ("é.jpg", "ü")
    numbers = [{"id": 0, "label": 3}, {"id": 1, "label": 4}]
    assert [row[1:] for row in truths_in(write(tmp_path, numbers))] == [("0", "3"), ("1", "4")]
    texts = write(tmp_path, [{"file": "a.png", "text": ""}, {"file": "b.png", "text": None}])
    assert [row[1:] for row in truths_in(texts)] == [("a.png", "")]
    assert is_text(texts)


def test_a_csv_gives_the_line_too(tmp_path: Path) -> None:
    path = csv(tmp_path, 'path,width,label\n"a,1.jpg",3,x\nb.jpg,4,\nc.jpg,5,y\n')
    assert list(truths_in(path)) == [("line 2", "a,1.jpg", "x"), ("line 4", "c.jpg", "y")]
    assert not is_text(path)


def test_the_column_of_paths_goes_before_one_called_id(tmp_path: Path) -> None:
    assert list(truths_in(csv(tmp_path, "id,path,label\n1,a.jpg,x\n"))) == [("line 2", "a.jpg", "x")]


def test_a_name_that_is_not_utf_8_has_the_id_that_a_run_gives_it(tmp_path: Path) -> None:
    assert list(truths_in(csv(tmp_path, "path,label\né.jpg,x\n", "latin-1"))) == [("line 2", "%E9.jpg", "x")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,label\na,x\n", r"has no column of ids: its columns are 'name', 'label'\. Call the one"),
        ("path,class\na,x\n", r"has no column of labels or texts: 'path', 'class'\. Call the one"),
        ("path,label,text\na,x,y\n", "has both a column 'label' and a column 'text'"),
        ("path,label\n,x\n", "line 2: the column 'path' has '' where the id of an item should be"),
        ("path,label\n", r"has no rows\. Give a table with columns path and label"),
    ],
)
def test_what_is_no_table_of_truths_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = csv(tmp_path, text)
    for read in (lambda: list(truths_in(path)), lambda: check_truth(path)):
        with pytest.raises(UsageError, match=said):
            read()


def test_a_label_that_no_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 2: 'caf.*' is not UTF-8\. Save the table as UTF-8"):
        list(truths_in(csv(tmp_path, "path,label\na.jpg,café\n", "latin-1")))
    for value in (1.0, True, ["x"]):
        with pytest.raises(UsageError, match=r"line 1: the column 'label' has .*; give texts, or whole numbers"):
            list(truths_in(jsonl(tmp_path, [{"path": "a", "label": value}])))
    with pytest.raises(UsageError, match=r"line 1: '.*' can be no id of an item"):
        list(truths_in(jsonl(tmp_path, [{"id": "a\ud800", "label": "x"}])))
    with pytest.raises(UsageError, match="line 1: the column 'id' has True"):
        list(truths_in(jsonl(tmp_path, [{"id": True, "label": "x"}])))


def test_what_is_no_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"truth='line\.gt\.txt' is not known: give a table .*'\*\.gt\.txt' \(in quo"):
        is_table("line.gt.txt")
    with pytest.raises(UsageError, match=r"The truth .*absent\.csv does not exist \(looked in"):
        check_truth(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=r"The truth .*folder\.csv cannot be read: Is a directory"):
        check_truth(tmp_path / "folder.csv")
    for truth in ("folder-names", "*.gt.txt"):
        check_truth(truth)


@pytest.mark.parametrize(
    ("id_", "label"),
    [("cats/1.jpg", "cats"), ("train/cats/1.jpg", "cats"), ("/photos/cats/1.jpg", "cats"), ("1.jpg", None), (3, None)],
)
def test_the_name_of_the_folder(id_: int | str, label: str | None) -> None:
    assert folder_name(entry(id_)) == label


@pytest.mark.parametrize("name", ["line.gt.txt", "line.bin.gt.txt"])
def test_the_text_beside_an_item(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("\ufeff  Größe 3\r\n".encode())
    assert text_files(tmp_path)(entry("line.bin.png", "line.bin.png")) == "Größe 3"
    assert text_files(Path("elsewhere"))(entry("line.bin.png", str(tmp_path / "line.bin.png"))) == "Größe 3"
    assert text_files(tmp_path)(entry("other.png", "other.png")) is None


def test_the_file_with_more_of_the_name_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "a.gt.txt").write_text("short")
    (tmp_path / "a.1.gt.txt").write_text("long")
    find = text_files(tmp_path)
    assert [find(entry(name, name)) for name in ("a.1.png", "a.2.png")] == ["long", "short"]


def test_two_items_may_not_have_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.gt.txt").write_text("text")
    find = text_files(tmp_path)
    assert [find(entry("a.png", "a.png")), find(entry("a.png", "a.png"))] == ["text", "text"]
    with pytest.raises(UsageError, match=r"'a\.bin\.png' and 'a\.png' have one file with a text, .*a\.gt\.txt"):
        find(entry("a.bin.png", "a.bin.png"))


def test_a_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gt.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"a\.gt\.txt is not UTF-8"):
        text_files(tmp_path)(entry("a.png", "a.png"))
    with pytest.raises(UsageError, match="the items of this job are values and no files, such as 3"):
        text_files(tmp_path)(entry(3))

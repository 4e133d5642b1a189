from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Item
from penstock._sinks import disk, folder
from penstock._sinks.folder import JsonFolder
from penstock.errors import ItemError, SinkError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".penstock").mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def sink(out: Path) -> Iterator[JsonFolder]:
    made = JsonFolder(out, out / ".penstock")
    made.open(None)
    yield made
    made.close()


def test_one_json_an_item_mirrors_the_input(sink: JsonFolder, out: Path) -> None:
    sink.append([sink.encode(Item("d/e/a.jpg"), {"n": 1}), sink.encode(Item("d/a.png"), "é"), sink.encode(7, [1, 2])])
    assert sink.commit() == {"rows": 3}
    assert (out / "d/e/a.jpg.json").read_text("utf-8") == '{"id": "d/e/a.jpg", "output": {"n": 1}}\n'
    assert (out / "d/a.png.json").read_text("utf-8") == '{"id": "d/a.png", "output": "é"}\n'
    assert (out / "7.json").read_text("utf-8") == '{"id": 7, "output": [1, 2]}\n'
    assert list((out / ".penstock").iterdir()) == []


def test_a_jpg_beside_a_png(sink: JsonFolder, out: Path) -> None:
    for name in ("a.jpg", "a.png", "a"):
        sink.encode(Item(name), name)
    assert {path.name for path in out.glob("*.json")} == {"a.jpg.json", "a.png.json", "a.json"}


def test_arrays_go_to_an_npz_beside_exactly(sink: JsonFolder, out: Path) -> None:
    output: dict[str, Any] = {"heat": np.array([[0.1, np.nan]], np.float32), "n": np.int64(3)}
    assert sink.encode(Item("a.jpg"), output) == [f"{out}/a.jpg.npz", f"{out}/a.jpg.json"]
    read = json.loads((out / "a.jpg.json").read_text())["output"]
    assert read == {"heat": {"array": "heat", "dtype": "<f4", "shape": [1, 2]}, "n": 3}
    with np.load(out / "a.jpg.npz") as arrays:
        assert arrays[read["heat"]["array"]].tobytes() == output["heat"].tobytes()
    assert sink.nulls == 0


def test_an_item_done_again_without_arrays_loses_its_old_ones(sink: JsonFolder, out: Path) -> None:
    sink.encode(Item("a.jpg"), {"x": np.zeros(2)})
    sink.open(sink.commit())
    sink.encode(Item("a.jpg"), {"x": None})
    assert sorted(path.name for path in out.glob("a*")) == ["a.jpg.json"]


def test_a_reader_never_sees_half_a_file(sink: JsonFolder, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = disk.write_file
    seen: list[list[str]] = []

    def watching(path: str, data: bytes) -> None:
        write(path, data)
        seen.append(sorted(found.name for found in out.glob("a*")))

    monkeypatch.setattr(folder, "write_file", watching)
    sink.encode(Item("a.jpg"), np.zeros(3))
    assert seen == [[], ["a.jpg.npz"]]  # the JSON, which says that all is there, comes last


def test_many_threads_write_at_once(sink: JsonFolder, out: Path) -> None:
    def write(begin: int) -> None:
        for i in range(begin, begin + 50):
            sink.encode(Item(f"d{i % 7}/{i}.jpg"), {"i": i, "a": np.full(3, i)})

    threads = [threading.Thread(target=write, args=(begin,)) for begin in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    read = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    assert sorted(row["output"]["i"] for row in read) == list(range(400))
    assert all(row["id"].endswith(f"/{row['output']['i']}.jpg") for row in read)
    assert len(list(out.rglob("*.npz"))) == 400


@pytest.mark.parametrize(
    "id_", ["../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "C:\\evil.jpg", "x" * 255, "é\n.jpg"]
)
def test_no_id_leaves_the_folder(sink: JsonFolder, out: Path, id_: str) -> None:
    before = {path for path in out.parent.rglob("*") if out not in path.parents}
    (path,) = sink.encode(Item(id_), 1)
    assert Path(os.path.realpath(path)).is_relative_to(out)
    assert json.loads(Path(path).read_bytes())["id"] == id_
    assert {path for path in out.parent.rglob("*") if out not in path.parents} == before


def test_an_id_with_a_nul_costs_that_item_alone(sink: JsonFolder) -> None:
    with pytest.raises(ItemError):
        sink.encode(Item("a\0.jpg"), 1)


def test_a_path_too_long_for_the_system_costs_that_item_alone(sink: JsonFolder) -> None:
    with pytest.raises(ItemError, match="name too long"):
        sink.encode(Item("/".join(["d" * 200] * 40)), 1)


def test_a_full_disk_is_no_items_fault(sink: JsonFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(folder, "write_file", failing)
    with pytest.raises(SinkError, match=r"a\.jpg\.json cannot be written: No space left"):
        sink.encode(Item("a.jpg"), 1)


def test_a_file_system_that_folds_names_loses_nothing(sink: JsonFolder, out: Path) -> None:
    assert sink._folding is None  # where names differ in case, nobody waits for anybody
    sink._folding = threading.Lock()
    sink.encode(Item("A.jpg"), 1)
    (out / "A.jpg.json").rename(out / "a.jpg.json")
    with pytest.raises(ItemError, match=r"'a\.jpg' and 'A\.jpg' have one name"):
        sink.encode(Item("a.jpg"), 2)
    assert json.loads((out / "a.jpg.json").read_text()) == {"id": "A.jpg", "output": 1}
    sink.encode(Item("b.jpg"), 1)
    sink.encode(Item("b.jpg"), 2)  # done again


def test_discard_removes_the_files_of_one_item(sink: JsonFolder, out: Path) -> None:
    sink.encode(Item("d/a.jpg"), np.zeros(1))
    sink.encode(Item("d/b.jpg"), 1)
    for id_ in ("d/a.jpg", "gone.jpg"):
        sink.discard(id_)
    assert [path.name for path in (out / "d").iterdir()] == ["b.jpg.json"]


def test_files_of_a_killed_run_are_removed_on_open(sink: JsonFolder, out: Path) -> None:
    (out / ".penstock" / "writing-1-2").write_bytes(b"half")
    (out / ".penstock" / "ledger.sqlite").write_bytes(b"whole")
    sink.open(None)
    assert [path.name for path in (out / ".penstock").iterdir()] == ["ledger.sqlite"]


def test_nan_in_plain_numbers_is_null_and_counted(sink: JsonFolder, out: Path) -> None:
    sink.encode(Item("a"), {"score": float("nan")})
    assert (sink.nulls, json.loads((out / "a.json").read_text())["output"]) == (1, {"score": None})

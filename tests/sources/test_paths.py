from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from penstock._sources.paths import PathsSource, id_of, read_paths, stamp_of
from penstock.errors import UsageError


def test_ids_are_the_paths_as_given_and_missing_files_are_items(tmp_path: Path) -> None:
    there = tmp_path / "a.jpg"
    there.write_bytes(b"12345")
    os.utime(there, ns=(0, 1_700_000_000_123_456_789))
    source = PathsSource([there, str(tmp_path / "gone.jpg"), "./b.jpg"])
    items = list(source)
    assert [item.id for item in items] == [str(there), str(tmp_path / "gone.jpg"), "./b.jpg"] == list(source.ids())
    assert [item.path for item in items] == [item.id for item in items]
    assert [item.stamp for item in items] == [(5, 1_700_000_000_123_456_789), None, None]
    assert (source.count(), source.positional, source.ignored) == (3, False, 0)


def test_undecodable_bytes_are_percent_escaped_and_still_open(tmp_path: Path) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9\n.jpg")
    with open(raw, "wb") as file:
        file.write(b"x")
    (item,) = PathsSource([os.fsdecode(raw)])
    assert item.id == f"{tmp_path}/caf%E9\n.jpg"
    assert item.path is not None
    assert Path(item.path).read_bytes() == b"x"
    assert item.stamp is not None


def test_a_path_relative_to_a_root() -> None:
    assert list(PathsSource(["/d/e/a.jpg"], root="/d").ids()) == ["e/a.jpg"]


def test_what_can_be_no_path_is_refused_by_position() -> None:
    with pytest.raises(UsageError, match="Path 1 of the list"):
        list(PathsSource(["a.jpg", "\ud800.jpg"]))


def test_a_nul_in_a_path_is_an_item_without_a_stamp() -> None:
    assert stamp_of("a\0b") is None


def test_id_of_leaves_utf8_alone() -> None:
    assert id_of("käse/%E9.jpg".encode()) == "käse/%E9.jpg"


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"", []),
        (b"a.jpg\nb c.jpg\n\nd.jpg", ["a.jpg", "b c.jpg", "d.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
    ],
)
def test_read_paths(data: bytes, paths: list[str]) -> None:
    assert read_paths(io.BytesIO(data)) == paths

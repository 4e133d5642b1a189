from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from penstock._sources.files import FolderSource, GlobSource
from penstock._sources.iterables import IterableSource, Limited
from penstock._sources.opening import open_source
from penstock._sources.paths import PathsSource
from penstock._sources.tables import TableSource
from penstock.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b/c.jpg", "t.csv", "x[1].jpg", "n.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_each_kind_is_recognised(photos: Path) -> None:
    kinds: list[tuple[Any, type]] = [
        (str(photos), FolderSource),
        (photos, FolderSource),
        (f"{photos}/", FolderSource),
        (f"{photos}/*.jpg", GlobSource),
        (str(photos / "t.csv"), TableSource),
        (photos / "x[1].jpg", PathsSource),
        ([photos / "a.jpg", "b.jpg"], PathsSource),
        ((), PathsSource),
        ([1, 2], IterableSource),
        (["a.jpg", 1], IterableSource),
        (iter(["a.jpg"]), IterableSource),
        (np.zeros((3, 2)), IterableSource),
        (range(3), IterableSource),
    ]
    assert [type(open_source(source)) for source, _ in kinds] == [kind for _, kind in kinds]


def test_one_image_is_called_by_its_name(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    for path in ("a.jpg", str(photos / "a.jpg"), "./a.jpg"):
        (item,) = open_source(path)
        assert (item.id, item.path) == ("a.jpg", path)


def test_stdin(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.fsencode(photos / "a.jpg") + b"\nb.jpg\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    source = open_source("-")
    assert [item.id for item in source] == [str(photos / "a.jpg"), "b.jpg"] == [item.id for item in source]


def test_exclude_and_limit_reach_the_folder(photos: Path) -> None:
    source = open_source(photos, exclude=[photos / "b"], limit=5)
    assert isinstance(source, Limited)
    assert [item.id for item in source] == ["a.jpg", "x[1].jpg"]
    assert [item.id for item in open_source(photos, limit=1)] == ["a.jpg"]


def test_a_source_is_taken_as_it_is(photos: Path) -> None:
    source = FolderSource(photos)
    assert open_source(source) is source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", "'no/such/folder' does not exist. Give a folder"),
        ("gone.csv", "'gone.csv' does not exist"),
        ({1, 2}, "another order on every run"),
        ({"a": 1}, "cannot be a dict"),
        (b"photos", "cannot be a bytes"),
        (5, "cannot be a int"),
        (None, "cannot be a NoneType"),
    ],
)
def test_everything_else_is_refused_with_what_is_accepted(source: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(source)


def test_a_file_that_is_neither_image_nor_table_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="neither an image nor a table"):
        open_source(photos / "n.txt")


def test_a_glob_without_matches_is_empty(photos: Path) -> None:
    assert list(open_source(f"{photos}/*.png")) == []

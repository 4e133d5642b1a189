from __future__ import annotations

from pathlib import Path

import pytest

from penstock._sources.duplicates import check_duplicates
from penstock._sources.files import FolderSource
from penstock._sources.iterables import IterableSource, Limited
from penstock._sources.paths import PathsSource
from penstock.errors import UsageError


def test_the_first_three_are_named_with_their_positions() -> None:
    paths = ["a", "b", "c", "d", "e", "d", "a", "x", "b", "c", "a", "a"]
    with pytest.raises(UsageError) as refused:
        check_duplicates(PathsSource(paths))
    message = str(refused.value)
    assert message.startswith("4 ids occur more than once")
    assert "'d' at positions 3, 5; 'a' at positions 0, 6, 10, ...; 'b' at positions 1, 8 (and 1 more)" in message


def test_one_double_and_none() -> None:
    check_duplicates(PathsSource([]))
    check_duplicates(PathsSource([f"{i}.jpg" for i in range(1000)]))
    with pytest.raises(UsageError, match=r"1 id occurs .*'1.jpg' at positions 1, 2\."):
        check_duplicates(PathsSource(["0.jpg", "1.jpg", "1.jpg"]))


def test_equal_hashes_of_different_ids_are_no_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._sources.duplicates.hash", len, raising=False)
    check_duplicates(PathsSource(["a", "b", "c"]))
    with pytest.raises(UsageError, match="'b' at positions 1, 3"):
        check_duplicates(PathsSource(["a", "b", "c", "b"]))


def test_only_what_is_within_the_limit_counts() -> None:
    check_duplicates(Limited(PathsSource(["a", "b", "a"]), 2))
    with pytest.raises(UsageError):
        check_duplicates(Limited(PathsSource(["a", "b", "a"]), 3))


def test_sources_without_doubles_by_construction_are_not_read(tmp_path: Path) -> None:
    values = iter([1, 1])
    check_duplicates(IterableSource(values))
    check_duplicates(Limited(IterableSource(values), 1))
    assert list(values) == [1, 1]
    source = FolderSource(tmp_path)
    source._walk = None  # type: ignore[assignment, method-assign]
    check_duplicates(source)
    check_duplicates(Limited(source, 1))

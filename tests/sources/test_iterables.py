from __future__ import annotations

from pathlib import Path

import pytest

from penstock._sources.files import FolderSource
from penstock._sources.iterables import IterableSource, Limited, ids_of
from penstock._sources.paths import PathsSource
from penstock.errors import UsageError


def test_values_pass_unchanged_and_length_is_known_where_there_is_one() -> None:
    values = [object(), None, "text"]
    source = IterableSource(values)
    assert [a is b for a, b in zip(source, values, strict=True)] == [True] * 3
    assert (list(source), source.count(), source.positional) == (values, 3, True)
    assert IterableSource(range(1_000_000)).count() == 1_000_000
    assert IterableSource(iter(values)).count() is None


def test_a_generator_runs_once() -> None:
    source = IterableSource(x for x in range(3))
    assert list(source) == [0, 1, 2]
    with pytest.raises(UsageError, match="only once"):
        iter(source)


def test_limit(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jpg", "c.jpg", "z/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source = Limited(FolderSource(tmp_path), 1)
    assert [item.id for item in source] == ["b.jpg"] == list(source.ids())
    assert (source.count(), source.positional, source.ignored) == (1, False, 1)
    assert source.describe() == FolderSource(tmp_path).describe()
    assert Limited(FolderSource(tmp_path), 9).count() == 2


def test_limit_of_a_generator_draws_no_more_and_leaves_it_open() -> None:
    values = (x for x in range(10))
    source = Limited(IterableSource(values), 4)
    assert (list(source), source.count()) == ([0, 1, 2, 3], None)
    assert next(values) == 4
    assert list(Limited(IterableSource([1]), 0)) == []


@pytest.mark.parametrize("n", [-1, 2.5, True, "3"])
def test_a_limit_that_is_none_is_refused(n: object) -> None:
    with pytest.raises(UsageError, match="limit="):
        Limited(IterableSource([]), n)  # type: ignore[arg-type]


def test_ids_of_any_source_of_items(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert list(ids_of(FolderSource(tmp_path))) == ["a.jpg"]
    assert list(ids_of(PathsSource(["x", "y"]))) == ["x", "y"]

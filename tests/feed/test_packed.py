"""A long list in a few arrays: row by row what it was."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._feed import packed as module
from penstock._feed.packed import Packed, packed

PLAIN = st.text(st.characters(), max_size=8) | st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.fixture(autouse=True)
def any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 1)


COLUMN = st.sampled_from(
    [st.text(max_size=8), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), st.booleans()]
)


@given(st.data(), st.integers(1, 30), st.integers(0, 3))
def test_rows_are_equal_one_by_one(data: st.DataObject, n: int, width: int) -> None:
    columns = [data.draw(st.lists(data.draw(COLUMN), min_size=n, max_size=n)) for _ in range(max(1, width))]
    rows: list[Any] = columns[0] if width == 0 else list(zip(*columns, strict=True))
    found = packed(rows)
    assert isinstance(found, Packed)
    assert len(found) == n
    assert [found[k] for k in range(n)] == rows == list(found)
    assert [found[k] for k in range(-n, 0)] == rows
    assert found[1 : n - 1] == rows[1 : n - 1]
    assert [type(found[k]) for k in range(n)] == [type(row) for row in rows]
    for k in (n, -n - 1):
        with pytest.raises(IndexError):
            found[k]
    assert list(pickle.loads(pickle.dumps(found))) == rows


def test_names_that_are_not_utf8_stay_what_they_are() -> None:
    rows = ["caf\udce9.jpg", "a\nb", "", "\U0001f600"]
    assert list(packed(rows)) == rows


@pytest.mark.parametrize(
    "rows",
    [
        [1, 2.0],
        ["a", 1],
        [(1, 2), (1,)],
        [[1], [2]],
        [(1, [2]), (1, [3])],
        [1 << 64, 1],
        [True, 1],
        [None, None],
        [()],
        {1: 2},
    ],
)
def test_anything_else_stays_as_it_is(rows: Any) -> None:
    assert packed(rows) is rows


def test_a_short_list_stays_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 4)
    assert type(packed([1, 2, 3])) is list
    assert type(packed([1, 2, 3, 4])) is Packed
    assert repr(packed([(1, "a")] * 4)) == "<Packed: 4 rows of int64, str>"

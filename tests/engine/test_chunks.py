"""How a source is cut: every live item once, a block never in two chunks, nothing read ahead of need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.chunks import chosen, listed, one_by_one, positional
from penstock._engine.flow import Take

sizes = st.integers(0, 60)
holes = st.sets(st.integers(0, 70))
blocks = st.integers(1, 9)
counts = st.integers(1, 5)


def chunks_of(take: Take, n: int, block: int) -> list[list[int]]:
    """Take everything; check that each value is the one of its position (value = position * 10)."""
    chunks = []
    while (chunk := take(n, block)) is not None:
        positions, items, values = chunk
        assert list(items) == list(positions)
        assert values == [position * 10 for position in positions]
        chunks.append(list(positions))
    return chunks


def check(chunks: list[list[int]], live: list[int], n: int, block: int) -> None:
    assert [position for chunk in chunks for position in chunk] == live
    numbers = [sorted({position // block for position in chunk}) for chunk in chunks]
    assert sum(map(len, numbers)) == len({position // block for position in live})  # no block is in two chunks
    assert all(1 <= len(group) <= n // block for group in numbers)  # so a chunk has at most n items


@given(sizes, holes, blocks, counts)
def test_positional_gives_whole_blocks_around_the_settled(size: int, settled: set[int], block: int, k: int) -> None:
    take = positional((i * 10 for i in range(size)), sorted(settled))
    check(chunks_of(take, k * block, block), [i for i in range(size) if i not in settled], k * block, block)


@given(sizes, holes, blocks, counts)
def test_chosen_gives_whole_blocks_of_what_was_chosen(size: int, wanted: set[int], block: int, k: int) -> None:
    take = chosen((i * 10 for i in range(size)), sorted(wanted))
    check(chunks_of(take, k * block, block), [i for i in range(size) if i in wanted], k * block, block)


@given(holes, blocks, counts)
def test_listed_gives_whole_blocks_of_the_list(places: set[int], block: int, k: int) -> None:
    chunks = []
    take = listed((i, f"item {i}") for i in sorted(places))
    while (chunk := take(k * block, block)) is not None:
        positions, items, values = chunk
        assert items == values == [f"item {i}" for i in positions]
        assert items is not values  # values are replaced by what the stages make of them
        chunks.append(list(positions))
    check(chunks, sorted(places), k * block, block)


def test_without_holes_positions_are_a_range() -> None:
    """A million positions must cost nothing."""
    chunk = one_by_one("abcdefgh")(4, 4)
    assert chunk is not None
    assert (chunk[0], chunk[2]) == (range(4), list("abcd"))


class Source:
    """Counts what is read of it; raises `error` behind its last value."""

    def __init__(self, values: Iterable[Any], error: Exception | None = None) -> None:
        self.values, self.error, self.read = iter(values), error, 0

    def __iter__(self) -> Iterator[Any]:
        for value in self.values:
            self.read += 1
            yield value
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("block", [1, 4])
def test_nothing_is_read_beyond_the_chunk(block: int) -> None:
    """A source that waits for the result of its last value before it gives the next would wait for good."""
    makes: list[Any] = [one_by_one, lambda s: chosen(s, range(100)), lambda s: listed((i, i) for i in s)]
    for make in makes:
        source = Source(range(100))
        take = make(source)
        for k in (1, 2, 3):
            assert take(block, block) is not None
            assert source.read == k * block


def test_what_lies_behind_the_last_chosen_value_is_not_read() -> None:
    source = Source(range(100))
    take = chosen(source, [3, 7])
    assert chunks_of(chosen((i * 10 for i in range(100)), [3, 7]), 4, 1) == [[3, 7]]
    while take(4, 1) is not None:
        pass
    assert source.read == 8


@pytest.mark.parametrize(
    "make",
    [
        one_by_one,
        lambda source: positional(source, [0, 2]),
        lambda source: chosen(source, range(100)),
        lambda source: listed((i, i) for i in source),
    ],
)
def test_what_was_read_before_an_error_is_handed_on_before_it(make: Any) -> None:
    take = make(Source(range(5), OSError("gone")))
    seen: list[int] = []
    while len(seen) < 2 or seen[-1] < 4:
        seen.extend(take(8, 8)[2])
    assert seen[-2:] == [3, 4]
    with pytest.raises(OSError, match="gone"):
        take(8, 8)


def test_an_error_of_the_first_value_is_raised() -> None:
    with pytest.raises(OSError, match="gone"):
        one_by_one(Source([], OSError("gone")))(8, 8)


def test_settled_positions_behind_the_end_do_no_harm() -> None:
    assert chunks_of(positional([0, 10, 20], [1, 7, 9]), 4, 4) == [[0, 2]]
    assert chunks_of(positional([], [0, 1]), 4, 4) == []
    assert chunks_of(positional([0, 10], [0, 1]), 4, 4) == []

"""How a source is cut: closures that give a flow its next chunk, whole batches only, batches formed by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from penstock._engine.flow import Chunk, Take


def one_by_one(values: Iterable[Any]) -> Take:
    """Return a `Take` over plain values whose item is their position; ends where a batch ends, or the values do."""
    return positional(values, ())


def positional(values: Iterable[Any], settled: Iterable[int]) -> Take:
    """Return a `Take` over plain values, leaving out the `settled` positions (ascending)."""
    iterator = iter(values)
    done = iter(settled)
    state = {"at": 0, "skip": next(done, -1)}
    failed: list[Exception] = []

    def take(n: int, block: int) -> Chunk | None:
        if failed:
            raise failed[0]
        _skip(iterator, done, state)
        begin = state["at"]
        end = _whole(begin + n, block)
        if begin <= state["skip"] < end:
            end = state["skip"]
        chunk: list[Any] = []
        try:
            chunk.extend(islice(iterator, end - begin))
        except Exception as error:  # noqa: BLE001 - raised again by the next call
            if not chunk:
                raise
            failed.append(error)  # what was read before it is handed on first
        if not chunk:
            return None
        state["at"] = begin + len(chunk)
        positions = range(begin, begin + len(chunk))
        return positions, positions, chunk

    return take


def _skip(iterator: Iterator[Any], done: Iterator[int], state: dict[str, int]) -> None:
    """Pass over settled values; a long run of them is passed over at the speed of the iterator."""
    while state["at"] == state["skip"]:
        begin = end = state["at"]
        while state["skip"] == end:
            end += 1
            state["skip"] = next(done, -1)
        next(islice(iterator, end - begin, end - begin), None)
        state["at"] = end


def chosen(values: Iterable[Any], positions: Sequence[int]) -> Take:
    """Return a `Take` over the values at `positions` (ascending) only."""
    wanted = set(positions)
    pairs = ((i, value) for i, value in enumerate(values) if i in wanted)
    return _paired(pairs, own_item=False)


def listed(pairs: Iterable[tuple[int, Any]]) -> Take:
    """Return a `Take` over (position, item) pairs in ascending order; the item is its own value."""
    return _paired(pairs, own_item=True)


def _paired(pairs: Iterable[tuple[int, Any]], *, own_item: bool) -> Take:
    iterator = iter(pairs)
    held: list[tuple[int, Any]] = []

    def take(n: int, block: int) -> Chunk | None:
        rows = held[:]
        held.clear()
        for pair in iterator:
            if len(rows) >= n and pair[0] // block != rows[-1][0] // block:
                held.append(pair)
                break
            rows.append(pair)
        if not rows:
            return None
        positions = [position for position, _ in rows]
        values = [value for _, value in rows]
        return positions, (list(values) if own_item else positions), values

    return take


def _whole(position: int, block: int) -> int:
    return -(-position // block) * block

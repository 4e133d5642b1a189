"""How a source is cut: objects that give a flow its next chunk, whole batches only, batches formed by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from penstock._engine.flow import Take
from penstock._engine.gate import Chunk

Pair = tuple[int, Any]


def one_by_one(values: Iterable[Any]) -> Take:
    """Return a `Take` over plain values whose item is their position; ends where a batch ends, or the values do."""
    return positional(values, ())


def positional(values: Iterable[Any], settled: Iterable[int]) -> Take:
    """Return a `Take` over plain values, leaving out the `settled` positions (ascending)."""
    return _Positional(values, settled).take


def chosen(values: Iterable[Any], positions: Sequence[int]) -> Take:
    """Return a `Take` over the values at `positions` (ascending) only; what lies behind the last is not read."""
    return _Paired(_pick(iter(values), positions), own_item=False).take


def listed(pairs: Iterable[Pair]) -> Take:
    """Return a `Take` over (position, item) pairs in ascending order; the item is its own value."""
    return _Paired(pairs, own_item=True).take


class _Positional:
    """Values by their position; what was read before an error of the iterable is handed on before the error."""

    def __init__(self, values: Iterable[Any], settled: Iterable[int]) -> None:
        self._values = iter(values)
        self._settled = iter(settled)
        self._at = 0
        self._hole = next(self._settled, -1)
        self._error: Exception | None = None

    def take(self, n: int, block: int) -> Chunk | None:
        if self._error is not None:
            raise self._error
        runs: list[range] = []
        values: list[Any] = []
        try:
            self._skip()
            self._read(runs, values, self._end(n, block))
        except Exception as error:
            if not values:
                raise
            self._error = error
        if not values:
            return None
        positions = runs[0] if len(runs) == 1 else [position for run in runs for position in run]
        return positions, positions, values

    def _end(self, n: int, block: int) -> int:
        """Return where the chunk ends: a block with a hole in its midst is a chunk of its own, the rest are ranges."""
        begin = self._at - self._at % block
        end = _whole(begin + n, block)
        if not self._at <= self._hole < end:
            return end
        holed = self._hole - self._hole % block
        return holed if holed > self._at else begin + block

    def _read(self, runs: list[range], values: list[Any], end: int) -> None:
        """Append the values up to position `end`, and the runs of positions they lie at."""
        while self._at < end:
            stop = self._hole if self._at < self._hole < end else end
            before = len(values)
            try:
                values.extend(islice(self._values, stop - self._at))
            finally:
                begin, self._at = self._at, self._at + len(values) - before
                if self._at > begin:
                    runs.append(range(begin, self._at))
            if self._at < stop:
                return
            self._skip()

    def _skip(self) -> None:
        """Pass over settled values; a long run of them is passed over at the speed of the iterator."""
        while self._at == self._hole:
            end = self._at
            while self._hole == end:
                end += 1
                self._hole = next(self._settled, -1)
            n = end - self._at
            next(islice(self._values, n, n), None)
            self._at = end


class _Paired:
    """Values with their positions; looks one pair ahead only where the position does not say that a block ends."""

    def __init__(self, pairs: Iterable[Pair], *, own_item: bool) -> None:
        self._pairs = iter(pairs)
        self._own_item = own_item
        self._held: list[Pair] = []
        self._error: Exception | None = None

    def take(self, n: int, block: int) -> Chunk | None:
        if self._error is not None:
            raise self._error
        rows: list[Pair] = []
        try:
            self._read(rows, -(-n // block), block)
        except Exception as error:
            if not rows:
                raise
            self._error = error
        if not rows:
            return None
        positions = [position for position, _ in rows]
        values = [value for _, value in rows]
        return positions, (list(values) if self._own_item else positions), values

    def _read(self, rows: list[Pair], blocks: int, block: int) -> None:
        """Append the pairs of the next `blocks` blocks that have any."""
        held, self._held = self._held, []
        current = -1
        for pair in chain(held, self._pairs):
            if pair[0] // block != current:
                if blocks == 0:
                    self._held = [pair]
                    return
                blocks -= 1
                current = pair[0] // block
            rows.append(pair)
            if blocks == 0 and (pair[0] + 1) % block == 0:
                return


def _pick(values: Iterator[Any], positions: Sequence[int]) -> Iterator[Pair]:
    at = 0
    for position in positions:
        for value in islice(values, position - at, position - at + 1):
            yield position, value
        at = position + 1


def _whole(position: int, block: int) -> int:
    return -(-position // block) * block

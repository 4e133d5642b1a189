"""A long list of plain rows as a few arrays, which processes can share: a million (path, label) without an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
LEAST = 4096
"""Rows below which packing gains nothing."""


class Packed(Sequence[Any]):
    """Rows that are equal to those it was made of, one by one."""

    def __init__(self, columns: Sequence[Texts | Array], *, tuples: bool) -> None:
        """Made by `packed`."""
        self._columns = columns
        self._tuples = tuples

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._columns[0])

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        """Return a row, or rows in a list."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        values = [column[place] if isinstance(column, Texts) else column[place].item() for column in self._columns]
        return tuple(values) if self._tuples else values[0]

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """Show how many rows of what."""
        kinds = ["str" if isinstance(column, Texts) else str(column.dtype) for column in self._columns]
        return f"<Packed: {len(self):,} rows of {', '.join(kinds)}>"


class Texts:
    """Strings in one block of bytes."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Encode them; lone surrogates (names of files that are not UTF-8) stay what they are."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ends)

    def __getitem__(self, place: int) -> str:
        """Return one."""
        end = self._ends[place]  # raises IndexError where there is none
        place %= len(self._ends)
        begin = self._ends[place - 1] if place else 0
        return bytes(self._bytes[begin:end]).decode("utf-8", "surrogatepass")


def packed(rows: Any) -> Any:
    """Return a long list of strings or numbers, or of tuples of them, as `Packed`; anything else as it is."""
    if type(rows) not in (list, tuple) or len(rows) < LEAST:
        return rows
    width = len(rows[0]) if type(rows[0]) is tuple else None
    if width is None:
        columns: list[Sequence[Any]] = [rows]
    elif width and all(type(row) is tuple and len(row) == width for row in rows):
        columns = list(zip(*rows, strict=True))
    else:
        return rows
    made = [_packed(column) for column in columns]
    return rows if any(column is None for column in made) else Packed(made, tuples=width is not None)  # type: ignore[arg-type]


def _packed(column: Sequence[Any]) -> Texts | Array | None:
    kinds = set(map(type, column))
    if kinds == {str}:
        return Texts(column)
    makers: dict[type, Callable[[], Array]] = {
        int: lambda: np.fromiter(column, np.int64, len(column)),
        float: lambda: np.fromiter(column, np.float64, len(column)),
        bool: lambda: np.fromiter(column, np.bool_, len(column)),
    }
    try:
        return makers[kinds.pop()]() if len(kinds) == 1 and kinds <= makers.keys() else None
    except OverflowError:  # an integer of more than 64 bits
        return None

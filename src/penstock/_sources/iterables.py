"""Any iterable as a source, and the first n items of a source."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from penstock._contracts import Source
from penstock.errors import UsageError


class IterableSource:
    """The values of an iterable, unchanged; the id of a value is its position.

    A generator or another iterator can be run through once; a second time raises UsageError, because what is gone
    cannot come again.
    """

    positional = True
    ignored = 0

    def __init__(self, values: Iterable[Any]) -> None:
        """Take the iterable; nothing is drawn from it yet."""
        self._values = values
        self._used = False

    def __iter__(self) -> Iterator[Any]:
        """Yield the values."""
        iterator = iter(self._values)
        if iterator is self._values:
            if self._used:
                raise UsageError(f"{self._values!r} can be run through only once. Give a list, or make a new one.")
            self._used = True
        return iterator

    def count(self) -> int | None:
        """Return the length where the iterable has one."""
        return len(self._values) if isinstance(self._values, Sized) else None

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return {"kind": "iterable"}

    def __repr__(self) -> str:
        n = self.count()
        return f"IterableSource({type(self._values).__name__}, {'length unknown' if n is None else f'{n:,} values'})"


class Limited:
    """The first `n` entries of a source. The limit is no part of the fingerprint: a later run may take more."""

    def __init__(self, source: Source, n: int) -> None:
        """Wrap `source`. Raises UsageError for a negative n."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise UsageError(f"limit={n!r}: give a number of items >= 0.")
        self.source = source
        self._n = n
        self.positional = source.positional
        self.ignored = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the first n entries; `ignored` counts up to where the limit was reached."""
        entries = iter(self.source)
        try:
            yield from islice(entries, self._n)
        finally:
            if isinstance(entries, Generator) and not self.positional:
                entries.close()  # a walk counts what it ignored when it ends; a user's generator is not ours to close
            self.ignored = self.source.ignored

    def ids(self) -> Iterator[str | int]:
        """Yield the ids of the first n entries."""
        return islice(ids_of(self.source), self._n)

    def count(self) -> int | None:
        """Return how many entries there are, n at most."""
        n = self.source.count()
        return None if n is None else min(n, self._n)

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return self.source.describe()

    def __repr__(self) -> str:
        return f"Limited({self.source!r}, {self._n:,})"


def ids_of(source: Source) -> Iterator[str | int]:
    """Yield the ids of a source of items, without a look at its files where it can do so."""
    ids = getattr(source, "ids", None)
    return iter(ids()) if ids is not None else (item.id for item in source)


def is_path(value: object) -> bool:
    """Return whether `value` is a path and nothing else."""
    return isinstance(value, (str, os.PathLike))

"""Batches that fit: a model that ran out of memory gets smaller ones, and slowly larger ones again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock._contracts import Predict
from penstock.errors import DeviceMemoryError

FIRST_REGROWTH = 64
"""Calls at the ceiling before one more item is tried; twice as many after each try that failed."""
_SAID = ("out of memory", "bad_alloc", "failed to allocate memory", "resource_exhausted")
Bucket = tuple[Any, ...]


@dataclass(slots=True)
class Limit:
    """How many items of one bucket fit, as far as is known, and how long to wait before one more is tried."""

    items: int
    patience: int = FIRST_REGROWTH
    successes: int = 0
    best: int = 1
    """The most that ever fitted."""

    def failed(self, n: int) -> None:
        """Note that `n` items did not fit: half as many, or one less where one more than the limit was tried."""
        if n == self.items + 1:
            self.patience *= 2
        else:
            self.items = max(1, n // 2)
        self.successes = 0

    def failed_alone(self) -> None:
        """Note that one item did not fit alone: that was the item, and nothing is known against batches."""
        self.items, self.successes = self.best, 0

    def fitted(self, n: int) -> None:
        """Note that `n` items fitted."""
        self.best = max(self.best, n)
        if n > self.items:
            self.items, self.successes = n, 0
        elif n == self.items:
            self.successes += 1

    @property
    def next(self) -> int:
        """The largest batch to try now."""
        return self.items + (self.successes >= self.patience)


class Ceiling:
    """What fits in memory of one model on one device, by bucket (the shape of an item); shared by all its threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._limits: dict[Bucket, Limit] = {}
        self._lock = threading.Lock()

    def under(self, predict: Predict) -> Predict:
        """Return `predict` in batches that fit. Raises DeviceMemoryError for an item that does not fit alone."""

        def fitting(items: Sequence[Any]) -> Sequence[Any]:
            if not self._limits:  # nothing has ever run out of memory: this is what a usual call costs
                try:
                    return predict(items)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                self._failed(items)
            return self._in_parts(predict, items)

        return fitting

    def _in_parts(self, predict: Predict, items: Sequence[Any]) -> list[Any]:
        rows: list[Any] = []
        while len(rows) < len(items):
            part = items[len(rows) : len(rows) + self._next(items)]
            found = _tried(predict, part)
            if found is None:
                self._failed(part)
            else:
                rows.extend(found)
                self._fitted(part)
        return rows

    def _next(self, items: Sequence[Any]) -> int:
        with self._lock:
            limit = self._limits.get(bucket_of(items))
            return len(items) if limit is None else limit.next

    def _failed(self, part: Sequence[Any]) -> None:
        bucket = bucket_of(part)
        with self._lock:
            limit = self._limits.setdefault(bucket, Limit(len(part)))
            if len(part) > 1:
                limit.failed(len(part))
                return
            limit.failed_alone()
        raise DeviceMemoryError(
            f"{self._name} ran out of memory on one item alone ({bucket}). Shrink it, or use a device with more."
        )

    def _fitted(self, part: Sequence[Any]) -> None:
        with self._lock:
            limit = self._limits.get(bucket_of(part))
            if limit is not None:
                limit.fitted(len(part))

    def describe(self) -> dict[str, int]:
        """Return the batch sizes that fit, by bucket; empty where nothing has run out of memory."""
        with self._lock:
            return {str(bucket): limit.items for bucket, limit in self._limits.items()}


def bucket_of(items: Sequence[Any]) -> Bucket:
    """Return what memory depends on: the largest shape among the items, () for what has none."""
    return max((tuple(getattr(item, "shape", ())) for item in items), key=_size)


def _size(shape: Bucket) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _tried(predict: Predict, items: Sequence[Any]) -> Sequence[Any] | None:
    """Return the rows, or None where memory ran out: no retry inside the `except`, whose traceback holds the batch."""
    try:
        return predict(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether `error`, or what caused it, means that memory ran out: Python, torch, JAX or a runtime says so."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if any(said in str(error).lower() for said in _SAID):
            return True
        error = error.__cause__
    return False

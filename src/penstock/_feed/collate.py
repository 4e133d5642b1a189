"""Samples into a batch: written row by row into the arrays of the batch, as they come.

The shapes and types that torch's `default_collate` gives: arrays get a first axis, numbers become an array, strings a
list; dicts, tuples and lists are gone into. Numpy arrays stay numpy's, unless something in the sample is torch's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from penstock._engine.room import ALIGN, empty
from penstock.errors import ItemError

Array = np.ndarray[Any, np.dtype[Any]]
Empty = Callable[[tuple[int, ...], Any], Array]
"""Makes an array: in the memory that a worker process shares, or anywhere."""


class Column(Protocol):
    """One place of the samples: what lies there in each of them becomes one thing of the batch."""

    def check(self, value: Any) -> str | None:
        """Return why `value` cannot join those that are there, or None."""
        ...

    def put(self, row: int, value: Any) -> None:
        """Take in what the sample at `row` has here."""
        ...

    def done(self, rows: int) -> Any:
        """Return what the first `rows` samples give."""
        ...


class Rows:
    """The samples of one batch of at most `n`."""

    def __init__(self, n: int, empty: Empty) -> None:
        """Begin with none; the first sample says what the batch is made of."""
        self._n = n
        self._empty = empty
        self._column: Column | None = None
        self.count = 0
        self.torch = False
        """Whether something in the samples is torch's: then the batch is."""

    def put(self, sample: Any) -> None:
        """Add a sample. Raises ItemError where it is not like the first one, and then nothing has changed."""
        if self._column is None:
            column = self._column_of(sample, "sample")
            if why := column.check(sample):
                raise ItemError(f"{why}.")
            self._column = column
        elif why := self._column.check(sample):
            raise ItemError(f"{why}: samples of one batch have to be alike. Make them so in `transform`, or `collate`.")
        self._column.put(self.count, sample)
        self.count += 1

    def done(self) -> Any:
        """Return the batch."""
        return None if self._column is None else self._column.done(self.count)

    def _column_of(self, value: Any, name: str) -> Column:
        if is_tensor(value):
            self.torch = True
            return _Arrays(self._n, value, name, self._empty) if _viewed(value) is not None else _Tensors(value, name)
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OSUV":
            return _Arrays(self._n, value, name, self._empty)
        if isinstance(value, bool | int | float | np.number | np.bool_):
            return _Numbers(name)
        if isinstance(value, str | bytes):
            return _Listed(name)
        if isinstance(value, Mapping):
            return _Dict({key: self._column_of(value[key], f"{name}[{key!r}]") for key in value}, name)
        if isinstance(value, tuple | list):
            columns = [self._column_of(part, f"{name}[{i}]") for i, part in enumerate(value)]
            return _Sequence(columns, type(value) if hasattr(value, "_fields") else None, name)
        raise ItemError(
            f"{name} is of type {type(value).__name__}: batches are made of arrays, tensors, numbers, strings, dicts, "
            "tuples and lists. Give collate= for anything else."
        )


def is_tensor(value: Any) -> bool:
    """Tell whether `value` is a tensor of torch, without importing it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _viewed(value: Any) -> Array | None:
    """Return an array or a tensor as an array, without a copy; None where numpy has no such thing (bfloat16, CUDA)."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array: Array = value.detach().numpy()
    except (TypeError, RuntimeError):
        return None
    return array


class _Arrays:
    """Arrays of one shape and dtype."""

    def __init__(self, n: int, first: Any, name: str, empty: Empty) -> None:
        array = _viewed(first)
        assert array is not None
        self._tensor = is_tensor(first)
        self._shape, self._dtype, self._name = array.shape, array.dtype, name
        self._rows = empty((n, *array.shape), array.dtype)

    def check(self, value: Any) -> str | None:
        array = _viewed(value) if is_tensor(value) == self._tensor and (self._tensor or _is_array(value)) else None
        if array is None:
            return f"{self._name} is of type {type(value).__name__}, and that of the first an array or tensor"
        if array.shape != self._shape or array.dtype != self._dtype:
            return f"{self._name} is {array.shape} {array.dtype}, and that of the first {self._shape} {self._dtype}"
        return None

    def put(self, row: int, value: Any) -> None:
        self._rows[row] = _viewed(value)

    def done(self, rows: int) -> Any:
        return self._rows[:rows]


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


class _Listed:
    """Strings: they stay a list."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: list[Any] = []

    def check(self, value: Any) -> str | None:
        return None if isinstance(value, str | bytes) else f"{self._name} is of type {type(value).__name__}, no string"

    def put(self, row: int, value: Any) -> None:  # noqa: ARG002 - rows come in order
        self._values.append(value)

    def done(self, rows: int) -> Any:
        return self._values[:rows]


class _Numbers(_Listed):
    """Numbers: an array of int64, float64 or bool, or of numpy's own type."""

    def check(self, value: Any) -> str | None:
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return f"{self._name} is {value}, more than 64 bits hold"
        if isinstance(value, bool | int | float | np.number | np.bool_):
            return None
        return f"{self._name} is of type {type(value).__name__}, no number"

    def done(self, rows: int) -> Any:
        return np.array(self._values[:rows])


class _Tensors(_Listed):
    """Tensors that numpy has no type for."""

    def __init__(self, first: Any, name: str) -> None:
        super().__init__(name)
        self._shape, self._dtype, self._device = first.shape, first.dtype, first.device

    def check(self, value: Any) -> str | None:
        if not is_tensor(value):
            return f"{self._name} is of type {type(value).__name__}, and that of the first a tensor"
        if (value.shape, value.dtype, value.device) != (self._shape, self._dtype, self._device):
            return f"{self._name} is {tuple(value.shape)} {value.dtype}, and that of the first {tuple(self._shape)}"
        return None

    def done(self, rows: int) -> Any:
        return sys.modules["torch"].stack(self._values[:rows])


class _Dict:
    """Dicts with the same keys."""

    def __init__(self, columns: dict[Any, Column], name: str) -> None:
        self._columns = columns
        self._name = name

    def check(self, value: Any) -> str | None:
        if not isinstance(value, Mapping) or value.keys() != self._columns.keys():
            found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            return f"{self._name} has {found}, and that of the first the keys {sorted(map(str, self._columns))}"
        return next((why for key, column in self._columns.items() if (why := column.check(value[key]))), None)

    def put(self, row: int, value: Any) -> None:
        for key, column in self._columns.items():
            column.put(row, value[key])

    def done(self, rows: int) -> Any:
        return {key: column.done(rows) for key, column in self._columns.items()}


class _Sequence:
    """Tuples or lists of one length; a list of what their places give (a named tuple stays one)."""

    def __init__(self, columns: list[Column], named: type | None, name: str) -> None:
        self._columns = columns
        self._named = named
        self._name = name

    def check(self, value: Any) -> str | None:
        if not isinstance(value, tuple | list) or len(value) != len(self._columns):
            found = f"{len(value)} parts" if isinstance(value, tuple | list) else type(value).__name__
            return f"{self._name} has {found}, and that of the first {len(self._columns)} parts"
        whys = (column.check(part) for column, part in zip(self._columns, value, strict=True))
        return next((why for why in whys if why), None)

    def put(self, row: int, value: Any) -> None:
        for column, part in zip(self._columns, value, strict=True):
            column.put(row, part)

    def done(self, rows: int) -> Any:
        parts = [column.done(rows) for column in self._columns]
        return parts if self._named is None else self._named(*parts)


def aligned(batch: Any) -> Any:
    """Return `batch` with every array on a cache line, as DLPack's takers want it; those that are there stay."""
    if isinstance(batch, np.ndarray):
        if batch.ctypes.data % ALIGN == 0 or batch.dtype.hasobject:
            return batch
        copy = empty(batch.shape, batch.dtype)
        copy[...] = batch
        return copy
    return in_place(batch, aligned)


def in_place(batch: Any, fn: Callable[[Any], Any]) -> Any:
    """Return a dict, list or tuple with `fn` of each of its parts; anything else as it is."""
    if isinstance(batch, Mapping):
        return {key: fn(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [fn(part) for part in batch]
        if hasattr(batch, "_fields"):
            return type(batch)(*parts)
        return parts if isinstance(batch, list) else tuple(parts)
    return batch


def as_tensors(batch: Any) -> Any:
    """Return `batch` with torch's tensors in the place of arrays, over the same memory."""
    import torch

    if isinstance(batch, np.ndarray) and batch.dtype.kind in "biufc":
        return torch.from_numpy(batch)
    return in_place(batch, as_tensors)

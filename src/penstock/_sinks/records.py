"""What a result is in JSON: one record an item, `{"id": ..., "output": ...}`."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock._contracts import Item
from penstock._sinks.numbers import plain
from penstock.errors import ItemError

Array = npt.NDArray[Any]
Row = tuple[int, int | str, Any]
"""(place, id, output) of a result that was read back."""

_EXACT = "biufcSUMm"
"""Kinds of dtype that its short name and the bytes say exactly."""


class Nulls:
    """How many numbers were written as null because JSON has neither NaN nor infinity; counted by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def add(self, n: int) -> None:
        """Count n more."""
        with self._lock:
            self._value += n

    @property
    def value(self) -> int:
        """The count so far."""
        with self._lock:
            return self._value


def record(item: Item | int, output: Any) -> dict[str, Any]:
    """Return the record of one result."""
    return {"id": item if isinstance(item, int) else item.id, "output": output}


def to_json(row: dict[str, Any], nulls: Nulls) -> bytes:
    """Return a record as one line of UTF-8 without its end; see `to_text`."""
    return to_text(row, row["id"], nulls).encode()


def to_text(value: Any, id_: int | str, nulls: Nulls) -> str:
    """Return `value`, which belongs to the result of item `id_`, as JSON that UTF-8 can hold.

    numpy scalars become numbers, arrays nested lists, keys texts, NaN and infinities null (counted in `nulls`).

    Raises:
        ItemError: there is something JSON has no form for; the message says where and of which type.
    """
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        text = _text_with_care(value, id_, nulls)
    return text if text.isascii() else writable(text)


def writable(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as JSON escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _default(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value)
    raise TypeError(type(value).__name__)


# The fast way; whatever it refuses goes the careful way, which is the one that can say what is wrong.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, default=_default)


def _text_with_care(value: Any, id_: int | str, nulls: Nulls) -> str:
    cleaner = _Cleaner(id_)
    try:
        text = json.dumps(cleaner.clean(value, ""), ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise ItemError(f"{id_!r}: the output is nested too deeply for JSON, or contains itself.") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ItemError(f"{id_!r}: the output has no JSON form: {error}.") from error
    nulls.add(cleaner.nulls)
    return text


class _Cleaner:
    """Makes plain values of one output, counting its nulls."""

    def __init__(self, id_: Any) -> None:
        self._id = id_
        self.nulls = 0

    def clean(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, (str, int)):
            return value
        if isinstance(value, float):
            return self._number(value)
        if isinstance(value, dict):
            return self._dict(value, where)
        if isinstance(value, (list, tuple)):
            return [self.clean(part, f"{where}[{i}]") for i, part in enumerate(value)]
        if isinstance(value, (np.generic, np.ndarray)):
            return self._numpy(value, where)
        raise self._error(type(value).__name__, where)

    def _number(self, value: float) -> float | None:
        if math.isfinite(value):
            return value
        self.nulls += 1
        return None

    def _numpy(self, value: Array | np.generic, where: str) -> Any:
        try:
            return self.clean(plain(value), where)
        except TypeError as error:
            raise self._error(str(error), where) from error

    def _dict(self, value: dict[Any, Any], where: str) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, part in value.items():
            name = self._key(key, where)
            if name in cleaned:
                raise ItemError(f"{self._id!r}: {where or 'the output'} has two keys that are {name!r} in JSON.")
            cleaned[name] = self.clean(part, f"{where}[{key!r}]" if where else name)
        return cleaned

    def _key(self, key: Any, where: str) -> str:
        name = key_text(key)
        if name is None:
            raise self._error(type(key).__name__, f"a key of {where or 'the output'}")
        return name

    def _error(self, kind: str, where: str) -> ItemError:
        return ItemError(
            f"{self._id!r}: {where} is of type {kind}, which JSON has no form for. Return numbers, texts, lists, dicts "
            "or numpy arrays."
        )


def key_text(key: Any) -> str | None:
    """Return the key of a dict as JSON has it, a text; None where it has none."""
    if isinstance(key, str):
        return key
    if isinstance(key, np.generic) and key.dtype.kind in "biuf":
        key = plain(key)
    return json.dumps(key) if key is None or isinstance(key, (bool, int, float)) else None


def split_arrays(output: Any) -> tuple[Any, dict[str, Array]]:
    """Return (the output with references in the place of its numpy arrays, the arrays by key).

    A key is the path to the array, with `/`: `boxes`, `heads/0/mask`; `output` where the output is an array itself.
    In the parts of a path `%` and `/` are written %25 and %2F, so that no two paths are one key. A reference says
    `{"array": KEY, "dtype": "<f4", "shape": [4, 2]}`. Arrays of objects and of records stay where they are.
    """
    arrays: dict[str, Array] = {}
    return _referred(output, (), arrays), arrays


def _referred(value: Any, path: tuple[str, ...], arrays: dict[str, Array]) -> Any:
    if isinstance(value, dict):
        return {key: _referred(part, (*path, _escaped(key)), arrays) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_referred(part, (*path, str(i)), arrays) for i, part in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in _EXACT:
        key = "/".join(path) if path else "output"
        arrays[key] = value
        return {"array": key, "dtype": value.dtype.str, "shape": list(value.shape)}
    return value


def _escaped(key: Any) -> str:
    return str(key).replace("%", "%25").replace("/", "%2F")

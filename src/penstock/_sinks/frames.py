"""One result as bytes that stand for themselves: what a sink keeps until there is enough for a part of a file."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from penstock._sinks.records import Array, key_text, writable
from penstock.errors import ItemError

_HEAD = struct.Struct("<QQI")
"""Length of all that follows it; `weight`; length of the JSON, behind which the bytes of the arrays lie."""

_NUMBER = 4
_KINDS = "biuf"
_NO_FORM = "which a table has no form for. Return numbers, texts, lists, dicts or numpy arrays of numbers or texts"


def pack(id_: int | str, output: Any) -> bytes:
    """Return one result as a frame; numpy values keep their exact dtype, keys of dicts become texts.

    Raises:
        ItemError: there is something a table has no form for; the message says where and of which type.
    """
    packer = _Packer(id_)
    try:
        tree = packer.pack(output, ())
        head = json.dumps({"id": id_, "output": tree, "arrays": packer.places}).encode()
    except RecursionError as error:
        raise ItemError(f"{id_!r}: the output is nested too deeply, or contains itself.") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ItemError(f"{id_!r}: the output has no form in a table: {error}.") from error
    body = b"".join([head, *packer.blobs])
    return _HEAD.pack(_HEAD.size - 8 + len(body), packer.weight, len(head)) + body


def weight(frame: bytes) -> int:
    """Return how much a row weighs: 4 for each number, and the bytes of its texts.

    A measure of size that is the same whether numbers came in lists or arrays, and of whatever dtype: a row weighs
    the same when it is read back from a table whose columns are wider.
    """
    return int(_HEAD.unpack_from(frame)[1])


class _Packer:
    """Takes the numpy values out of one output."""

    def __init__(self, id_: int | str) -> None:
        self._id = id_
        self.places: list[tuple[list[str | int], str, list[int]]] = []
        self.blobs: list[bytes] = []
        self.weight = 0

    def pack(self, value: Any, path: tuple[str | int, ...]) -> Any:
        if value is None:
            return None
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (int, float)) and not isinstance(value, np.generic):
            self.weight += _NUMBER
            return value
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, (list, tuple)):
            return [self.pack(part, (*path, i)) for i, part in enumerate(value)]
        if isinstance(value, (np.ndarray, np.generic)):
            return self._numpy(value, path)
        raise self._error(type(value).__name__, path)

    def _text(self, value: str) -> str:
        text = value if value.isascii() else writable(value)
        self.weight += len(text.encode())
        return text

    def _dict(self, value: dict[Any, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
        packed: dict[str, Any] = {}
        for key, part in value.items():
            name = key_text(key)
            if name is None:
                raise self._error(type(key).__name__, (*path, "a key"))
            if name in packed:
                raise ItemError(f"{self._id!r}: two keys at {_where(path)} are {name!r} in a table.")
            packed[writable(name)] = self.pack(part, (*path, name))
        return packed

    def _numpy(self, value: Array | np.generic, path: tuple[str | int, ...]) -> Any:
        if value.dtype.kind in "OU":
            return self.pack(value.tolist(), path)
        if value.dtype.kind not in _KINDS or (value.dtype.kind == "f" and value.dtype.itemsize > 8):
            raise self._error(f"numpy {value.dtype.name}", path)
        little = np.asarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        self.weight += _NUMBER * little.size
        self.places.append((list(path), little.dtype.str, list(little.shape)))
        self.blobs.append(little.tobytes())
        return None

    def _error(self, kind: str, path: tuple[str | int, ...]) -> ItemError:
        return ItemError(f"{self._id!r}: {_where(path)} is of type {kind}, {_NO_FORM}.")


def _where(path: tuple[str | int, ...]) -> str:
    return "output" + "".join(f"[{part!r}]" for part in path)


def unpack(frame: bytes) -> tuple[int | str, Any]:
    """Return (id, output) of a frame; arrays are views of its bytes, numpy scalars are scalars again."""
    *_, length = _HEAD.unpack_from(frame)
    offset = _HEAD.size + length
    head = json.loads(frame[_HEAD.size : offset])
    holder = {"output": head["output"]}
    for path, dtype, shape in head["arrays"]:
        array = np.frombuffer(frame, dtype, int(np.prod(shape)), offset).reshape(shape)
        offset += array.nbytes
        _put(holder, ["output", *path], array if shape else array[()])
    return head["id"], holder["output"]


def _put(tree: Any, path: list[str | int], value: Any) -> None:
    for part in path[:-1]:
        tree = tree[part]
    tree[path[-1]] = value


def frames_in(data: bytes) -> Iterator[bytes]:
    """Yield the frames that lie one after another in `data`."""
    offset = 0
    while offset < len(data):
        end = offset + 8 + _HEAD.unpack_from(data, offset)[0]
        yield data[offset:end]
        offset = end

"""What one model gave for an item that another one failed on, kept in the ledger: JSON, and its arrays as .npz."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from penstock._sinks.npz import npz_bytes
from penstock._sinks.numbers import plain
from penstock._sinks.records import split_arrays

_REFERENCE = {"array", "dtype", "shape"}


def pack(answer: Any) -> tuple[str, bytes | None] | None:
    """Return an answer as JSON and the bytes of its arrays, exactly; None where it has no such form."""
    tree, arrays = split_arrays(answer)
    try:
        return json.dumps(tree, default=_number), npz_bytes(arrays) if arrays else None
    except (TypeError, ValueError, RecursionError):
        return None


def unpack(tree: str, arrays: bytes | None) -> Any:
    """Return the answer that was packed."""
    if arrays is None:
        return json.loads(tree)
    with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
        return _filled(json.loads(tree), dict(archive))


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return plain(value)
    raise TypeError(type(value).__name__)


def _filled(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_filled(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _REFERENCE and value["array"] in arrays:
        return arrays[value["array"]]
    return {key: _filled(part, arrays) for key, part in value.items()}

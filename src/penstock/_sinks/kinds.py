"""What the columns of a table are: found from rows, and widened until every row fits. Pure.

A kind is a JSON value: null (nothing known yet), the name of a numpy dtype, "str", "json" (a text that holds JSON,
where rows agree on nothing better), ["list", KIND, LENGTH or null] or {NAME: KIND, ...}. `widen` is commutative and
associative: the kind of a table depends on its rows, not on their order or on how they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

Kind = None | str | list[Any] | dict[str, Any]

_NUMBERS = "biuf"
_INT64 = range(-(2**63), 2**63)


def kind_of(value: Any) -> Kind:
    """Return the kind of one value. Arrays are lists of fixed length in every dimension that is not empty."""
    if value is None:
        return None
    if isinstance(value, (np.ndarray, np.generic)):
        return _kind_of_numpy(value)
    if isinstance(value, dict):
        return {name: kind_of(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return ["list", _kind_of_parts(value), None]
    return _kind_of_scalar(value)


def _kind_of_scalar(value: Any) -> Kind:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if value in _INT64 else "json"
    return "float64" if isinstance(value, float) else "str"


def _kind_of_numpy(value: Any) -> Kind:
    kind: Kind = value.dtype.name if value.dtype.kind in _NUMBERS else "str"
    for length in reversed(value.shape):
        kind = ["list", kind, length or None]
    return kind


def _kind_of_parts(parts: Sequence[Any]) -> Kind:
    return reduce(widen, map(kind_of, parts)) if parts else None


def widen(a: Kind, b: Kind) -> Kind:
    """Return the narrowest kind that takes the values of both."""
    if a is None or b is None:
        return _with_nulls(b if a is None else a)
    if isinstance(a, list) and isinstance(b, list):
        return ["list", widen(a[1], b[1]), a[2] if a[2] == b[2] else None]
    if isinstance(a, dict) and isinstance(b, dict):
        return _union(a, b)
    if isinstance(a, str) and isinstance(b, str):
        return a if a == b else _number(a, b)
    return "json"


def _with_nulls(kind: Kind) -> Kind:
    """Return `kind` for a column that has nulls: there lists have no fixed length, as not every reader can do both."""
    if isinstance(kind, list):
        return ["list", kind[1], None]
    if isinstance(kind, dict):
        return {name: _with_nulls(part) for name, part in kind.items()}
    return kind


def _union(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Return the names of both: in their common order, or, where there is none, sorted."""
    names = list(a) if list(a) == list(b) else sorted({*a, *b})
    return {name: widen(a.get(name), b.get(name)) for name in names}


def _number(a: str, b: str) -> str:
    if not (_is_number(a) and _is_number(b)):
        return "json"
    whole = all(np.issubdtype(name, np.integer) and name != "uint64" for name in (a, b))
    return "int64" if whole else "float64"


def _is_number(name: str) -> bool:
    return name not in ("str", "json", "bool")

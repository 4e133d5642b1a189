"""How far the rows of one way to run a model are from the rows of another: pure arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock._models.ports import Array

TOLERANCE = 1e-4
"""Largest relative difference between two ways to compute the same float32 model."""
LOWERED_TOLERANCE = 0.5
"""Largest median of the differences at bf16 or f16. Correct compiles of six models had medians of 0.003 to 0.24, wrong
ones of 0.78 to 1.0: this tells a fault from rounding, and says nothing about how good the precision is."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How `n` rows compare to a reference.

    `max_rel` and `median_rel`: largest and middle of the rows' differences (see `difference`). `argmax_equal`: the
    share of choices (one a row of classes, one a step of a text line) that are the same. `rounding`: the relative step
    of the rows' own dtype.
    """

    n: int
    max_rel: float
    median_rel: float
    argmax_equal: float
    rounding: float = 0.0

    def within(self, precision: str, tolerance: float = TOLERANCE) -> bool:
        """Return whether the rows count as right at `precision`."""
        if precision == "f32":
            return self.max_rel <= max(tolerance, self.rounding)
        return self.median_rel <= LOWERED_TOLERANCE

    def __str__(self) -> str:
        """Show it as in messages and plans."""
        return (
            f"over {self.n} rows: largest relative difference {self.max_rel:.1e}, "
            f"median {self.median_rel:.1e}, argmax equal on {self.argmax_equal:.1%}"
        )


def compare(rows: Sequence[Any], reference: Sequence[Any]) -> Agreement:
    """Return how `rows` agree with the `reference` rows of the same items, at least one."""
    pairs = list(zip(rows, reference, strict=True))
    differences = [difference(row, truth) for row, truth in pairs]
    same = sum(_equal_argmax(_first(row), _first(truth)) for row, truth in pairs)
    rounding = max(_rounding(truth) for truth in reference)
    return Agreement(len(pairs), max(differences), statistics.median(differences), same / len(pairs), rounding)


def difference(row: Any, truth: Any) -> float:
    """Return max|row - truth| / max|truth|, the largest over the outputs of a row.

    0 where both are equal, NaN and infinities in the same places included; inf where shapes, names, non-finite places
    or values that are no floats (classes, texts) differ.
    """
    if isinstance(truth, Mapping):
        if not isinstance(row, Mapping) or row.keys() != truth.keys():
            return math.inf
        return max(difference(row[name], truth[name]) for name in truth)
    ours, theirs = np.asarray(row), np.asarray(truth)
    if ours.shape != theirs.shape:
        return math.inf
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        return 0.0 if np.array_equal(ours, theirs) else math.inf
    return _float_difference(ours.astype(np.float64), theirs.astype(np.float64))


def _float_difference(ours: Array, theirs: Array) -> float:
    finite = np.isfinite(theirs)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True) or not np.isfinite(ours[finite]).all():
        return math.inf
    gap = float(np.abs(ours[finite] - theirs[finite]).max(initial=0.0))
    scale = float(np.abs(theirs[finite]).max(initial=0.0))
    if gap == 0:
        return 0.0
    return gap / scale if scale else math.inf


def _equal_argmax(row: Any, truth: Any) -> float:
    ours, theirs = np.asarray(row), np.asarray(truth)
    if ours.shape != theirs.shape or ours.dtype.kind not in "fiu":
        return float(np.array_equal(ours, theirs))
    # Along the last axis that holds a choice: classes of (K,), (T, K) and (K, 1, 1) alike.
    axis = max((axis for axis, size in enumerate(ours.shape) if size > 1), default=None)
    return 1.0 if axis is None else float((ours.argmax(axis) == theirs.argmax(axis)).mean())


def _first(row: Any) -> Any:
    return next(iter(row.values())) if isinstance(row, Mapping) else row


def _rounding(row: Any) -> float:
    values = row.values() if isinstance(row, Mapping) else [row]
    dtypes = [np.asarray(value).dtype for value in values]
    return max((float(np.finfo(dtype).eps) for dtype in dtypes if dtype.kind == "f"), default=0.0)

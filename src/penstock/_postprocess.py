"""A row of a model's output -> what a record says: classes, text, a vector, or the arrays themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from penstock._spec import OutputSpec
from penstock.errors import ItemError, SpecError

Array = np.ndarray[Any, np.dtype[Any]]
Interpret = Callable[[Any], Any]


def make(spec: OutputSpec) -> Interpret:
    """Return the function that makes an output of a row: an array without the batch axis, or a dict of them by name.

    "classify": {"top": [{"index", "label", "score"}, ...]}, the best first, equal ones by row, NaN last; "label" only
    where the spec has labels. "ctc": {"text", "score"}: of an array (time, symbols) the best symbol at each time,
    repeats and blanks left out (Graves et al., Connectionist temporal classification, ICML 2006, best path); the score
    is the mean of the kept symbols' scores, or of the blanks' where nothing is kept. "embed": {"embedding": a vector}.
    "raw": {name: array}, "output" where it has no name.

    Scores are Python floats with the digits of float32 ("softmax", computed in float64), or of the model's own dtype.

    Raises, from the function: SpecError where the spec does not fit the model's output: its shape, or the number of
    labels; ItemError where a row holds no number at all.
    """
    if spec.task == "classify":
        return functools.partial(_classify, spec)
    if spec.task == "ctc":
        # Of the number of symbols, which is known with the first row.
        return functools.partial(_ctc, spec, functools.cache(functools.partial(_symbols, spec)))
    return _embed if spec.task == "embed" else _raw


def activation_of(spec: OutputSpec) -> Interpret | None:
    """Return the function that turns a row's numbers into scores, as `spec` says; None where they are scores already.

    float32, computed in float64; over the symbols for "ctc", over all numbers of a row else.
    """
    if spec.activation != "softmax":
        return None
    if spec.task == "ctc":
        return lambda row: np.apply_along_axis(_softmax, -1, _time_by_symbol(_only(row, spec.task)))
    return lambda row: _softmax(_only(row, spec.task).reshape(-1))


def of_scores(spec: OutputSpec) -> OutputSpec:
    """Return `spec` for numbers to which the activation was applied already."""
    return spec if spec.activation is None else replace(spec, activation="none")


def _raw(row: Any) -> dict[str, Any]:
    return dict(row) if isinstance(row, Mapping) else {"output": row}


def _embed(row: Any) -> dict[str, Any]:
    return {"embedding": _only(row, "embed").reshape(-1)}


def _classify(spec: OutputSpec, row: Any) -> dict[str, Any]:
    array = _only(row, spec.task)
    values = array.reshape(-1)
    if max(array.shape, default=1) != values.size:
        raise SpecError(f'task="classify" wants one score for each class; the model gives {array.shape} for an item.')
    labels = spec.labels
    if labels is not None and len(labels) != values.size:
        raise SpecError(f"there are {len(labels):,} labels for the {values.size:,} classes that the model gives.")
    best = _best(values, spec.top_k)
    scores = _softmax(values)[best] if spec.activation == "softmax" else values[best]
    offset = spec.index_offset or 0
    top = []
    for place, score in zip(best.tolist(), _floats(scores), strict=True):
        entry: dict[str, Any] = {"index": place + offset}
        if labels is not None:
            entry["label"] = labels[place]
        entry["score"] = score
        top.append(entry)
    return {"top": top}


def _best(values: Array, count: int) -> Array:
    """Return where the `count` largest values are, the largest first, equal ones in order, NaN last."""
    keys = -values if values.dtype.kind == "f" else -values.astype(np.float64)
    if count < keys.size:
        # Not argpartition alone: which of several equal values it takes depends on the CPU.
        places = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
        if places.size >= count:  # fewer where NaN has to fill the rest
            return places[np.argsort(keys[places], kind="stable")][:count]
    return np.argsort(keys, kind="stable")[:count]


def _softmax(values: Array) -> Array:
    exact = values.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinities: NaN says it in the record
        powers = np.exp(exact - exact.max())
    scores: Array = (powers / powers.sum()).astype(np.float32)
    return scores


def _floats(scores: Array) -> list[float]:
    """Return scores as Python floats of the fewest digits that give the same number in their own precision."""
    return [float(str(score)) for score in scores]


def _ctc(spec: OutputSpec, symbols: Callable[[int], tuple[tuple[str, ...], int]], row: Any) -> dict[str, Any]:
    scores = _time_by_symbol(_only(row, spec.task))
    text_of, blank = symbols(scores.shape[1])
    best = scores.argmax(axis=1)
    kept = best != blank
    kept[1:] &= best[1:] != best[:-1]
    counted = np.flatnonzero(kept) if kept.any() else np.arange(len(best))
    text = "".join([text_of[place] for place in best[kept].tolist()])
    return {"text": text, "score": _mean_score(scores[counted], best[counted], spec)}


def _time_by_symbol(array: Array) -> Array:
    if array.ndim == 3 and 1 in array.shape[:2]:  # (1, time, symbols), (time, 1, symbols)
        array = array.reshape(-1, array.shape[2])
    if array.ndim != 2 or array.shape[0] == 0:
        raise SpecError(f'task="ctc" wants scores (time, symbols); the model gives {array.shape} for an item.')
    return array


def _symbols(spec: OutputSpec, count: int) -> tuple[tuple[str, ...], int]:
    """Return the text of each of the model's `count` rows, and which of them is the blank."""
    labels = spec.labels or ()
    blank = spec.blank if spec.blank >= 0 else count - 1
    if blank >= count:
        raise SpecError(f"blank={blank}, and the model gives {count:,} symbols, 0 to {count - 1:,}.")
    offset = spec.index_offset
    if offset is None:
        offset = _offset(labels, blank, count)
    wrong = [row for row in range(count) if row != blank and not 0 <= row + offset < len(labels)]
    if wrong:
        raise SpecError(
            f"{len(wrong):,} of the {count:,} symbols that the model gives have no label, the first at row {wrong[0]}: "
            f"there are {len(labels):,} labels, blank={blank}, and row r means labels[r + {offset}]. "
            "Correct labels, blank or index_offset."
        )
    return tuple("" if row == blank else labels[row + offset] for row in range(count)), blank


def _offset(labels: tuple[str, ...], blank: int, count: int) -> int:
    """Return what to add to a row to find its label, where the spec leaves it to follow from the blank."""
    if blank < len(labels) and not labels[blank]:
        return 0  # the labels hold the blank too
    if blank == 0:
        return -1
    if blank == count - 1:
        return 0
    raise SpecError(
        f"the blank is row {blank} of {count:,}, amid the symbols, and the {len(labels):,} labels leave it out. Put an "
        f"empty label at {blank}, or say index_offset."
    )


def _mean_score(rows: Array, best: Array, spec: OutputSpec) -> float:
    peaks = rows[np.arange(len(best)), best].astype(np.float64)
    if spec.activation == "softmax":
        with np.errstate(invalid="ignore"):  # the best symbol's share is 1 / sum(exp(x - max))
            peaks = 1 / np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1, dtype=np.float64)
    return float(str(np.float32(peaks.mean())))


def _only(row: Any, task: str) -> Array:
    """Return the one array of `row`. Raises SpecError where there are several, or it is none."""
    if isinstance(row, Mapping):
        if len(row) != 1:
            names = ", ".join(str(name) for name in row)
            raise SpecError(f'task="{task}" wants one output, the model gives {len(row)}: {names}. Say task="raw".')
        (row,) = row.values()
    array = np.asarray(row)
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise ItemError(f'task="{task}" wants numbers; the model gives {array.dtype} {array.shape} for this item.')
    return array

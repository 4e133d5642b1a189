"""The truth about a model file, and the check that every loaded model passes before its answers count."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from penstock._contracts import Model, Predict
from penstock._models.agreement import Agreement, compare
from penstock._models.candidates import reference_candidate
from penstock._models.drill import callers_of, rows_of_all
from penstock._models.padding import Padding
from penstock._spec import InputSpec
from penstock.errors import ItemError, ModelError

REFERENCE_S = 0.5
"""Time for the reference's rows; slow models are checked on fewer items, but on MIN_CHECKED at least."""
MIN_CHECKED = 4


@dataclass(frozen=True, slots=True)
class Truth:
    """Items and the rows that the reference gives for them; `said` names the reference.

    `padding`: whether the items are padded and why not, as choices to store; empty where their spec allows none.
    """

    items: list[Any]
    rows: list[Any]
    said: str
    padding: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def reference(path: str | os.PathLike[str], spec: InputSpec | None) -> Iterator[Predict]:
    """Give the `predict` of a plain, single-threaded session: the truth that others are held against.

    ONNX Runtime with its default settings, or OpenVINO with one stream at f32 where that alone is installed.
    Normalisation is numpy's, outside the graph.
    """
    model = reference_candidate().load(path, spec)
    try:
        with model.worker() as predict:
            yield predict
    finally:
        model.close()


def truth_of(
    path: str | os.PathLike[str], spec: InputSpec | None, items: Sequence[Any], padding: Padding | None = None
) -> Truth:
    """Return the rows of the `reference` for `items`, as `truth_by` does."""
    with reference(path, spec) as predict:
        said = f"one plain, single-threaded {reference_candidate().runtime} session"
        return truth_by(predict, items, said, padding)


def truth_by(predict: Predict, items: Sequence[Any], said: str, padding: Padding | None = None) -> Truth:
    """Return the rows that `predict` gives for `items`, one by one, or for the first that fit into REFERENCE_S.

    Items that it cannot run are left out: they fail in the run, each for itself. Where `padding` is allowed and changes
    no answer, the items are padded from here on. Raises ModelError where it can run none of them.
    """
    truth = _one_by_one(predict, items, said)
    if padding is None or not truth.items:
        return truth
    choices = padding.choices(predict, truth.items, truth.rows)
    if choices["padded_to"]:
        truth = _one_by_one(predict, padding.padded(truth.items), said)
    return replace(truth, padding=choices)


def _one_by_one(predict: Predict, items: Sequence[Any], said: str) -> Truth:
    kept: list[Any] = []
    rows: list[Any] = []
    errors: list[ItemError] = []
    begun = time.perf_counter()
    for item in items:
        try:
            rows.extend(predict([item]))
            kept.append(item)
        except ItemError as error:
            errors.append(error)
        if len(kept) >= MIN_CHECKED and time.perf_counter() - begun > REFERENCE_S:
            break
    if errors and not kept:
        raise ModelError(f"the model ran none of the first {len(errors)} items: {errors[0]}") from errors[0]
    return Truth(kept, rows, said)


def check(model: Model, truth: Truth, threads: int, batch: int = 1) -> Agreement:
    """Return how the model agrees with the truth when `threads` threads each run all items at the same time.

    A model that only one thread may call is run by one.

    Some faults are drawn at random for each compile, so this is asked of every loaded model, not of a kind of model.
    """
    answers = rows_of_all(model, truth.items, callers_of(model, threads), batch)
    return compare([row for rows in answers for row in rows], truth.rows * len(answers))

"""The output of one model for one item -> its answer: classes with the best first, a text, or a plain value (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from penstock._sinks.records import writable

Form = Literal["classes", "text", "value"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. `names` and `numbers` of classes, the best first; empty where the output has none of them.

    A text is the one name. A value is a plain text or number, which may be either: the truth decides.
    """

    form: Form
    names: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    score: float | None = None


def answer_of(output: Any) -> Answer | None:
    """Return the answer in an output; None where it has no form that could be right or wrong."""
    if isinstance(output, Mapping):
        return _answer_in(output)
    if isinstance(output, str):
        return Answer("value", (writable(output),))
    if _is_whole(output):
        return Answer("value", (), (str(int(output)),))
    return None


def _answer_in(output: Mapping[str, Any]) -> Answer | None:
    top, text, label = (output.get(name) for name in ("top", "text", "label"))
    if isinstance(top, Sequence) and top and all(isinstance(entry, Mapping) for entry in top):
        return _ranked(top)
    if isinstance(text, str):
        return Answer("text", (writable(text),), (), _score(output))
    if isinstance(label, str) or _is_whole(label):
        return _ranked([output])
    return None


def _ranked(entries: Sequence[Mapping[str, Any]]) -> Answer | None:
    """Return the answer of `[{"index": 0, "label": "daisy", "score": 0.9}, ...]`; None where one has neither."""
    labels, numbers = ([entry.get(key) for entry in entries] for key in ("label", "index"))
    if all(map(_is_whole, labels)):  # a function of the user's may call the number so
        labels, numbers = [], labels
    names = tuple(writable(label) for label in labels if isinstance(label, str))
    places = tuple(str(number) for number in numbers if _is_whole(number))
    names, places = (found if len(found) == len(entries) else () for found in (names, places))
    return Answer("classes", names, places, _score(entries[0])) if names or places else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _score(entry: Mapping[str, Any]) -> float | None:
    score = entry.get("score")
    if not isinstance(score, int | float | np.integer | np.floating) or isinstance(score, bool):
        return None
    if not math.isfinite(score):
        return None
    return float(score)

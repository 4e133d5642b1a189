"""What is shown of an output: for each model a short text, a score, and the best few classes (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_TOP = 5
MOST_PARTS = 6
MOST_CHARACTERS = 300
_SAID = ("text", "label")


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer: what it predicts as a text, how sure it is (None: not said), the best classes with scores."""

    prediction: str
    score: float | None = None
    top: tuple[tuple[str, float | None], ...] = ()


def answers_of(output: Any) -> dict[str, Answer]:
    """Return the answer of each model by name; one model alone has the name ""."""
    if isinstance(output, Mapping) and output and all(_is_answer(part) for part in output.values()):
        return {str(name): answer_of(part) for name, part in output.items() if part is not None}
    return {} if output is None else {"": answer_of(output)}


def _is_answer(value: Any) -> bool:
    """Tell whether `value` is what one of several models gave: None where it failed."""
    if not isinstance(value, Mapping):
        return value is None
    return _entries(value) is not None or any(isinstance(value.get(key), str) for key in _SAID)


def answer_of(output: Any) -> Answer:
    """Return what is shown of one model's output, whatever it is."""
    if isinstance(output, Mapping):
        if (entries := _entries(output)) is not None:
            top = tuple((_label(entry), number(entry.get("score"))) for entry in entries[:MOST_TOP])
            return Answer(*top[0], top)
        said = next((output[key] for key in _SAID if isinstance(output.get(key), str)), None)
        if said is not None:
            return Answer(said[:MOST_CHARACTERS], number(output.get("score")))
    return Answer(short(output)[:MOST_CHARACTERS])


def _entries(output: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """Return the classes of a classifier's output, the best first; None where it is no such output."""
    top = output.get("top")
    entries = list(top) if isinstance(top, (list, tuple, np.ndarray)) else []
    return entries if entries and all(isinstance(entry, Mapping) and "index" in entry for entry in entries) else None


def _label(entry: Mapping[str, Any]) -> str:
    label = entry.get("label")
    return str(entry["index"] if label is None else label)


def number(value: Any) -> float | None:
    """Return a finite number as a float, or None."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def short(value: Any) -> str:
    """Return a few words for any output."""
    if isinstance(value, Mapping):
        if value.keys() == {"array", "dtype", "shape"}:
            return _array(value["shape"], np.dtype(value["dtype"]).name)
        shown = [f"{name}: {short(part)}" for name, part in list(value.items())[:MOST_PARTS]]
        return ", ".join(shown) + (" …" if len(value) > MOST_PARTS else "")
    if isinstance(value, np.ndarray) and value.size > MOST_PARTS:
        return _array(value.shape, value.dtype.name)
    if isinstance(value, (list, tuple, np.ndarray)):
        parts = list(value)
        return f"{len(parts):,} values" if len(parts) > MOST_PARTS else f"[{', '.join(map(short, parts))}]"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return str(value)


def _array(shape: Sequence[int], dtype: str) -> str:
    return f"{dtype} array, {' x '.join(f'{side:,}' for side in shape)}"

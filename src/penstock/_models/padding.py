"""May lines be filled up to few widths, so that they share batches? Their answers decide, on a few real items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock._contracts import Predict
from penstock._models.agreement import TOLERANCE, difference
from penstock._preprocess import filled
from penstock._spec import InputSpec
from penstock.errors import PenstockError

_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Padding:
    """What a spec allows (`pad_to_multiple_of`).

    interpret: makes of a row of the model what a record says. exact: pad only where that changes no answer.
    """

    spec: InputSpec
    interpret: Callable[[Any], Any]
    exact: bool

    def padded(self, items: Sequence[Any]) -> list[Any]:
        """Return uint8 pictures (H, W, C), filled up on the right."""
        return [filled(item, self.spec) for item in items]

    def choices(self, predict: Predict, items: Sequence[Any], rows: Sequence[Any]) -> dict[str, Any]:
        """Return what is to be stored: "padded_to", and where that is None "why_not_padded" in words.

        `rows` are what `predict` gives for `items` one by one, as they are; it is asked for them padded, in a batch.
        """
        why = self._why_not(predict, items, rows) if self.exact else None
        if why is None:
            return {"padded_to": self.spec.pad_to_multiple_of}
        return {"padded_to": None, "why_not_padded": why}

    def _why_not(self, predict: Predict, items: Sequence[Any], rows: Sequence[Any]) -> str | None:
        said = f"lines are not padded to multiples of {self.spec.pad_to_multiple_of}"
        padded = self.padded(items)
        changed = [place for place, item in enumerate(items) if padded[place].shape != item.shape]
        if not changed:
            return f"{said}, for none of the {len(items)} tried would have been: there is no answer to compare"
        try:
            answers = predict(padded)
            pairs = [(self.interpret(rows[place]), self.interpret(answers[place])) for place in changed]
        except PenstockError as error:
            return f"{said}, for then the model failed: {error}"
        others = [pair for pair in pairs if _differ(*pair)]
        if not others:
            return None
        alone, beside = (f"{answer!r:.{_SHOWN}}" for answer in others[0])
        return (
            f"{said}, for padded in a batch {len(others)} of {len(pairs)} get other answers than alone "
            f"(first: {alone} becomes {beside})"
        )


def _differ(one: Any, other: Any) -> bool:
    """Return whether two interpreted answers are not the same: numbers by more than the tolerance, all else at all."""
    if isinstance(one, Mapping):
        return one.keys() != other.keys() or any(_differ(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) != len(other) or any(map(_differ, one, other))
    return difference(other, one) > TOLERANCE

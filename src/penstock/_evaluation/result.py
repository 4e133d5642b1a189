"""What an evaluation says, as frozen dataclasses that print and that turn into JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from penstock._printable import printable

Kind = Literal["classes", "text"]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class was found. A ratio of nothing to nothing is 0, as scikit-learn has it; see `support`."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    """How many items are of this class in truth."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """An item whose answer is wrong."""

    id: int | str
    truth: str
    prediction: str
    score: float | None


@dataclass(frozen=True, slots=True)
class ModelScore:
    """How good one model is, over the `items` that have both a truth and an answer of it.

    Classes: `top1` and `top5` (None where the results hold fewer than five classes) are shares of `items`, `confusion`
    counts items by truth (rows) and prediction (columns), both in the order of `labels`; of more than 2,000 there is
    none. Texts: `cer` and `wer` are errors per character and word of the truth, over all items together; `exact` is the
    share of items without an error. What does not apply is None or empty. `worst`: the most confident mistakes, or the
    lines with the most errors for their length, at most 100.
    """

    kind: Kind
    items: int
    right: int
    top1: float | None = None
    top5: float | None = None
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    per_class: tuple[ClassScore, ...] = ()
    cer: float | None = None
    wer: float | None = None
    exact: float | None = None
    worst: tuple[Mistake, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        # `asdict` would copy the confusion matrix number by number: seconds, for a thousand classes.
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {name: [asdict(one) for one in values[name]] for name in ("per_class", "worst")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the items that both answered: how many only one has right, and whether that may be chance.

    `p_value`: of the exact McNemar test, two-sided; not corrected for the number of pairs that are compared.
    """

    a: str
    b: str
    only_a: int
    only_b: int
    both: int
    neither: int
    p_value: float
    text: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results against the truth. Every item of the outputs and of the truth is in exactly one of the counts.

    `items`: those judged, with a truth and an answer of at least one model. `without_truth`: items of the outputs that
    the truth does not know. `failed`: those with a truth that failed. `without_result`: those with a truth and no
    result, as they are not done yet or in no output. `notes`: what is unusual, with names.
    """

    truth: str
    items: int
    without_truth: int
    without_result: int
    failed: int
    models: Mapping[str, ModelScore]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, as it is in `evaluation.json`."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["models"] = {name: score.to_dict() for name, score in self.models.items()}
        return values | {"comparisons": [asdict(one) for one in self.comparisons]}

    def __str__(self) -> str:
        """Return a line for the items, one for each model and each comparison, and the notes."""
        lines = [f"{self.items:,} items judged by {self.truth}"]
        lines += [f"{name}: {headline(score)}" for name, score in self.models.items()]
        lines += [comparison.text for comparison in self.comparisons]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(map(printable, lines))


def headline(score: ModelScore) -> str:
    """Return the measures of a model, with what they are shares of."""
    of = f"{score.right:,} of {score.items:,}"
    if score.kind == "classes":
        top5 = "" if score.top5 is None else f", top-5 {score.top5:.2%}"
        return f"top-1 {score.top1:.2%} ({of}){top5}"
    wer = "" if score.wer is None else f", WER {score.wer:.2%}"
    cer = "no CER, as all texts of the truth are empty" if score.cer is None else f"CER {score.cer:.2%}"
    return f"{cer}{wer}, exact {score.exact:.2%} ({of})"

"""Classes: the best class of each answer against the label, counted by pairs, and what scikit-learn makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from penstock._evaluation.answers import Answer
from penstock._evaluation.libraries import metrics_of_classes
from penstock._evaluation.result import ClassScore, Mistake, ModelScore
from penstock._evaluation.sheet import Verdict

By = Literal["name", "number"]
"""Whether labels of the truth are names of classes or their numbers."""
TOP = 5
MOST_LABELS = 2000
"""Of more there is no confusion matrix: it would have more cells than memory has room for, and than anybody reads."""


@dataclass(slots=True)
class Classes:
    """The classes that a model knows: number -> name, or name -> name where it has no numbers; pure."""

    names: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    """Whether there are no others than these: they were read from the model's spec."""
    named: bool = True
    numbered: bool = True
    """Whether every answer has names, and numbers."""

    def note(self, answer: Answer) -> None:
        """Add the classes of an answer."""
        self.named = self.named and bool(answer.names)
        self.numbered = self.numbered and bool(answer.numbers)
        if not self.complete:
            keys = answer.numbers or answer.names
            self.names.update(zip(keys, answer.names or answer.numbers, strict=True))

    def matched(self, truths: Iterable[str]) -> By:
        """Return what labels are matched with: names where there are any, but for numbers of which none is a name."""
        labels, known = set(truths), set(self.names.values())
        if not self.named:
            return "number"
        all_numbers = self.numbered and bool(labels) and labels <= self.names.keys()
        return "number" if all_numbers and not labels & known else "name"

    def labels(self, by: By) -> list[str]:
        """Return the labels that the classes have, in the order of their numbers."""
        in_order = sorted(self.names, key=lambda key: (not _is_number(key), int(key) if _is_number(key) else 0, key))
        return [key if by == "number" else self.names[key] for key in in_order]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


class ClassTally:
    """The answers of one model, judged one after another. Memory: a count for each pair of truth and prediction."""

    def __init__(self, classes: Classes, by: By) -> None:
        """Take what the model knows, and whether labels are names or numbers."""
        self._classes = classes
        self._by = by
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._in_top = 0
        self._holds_top = True

    def judge(self, truth: str, answer: Answer) -> Verdict:
        """Return the verdict on an answer."""
        ranked = answer.names if self._by == "name" else answer.numbers
        self._pairs[truth, ranked[0]] += 1
        self._in_top += truth in ranked[:TOP]
        self._holds_top = self._holds_top and len(ranked) >= TOP
        return Verdict(ranked[0], answer.score, right=ranked[0] == truth, weight=answer.score)

    def score(self, worst: tuple[Mistake, ...]) -> ModelScore:
        """Return the result. Raises MissingDependency without scikit-learn."""
        items = self._pairs.total()
        right = sum(n for (truth, prediction), n in self._pairs.items() if truth == prediction)
        labels = self._labels()
        return ModelScore(
            kind="classes",
            items=items,
            right=right,
            top1=right / items,
            top5=self._in_top / items if self._holds_top else None,
            labels=tuple(labels),
            confusion=confusion_of(self._pairs, labels) if len(labels) <= MOST_LABELS else (),
            per_class=per_class_of(self._pairs, labels),
            worst=worst,
        )

    def _labels(self) -> list[str]:
        """Return the labels that occur, those of the model's classes first, in their order."""
        occurring = {label for pair in self._pairs for label in pair}
        known = [label for label in dict.fromkeys(self._classes.labels(self._by)) if label in occurring]
        return known + sorted(occurring - set(known))


Pairs = Mapping[tuple[str, str], int]
"""(truth, prediction) -> number of items."""


def confusion_of(pairs: Pairs, labels: list[str]) -> tuple[tuple[int, ...], ...]:
    """Return the number of items by truth (rows) and prediction (columns)."""
    truths, predictions = zip(*pairs, strict=True)
    counts = list(pairs.values())
    if len(labels) == 1:  # scikit-learn warns that this might be a mistake
        return ((sum(counts),),)
    found = metrics_of_classes().confusion_matrix(truths, predictions, labels=labels, sample_weight=counts)
    return tuple(tuple(int(n) for n in row) for row in found)


def per_class_of(pairs: Pairs, labels: list[str]) -> tuple[ClassScore, ...]:
    """Return precision, recall, F1 and support of each label."""
    truths, predictions = zip(*pairs, strict=True)
    found = metrics_of_classes().precision_recall_fscore_support(
        truths, predictions, labels=labels, sample_weight=list(pairs.values()), zero_division=0.0
    )
    return tuple(
        ClassScore(label, float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *found, strict=True)
    )

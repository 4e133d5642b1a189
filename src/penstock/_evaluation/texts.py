"""Texts: errors per character and per word, over all items together, and how many are exactly right."""

from __future__ import annotations

from penstock._evaluation.answers import Answer
from penstock._evaluation.libraries import metrics_of_texts
from penstock._evaluation.result import Mistake, ModelScore
from penstock._evaluation.sheet import Verdict


class TextTally:
    """The answers of one model, judged one after another; sums are all that is kept."""

    def __init__(self, *, ignore_spaces: bool) -> None:
        """Take how white space counts. Raises MissingDependency without jiwer."""
        self._between = "" if ignore_spaces else " "
        self._jiwer = metrics_of_texts()
        self._items = self._exact = 0
        self._character_errors = self._characters = 0
        self._word_errors = self._words = 0

    def judge(self, truth: str, answer: Answer) -> Verdict:
        """Return the verdict on an answer. The weight is its errors for each character of the truth."""
        prediction = (answer.names or answer.numbers)[0]
        meant, read = (self._between.join(text.split()) for text in (truth, prediction))
        errors, characters = _counted(self._jiwer.process_characters(meant, read))
        word_errors, words = _counted(self._jiwer.process_words(meant, read))
        self._items += 1
        self._exact += meant == read
        self._character_errors += errors
        self._characters += characters
        self._word_errors += word_errors
        self._words += words
        return Verdict(prediction, answer.score, right=meant == read, weight=errors / max(characters, 1))

    def score(self, worst: tuple[Mistake, ...]) -> ModelScore:
        """Return the result."""
        return ModelScore(
            kind="text",
            items=self._items,
            right=self._exact,
            cer=_rate(self._character_errors, self._characters),
            wer=_rate(self._word_errors, self._words) if self._between else None,
            exact=self._exact / self._items,
            worst=worst,
        )


def _counted(found: object) -> tuple[int, int]:
    """Return (errors, length of the truth) of what jiwer found."""
    hits, substitutions, deletions, insertions = (
        int(getattr(found, name)) for name in ("hits", "substitutions", "deletions", "insertions")
    )
    return substitutions + deletions + insertions, hits + substitutions + deletions


def _rate(errors: int, length: int) -> float | None:
    """Return errors per unit; None where there is nothing to be wrong in."""
    return errors / length if length else None

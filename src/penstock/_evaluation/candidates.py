"""One model of an output on its way to a score: what its answers are, and how they are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from penstock._evaluation.answers import Answer, Form, answer_of
from penstock._evaluation.classes import By, Classes, ClassTally
from penstock._evaluation.outputs import Output
from penstock._evaluation.result import Mistake, ModelScore
from penstock._evaluation.sheet import Verdict
from penstock._evaluation.texts import TextTally
from penstock.errors import UsageError

NAMED = 3
"""How many items or labels a message names."""


class Candidate:
    """A model of an output, under a name of its own among all that are evaluated together."""

    def __init__(self, number: int, name: str, own: str, output: Output, *, texts: bool) -> None:
        """Take its number and name here, and the name it has in its output. texts: whether plain values are texts."""
        self.number = number
        self.name = name
        self.own = own
        self._path = output.path
        self._texts = texts
        known = dict(output.classes.get(own, {}))
        self._classes = Classes(known, complete=bool(known))
        self._forms: dict[Form, int | str] = {}
        self._notes: list[str] = []
        self._known: set[str] | None = None
        self._unknown: Counter[str] = Counter()
        self.answered = 0

    # ---- the first look

    def note(self, id_: int | str, output: Any) -> None:
        """See what an answer is. Raises UsageError where it has no form that could be right or wrong."""
        answer = self._answer(id_, output)
        self._forms.setdefault(answer.form, id_)
        if answer.form == "classes" or (answer.form == "value" and not self._texts):
            self._classes.note(answer)

    def _answer(self, id_: int | str, output: Any) -> Answer:
        answer = answer_of(output)
        if answer is None:
            raise UsageError(
                f"{self._path}: the output of {self.name} for {id_!r} is neither classes nor a text: {output!r:.80}. "
                'Run it with a spec whose task is "classify" or "ctc", or with post= that returns {"label": ...} or '
                '{"text": ...}.'
            )
        return answer

    def prepare(self, truths: Callable[[], set[str]], *, ignore_spaces: bool) -> None:
        """Decide how answers are judged. Raises UsageError where nothing fits.

        truths: gives what is true of some item; asked for classes alone, as texts may be as many as items.
        """
        forms = set(self._forms) - {"value"}
        if len(forms) > 1:
            named = ", ".join(f"{form} for {id_!r}" for form, id_ in self._forms.items())
            raise UsageError(
                f"{self._path}: the outputs of {self.name} are of several kinds: {named}. Evaluate one kind."
            )
        if "text" in forms or (self._texts and "classes" not in forms):
            self._tally: ClassTally | TextTally = TextTally(ignore_spaces=ignore_spaces)
            return
        if ignore_spaces and self._forms:
            raise UsageError(f"{self._path}: ignore_spaces is for texts, and {self.name} gives classes. Leave it out.")
        self._tally = ClassTally(self._classes, self._matched(truths()))

    def _matched(self, truths: set[str]) -> By:
        """Return whether labels are names or numbers. Raises UsageError where the model knows none of them."""
        classes = self._classes
        if not classes.named and not classes.numbered:
            raise UsageError(
                f"{self._path}: some outputs of {self.name} have names of classes, others have numbers alone."
            )
        by = classes.matched(truths)
        known = classes.labels(by)
        if known and truths.isdisjoint(known):
            raise UsageError(self._nothing_known(sorted(truths), known, by))
        if by == "number" and classes.named:
            self._notes.append(f"{self.name}: the labels of the truth are taken as numbers of classes; none is a name")
        self._known = set(known)
        return by

    def _nothing_known(self, labels: Sequence[str], known: Sequence[str], by: By) -> str:
        what = "names" if by == "name" else "numbers, as it was run without labels"
        return (
            f"{self._path}: no label of the truth is a class of {self.name}. The truth has {_some(labels)}; the model "
            f"has {what}: {_some(known)}. Give the truth in the model's words, or run the model with labels in the "
            "truth's."
        )

    # ---- the second look

    def judge(self, truth: str, output: Any) -> Verdict:
        """Return the verdict on an answer."""
        answer = answer_of(output)
        assert answer is not None, "it was looked at before"
        self.answered += 1
        if self._known is not None and truth not in self._known:
            self._unknown[truth] += 1
        return self._tally.judge(truth, answer)

    def score(self, worst: tuple[Mistake, ...]) -> ModelScore:
        """Return the result; there must be an answer."""
        return self._tally.score(worst)

    def notes(self, judged: int) -> Iterator[str]:
        """Yield what is unusual, where `judged` items were judged at all."""
        yield from self._notes
        if self.answered < judged:
            missing = judged - self.answered
            yield f"{self.name}: no answer for {missing:,} of the {judged:,} judged items, which do not count for it"
        if self._unknown:
            yield f"{self.name}: {self._named_unknown()}"

    def _named_unknown(self) -> str:
        why = "is no class of it" if self._classes.complete else "is named in none of its results"
        unknown = sorted(((n, label) for label, n in self._unknown.items()), key=lambda pair: (-pair[0], pair[1]))
        named = ", ".join(f"{label!r} ({n:,})" for n, label in unknown[:NAMED])
        more = ", ..." if len(unknown) > NAMED else ""
        return f"{self._unknown.total():,} counted as wrong, because the label {why}: {named}{more}"


def candidates_of(outputs: Sequence[Output], *, texts: bool) -> list[list[Candidate]]:
    """Return the models of each output; those that are called alike have the output in their name, too."""
    counts = Counter(model for output in outputs for model in output.models)
    candidates: list[list[Candidate]] = []
    number = 0
    for output in outputs:
        candidates.append([])
        for model in output.models:
            name = model if counts[model] == 1 else f"{model} ({output.path})"
            candidates[-1].append(Candidate(number, name, model, output, texts=texts))
            number += 1
    return candidates


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:NAMED]))
    return shown if len(labels) <= NAMED else f"{shown}, ..."

"""The tables of an evaluation, for a terminal (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock._evaluation.result import Evaluation, Mistake, ModelScore
from penstock._printable import printable

MOST_CLASSES = 20
"""Above it a table of all classes is no longer read: then those with the lowest F1."""
MOST_COLUMNS = 12
"""Above it a confusion matrix is no longer read: then the most frequent confusions."""
MOST_MISTAKES = 10
WIDTH = 40
"""Of a text or an id in a table."""


def details(evaluation: Evaluation) -> Iterator[str]:
    """Yield the tables of each model: classes, confusions, worst mistakes."""
    for name, score in evaluation.models.items():
        blocks = [block for block in (_classes(score), _confusion(score), _worst(score)) if block]
        for block in blocks:
            yield ""
            yield f"{printable(name)}: {block[0]}"
            yield from block[1:]


def _classes(score: ModelScore) -> list[str]:
    if not score.per_class:
        return []
    shown, title = score.per_class, "classes"
    if len(shown) > MOST_CLASSES:
        title = f"the {MOST_CLASSES} of {len(shown):,} classes with the lowest F1"
        shown = tuple(sorted(shown, key=lambda one: (one.f1, one.label))[:MOST_CLASSES])
    rows = [["class", "precision", "recall", "F1", "items"]]
    rows += [[_short(c.label), f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", f"{c.support:,}"] for c in shown]
    return [title, *_table(rows)]


def _confusion(score: ModelScore) -> list[str]:
    if not score.confusion:
        return []
    if len(score.labels) <= MOST_COLUMNS:
        rows = [["truth \\ prediction", *map(_short, score.labels)]]
        counts = zip(score.labels, score.confusion, strict=True)
        rows += [[_short(label), *(f"{n:,}" for n in row)] for label, row in counts]
        return ["confusion matrix", *_table(rows)]
    pairs = [
        (n, truth, prediction)
        for truth, row in zip(score.labels, score.confusion, strict=True)
        for prediction, n in zip(score.labels, row, strict=True)
        if n and truth != prediction
    ]
    rows = [["items", "truth", "prediction"]]
    first = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:MOST_MISTAKES]
    rows += [[f"{n:,}", _short(truth), _short(prediction)] for n, truth, prediction in first]
    return ["most frequent confusions", *_table(rows, left={1, 2})] if first else []


def _worst(score: ModelScore) -> list[str]:
    shown = score.worst[:MOST_MISTAKES]
    if not shown:
        return []
    if score.kind == "text":
        return ["lines with the most errors for their length", *(line for mistake in shown for line in _lines(mistake))]
    rows = [["item", "truth", "prediction", "score"]]
    for mistake in shown:
        texts = [_short(str(text)) for text in (mistake.id, mistake.truth, mistake.prediction)]
        rows.append([*texts, "" if mistake.score is None else f"{mistake.score:.3g}"])
    return ["worst mistakes", *_table(rows, left={0, 1, 2})]


def _lines(mistake: Mistake) -> Iterator[str]:
    """Yield an item with its two texts whole, below one another."""
    yield f"  {printable(str(mistake.id))}"
    yield f"    truth       {printable(mistake.truth)}"
    yield f"    prediction  {printable(mistake.prediction)}"


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= WIDTH else shown[: WIDTH - 3] + "..."


def _table(rows: Sequence[Sequence[str]], left: set[int] | frozenset[int] = frozenset({0})) -> Iterator[str]:
    """Yield the rows with their columns below one another; those in `left` begin, the others end, at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()

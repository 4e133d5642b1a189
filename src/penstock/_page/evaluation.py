"""What is known about right and wrong answers, as a page shows it: `evaluation.json`, `.jsonl` in the job's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_CLASSES = 40
"""Rows and columns of a confusion matrix that is shown."""
MOST_PAIRS = 30
MOST_WORST = 24


def summary_in(folder: Path) -> dict[str, Any] | None:
    """Return `evaluation.json` of the job's folder, cut to what a page shows, or None where there is none."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_bytes())
    return {**values, "models": {name: shown(model) for name, model in values["models"].items()}}


def items_in(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `evaluation.jsonl`: id, truth, and the answers by model; nothing where there is none."""
    path = folder / "evaluation.jsonl"
    if path.is_file():
        with path.open("rb") as file:
            yield from (json.loads(line) for line in file if line.endswith(b"\n"))


def shown(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's evaluation: of many classes the confusion matrix of those that are confused most.

    `pairs`: [truth, prediction, count] of the most frequent mistakes.
    """
    values = {**model, "worst": list(model.get("worst") or ())[:MOST_WORST]}
    labels, confusion = model.get("labels") or [], model.get("confusion") or []
    pairs = [
        (count, labels[row], labels[column])
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    pairs.sort(key=lambda pair: -pair[0])
    values["pairs"] = [[truth, said, count] for count, truth, said in pairs[:MOST_PAIRS]]
    if len(labels) > MOST_CLASSES:
        kept = most_confused(confusion)
        values["all_labels"] = len(labels)
        values["labels"] = [labels[place] for place in kept]
        values["confusion"] = [[confusion[row][column] for column in kept] for row in kept]
    return values


def most_confused(confusion: list[list[int]]) -> list[int]:
    """Return the places of the MOST_CLASSES classes with the most mistakes, as truth or as answer, in their order."""
    mistakes = [0] * len(confusion)
    for row, counts in enumerate(confusion):
        for column, count in enumerate(counts):
            if row != column:
                mistakes[row] += count
                mistakes[column] += count
    return sorted(sorted(range(len(confusion)), key=lambda place: -mistakes[place])[:MOST_CLASSES])

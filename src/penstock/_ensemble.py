"""The answers of several models to one item -> one answer (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.errors import ItemError

Combine = Callable[[list[Any]], Any]


def mean_of(rows: Sequence[Any]) -> Any:
    """Return the mean of the models' rows: numbers, arrays of one shape, or dicts of such by the same names.

    Arrays keep their dtype where it is a float one; the mean is computed in float64. Raises ItemError for others.
    """
    first = rows[0]
    if isinstance(first, Mapping):
        if any(not isinstance(row, Mapping) or row.keys() != first.keys() for row in rows):
            raise ItemError(f"a mean wants the same outputs of every model; the first gives {sorted(map(str, first))}.")
        return {name: mean_of([row[name] for row in rows]) for name in first}
    arrays = [np.asarray(row) for row in rows]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or any(array.dtype.kind not in "fiub" for array in arrays):
        kinds = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise ItemError(f'combine="mean" wants numbers of one shape from every model; they gave {kinds}.')
    mean = np.mean(arrays, axis=0, dtype=np.float64)
    if not isinstance(first, np.ndarray):
        return float(mean)
    return mean.astype(first.dtype) if first.dtype.kind == "f" else mean


def vote_of(outputs: Sequence[Any]) -> Any:
    """Return the output that most models gave, by its text, its best class, or as a plain value.

    A tie goes to the higher sum of scores, then to the earlier model. Of the outputs that won the one with the best
    score is returned, with `votes` beside it where it is a dict.
    """
    ballots: dict[Any, list[Any]] = {}
    for output in outputs:
        ballots.setdefault(_choice(output), []).append(output)
    winners = max(ballots.values(), key=lambda group: (len(group), sum(map(_score, group))))
    best = max(winners, key=_score)
    return {**best, "votes": len(winners)} if isinstance(best, Mapping) else best


def _choice(output: Any) -> Any:
    if isinstance(output, Mapping):
        if "text" in output:
            return output["text"]
        if output.get("top"):
            return output["top"][0]["index"]
    elif isinstance(output, str | int | float | np.generic):
        return output
    raise ItemError(f'combine="vote" wants a text, a class or a plain value of every model, not {output!r:.200}.')


def _score(output: Any) -> float:
    if not isinstance(output, Mapping):
        return 0.0
    return float(output["score"] if "text" in output else output["top"][0]["score"])

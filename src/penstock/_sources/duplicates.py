"""Ids must be unique: two items of one id would have one result."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from penstock._contracts import Source
from penstock._sources.files import FolderSource
from penstock._sources.iterables import Limited, ids_of
from penstock.errors import UsageError

_NAMED = 3


def check_duplicates(source: Source) -> None:
    """Read the ids of `source` and raise UsageError where one occurs twice; the first three are named with positions.

    Memory: 8 bytes an item. Positional sources and folders have unique ids by construction and are not read.
    """
    inner = source.source if isinstance(source, Limited) else source
    if source.positional or isinstance(inner, FolderSource):
        return
    hashes = np.frombuffer(array("q", map(hash, ids_of(source))), np.int64)
    ordered = np.sort(hashes)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    # Equal hashes may belong to different ids, so the ids themselves are looked at before anything is refused.
    twice = _positions(ids_of(source), suspects) if suspects else {}
    if twice:
        raise UsageError(_message(twice))


def _positions(ids: Iterable[str | int], suspects: set[int]) -> dict[str | int, list[int]]:
    found: dict[str | int, list[int]] = {}
    for position, id_ in enumerate(ids):
        if hash(id_) in suspects:
            found.setdefault(id_, []).append(position)
    return {id_: positions for id_, positions in found.items() if len(positions) > 1}


def _message(twice: dict[str | int, list[int]]) -> str:
    first = sorted(twice.items(), key=lambda pair: pair[1][1])[:_NAMED]
    named = "; ".join(f"{id_!r} at positions {_few(at)}" for id_, at in first)
    more = f" (and {len(twice) - _NAMED:,} more)" if len(twice) > _NAMED else ""
    occur = "id occurs" if len(twice) == 1 else "ids occur"
    return (
        f"{len(twice):,} {occur} more than once, so that results could not be told apart: "
        f"{named}{more}. Positions count from 0. Remove the doubles."
    )


def _few(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:_NAMED]))
    return shown if len(positions) <= _NAMED else f"{shown}, ..."

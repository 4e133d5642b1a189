"""What the user gave as a data set: with items by index, or to be read from the front to the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from penstock._contracts import Item
from penstock._feed.mixture import Mixture
from penstock._feed.packed import packed
from penstock._sources.iterables import is_path
from penstock._sources.opening import open_source
from penstock.errors import UsageError

ENDLESS = 1 << 62
"""More batches than an iterable can have, whose length is not known."""
_ACCEPTED = (
    "Give something with __len__ and __getitem__ (a torch Dataset, a list), a folder, a glob pattern or a table of "
    "paths, or an iterable with shuffle=False."
)


@dataclass(frozen=True, slots=True)
class Data:
    """One data set, or several (`weights`), with items by index; or an `iterable`."""

    indexed: Sequence[Any]
    iterable: Iterable[Any] | None = None
    weights: Sequence[float] | None = None

    def head(self, n: int) -> list[Any] | None:
        """Return the first items of an iterable; None where it can be read once only."""
        assert self.iterable is not None
        return None if isinstance(self.iterable, Once) else list(islice(self.iterable, n))

    def items(self, seed: int, *, shuffle: bool) -> int | Mixture | None:
        """Return how many items an epoch has, or what mixes them; None where that is not known before it ends."""
        if self.iterable is not None:
            return None
        lengths = [len(dataset) for dataset in self.indexed]
        return lengths[0] if self.weights is None else Mixture(lengths, self.weights, seed, shuffle=shuffle)


def data_of(dataset: Any, weights: Sequence[float] | None, *, shuffle: bool) -> Data:
    """Return what `dataset` means. Raises UsageError where it is nothing that batches can be made of."""
    if weights is not None:
        if not isinstance(dataset, list | tuple) or not all(map(_has_items, dataset)):
            raise UsageError(f"weights={weights!r} is for a list of data sets, each with __len__ and __getitem__.")
        return Data([packed(one) for one in dataset], weights=weights)
    if is_path(dataset):
        return Data([packed(_listed(dataset))])
    if _has_items(dataset):
        if len(dataset) == 0:
            raise UsageError(f"The data set is empty: {_shown(dataset)}.")
        return Data([packed(dataset)])
    if not isinstance(dataset, Iterable) or isinstance(dataset, Mapping | set | frozenset):
        raise UsageError(f"dataset={_shown(dataset)} is nothing that batches can be made of. {_ACCEPTED}")
    if shuffle:
        raise UsageError(
            f"dataset={_shown(dataset)} is read from the front to the end and cannot be shuffled: say shuffle=False, or"
            " give something with __len__ and __getitem__."
        )
    return Data([], iterable=Once(dataset) if iter(dataset) is dataset else dataset)


class Once:
    """An iterable that can be read once only, and says so when it is to be read again."""

    def __init__(self, items: Iterable[Any]) -> None:
        """Take a generator, or an iterator."""
        self._items: Iterable[Any] | None = items

    def __iter__(self) -> Iterator[Any]:
        """Return it, once. Raises UsageError afterwards."""
        items, self._items = self._items, None
        if items is None:
            raise UsageError(
                "The data set is an iterator: it can be read once only, and has been begun already. Give something that"
                " gives a new iterator each time (a list, an object with __iter__) to read it again, or further epochs."
            )
        return iter(items)


def _has_items(dataset: Any) -> bool:
    """Tell whether items are found by index; torch's IterableDataset has the method, and only to refuse."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(dataset, torch.utils.data.IterableDataset):
        return False
    by_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    return by_index and not isinstance(dataset, Mapping | str | bytes)


def _listed(source: str | os.PathLike[str]) -> list[Any]:
    """Return the paths of a folder, a pattern or a list; the rows of a table, as dicts with their path."""
    rows = []
    for item in open_source(source):
        assert isinstance(item, Item)
        rows.append(item.path if item.row is None else {"path": item.path, **item.row})
    if not rows:
        raise UsageError(f"There is nothing to feed in {os.fspath(source)!r}: no file with the suffix of an image.")
    return rows


def _shown(dataset: Any) -> str:
    text = repr(dataset)
    return text if len(text) < 100 else f"{text[:100]}... ({type(dataset).__name__})"

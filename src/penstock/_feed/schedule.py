"""Which items make up which batch of which epoch (pure)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock._feed.mixture import Mixture
from penstock._feed.permutation import Array, Permutation

AHEAD = 4096
"""Places whose items are computed at once: one by one it would take longer than many a sample."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The items of a batch, in order. `which`: of which data set each is, where there are several.

    `keys`: what the randomness of each is keyed by: the item, or its place where an item may come twice in an epoch.
    """

    items: list[int]
    keys: list[int]
    which: list[int] | None = None


class Schedule:
    """The batches of every epoch, by their number; a function of seed and epoch alone.

    Args:
        n: items of the data set, or a `Mixture`.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(self, n: int | Mixture, batch_size: int, seed: int, *, shuffle: bool, drop_last: bool) -> None:
        """Compute nothing yet."""
        self._mixture = n if isinstance(n, Mixture) else None
        self.items = len(n) if isinstance(n, Mixture) else n
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self.batches = self.items // batch_size if drop_last else -(-self.items // batch_size)
        self._begin = self._end = 0
        self._epoch = -1
        self._found: tuple[Array, Array | None] = (np.empty(0, np.int64), None)

    def batch(self, epoch: int, number: int) -> Draws:
        """Return the items of a batch. Not for several threads at once."""
        begin = number * self._batch_size
        end = min(begin + self._batch_size, self.items)
        if epoch != self._epoch or begin < self._begin or end > self._end:
            self._epoch, self._begin, self._end = epoch, begin, min(self.items, max(end, begin + AHEAD))
            self._found = self._find(epoch, np.arange(self._begin, self._end))
        items, which = self._found
        here = slice(begin - self._begin, end - self._begin)
        found = items[here].tolist()
        if which is None:
            return Draws(found, found)
        return Draws(found, list(range(begin, end)), which[here].tolist())

    def _find(self, epoch: int, places: Array) -> tuple[Array, Array | None]:
        if self._mixture is not None:
            which, items = self._mixture.find(epoch, places)
            return items, which
        return (Permutation(self.items, (self._seed, 0, epoch))(places) if self._shuffle else places), None

"""What is left of an epoch for one rank, as tasks: batches of items by index, or of an iterable from its front on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from penstock._feed.data import ENDLESS, Data
from penstock._feed.making import Task
from penstock._feed.position import Position, Share
from penstock._feed.probing import PROBES
from penstock._feed.schedule import Draws, Schedule
from penstock.errors import UsageError

Place = tuple[Position, int]
"""Which of this rank's batches of which epoch."""
Numbered = tuple[Place, Task]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a data set is cut into batches."""

    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool


class Reading:
    """One rank's reading of a data set."""

    def __init__(self, data: Data, cut: Cut, share: Share) -> None:
        """Read nothing yet. Raises UsageError where ranks cannot be made even."""
        self.share = share
        self._data = data
        self._cut = cut
        items = data.items(cut.seed, shuffle=cut.shuffle)
        self._schedule: Schedule | None = None
        if items is not None:
            self._schedule = Schedule(items, cut.batch_size, cut.seed, shuffle=cut.shuffle, drop_last=cut.drop_last)
        elif cut.drop_last and share.world_size > 1:
            raise UsageError(
                "drop_last with several ranks needs to know how many items there are; an iterable does not."
            )

    @property
    def items(self) -> int | None:
        """How many items an epoch has, over all ranks; None where that is not known before its end."""
        return None if self._schedule is None else self._schedule.items

    @property
    def batches(self) -> int:
        """How many batches an epoch has, over all ranks; more than there can be where that is not known."""
        return ENDLESS if self._schedule is None else self._schedule.batches

    def at(self, epoch: int) -> Position:
        """Return the position before the first batch of an epoch."""
        return Position(epoch, self.batches, self.share)

    def planned(self, position: Position) -> int | None:
        """Return how many items of an epoch are this rank's; None where that is not known."""
        return None if self.items is None else min(self.items, position.count * self._cut.batch_size)

    def first(self, epoch: int) -> Task | None:
        """Return what the first samples are made of; None for an iterable that can be read once only."""
        if self._schedule is not None:
            return Task(epoch, 0, self._schedule.batch(epoch, 0))
        values = self._data.head(PROBES)
        if values is None:
            return None
        places = list(range(len(values)))
        return Task(epoch, 0, Draws(places, places), values)

    def tasks(self, position: Position, n: int | None, *, further: bool) -> Iterator[Numbered]:
        """Yield what is left of an epoch, in order; at most `n` batches, of `further` epochs too."""
        while True:
            for numbered in self._left(position):
                if n is not None and n <= 0:
                    return
                yield numbered
                n = None if n is None else n - 1
            if n is None or not further:
                return
            position = self.at(position.epoch + 1)

    def _left(self, position: Position) -> Iterator[Numbered]:
        if self._schedule is None:
            yield from self._read(position)
            return
        for own in position.left():
            number = position.number(own)
            yield (position, own), Task(position.epoch, number, self._schedule.batch(position.epoch, number))

    def _read(self, position: Position) -> Iterator[Numbered]:
        """Yield the batches of an iterable; those of others, and those handed out before, are read and passed over."""
        assert self._data.iterable is not None
        items, size, at = iter(self._data.iterable), self._cut.batch_size, 0
        for own in position.left():
            number = position.number(own)
            skipped = (number - at) * size
            next(islice(items, skipped, skipped), None)
            values = list(islice(items, size))
            at = number + 1
            if not values or (self._cut.drop_last and len(values) < size):
                return
            places = list(range(number * size, number * size + len(values)))
            yield (position, own), Task(position.epoch, number, Draws(places, places), values)

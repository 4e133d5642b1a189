"""Where a feed has come to: which batches of the epoch were handed out, as a mark and a few ranges (pure).

The batches of an epoch are numbered over all ranks. What was done before is `done`; the rest is dealt out, one by one,
to the ranks; and each rank has handed out the first `mark` of its own, and some beyond it where batches need no order.
Any set of such positions, one for each rank, says what is left, for any number of ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from penstock.errors import UsageError

Ranges = tuple[tuple[int, int], ...]
"""Disjoint, ascending, not adjacent; each from its first number to behind its last."""


def joined(ranges: Iterable[Sequence[int]]) -> Ranges:
    """Return what `ranges` cover, as few ranges."""
    found: list[list[int]] = []
    for begin, end in sorted((begin, end) for begin, end in ranges if end > begin):
        if found and begin <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([begin, end])
    return tuple((begin, end) for begin, end in found)


class Rest:
    """What `done` leaves of the first `n` numbers, found by place in O(log of the number of ranges)."""

    def __init__(self, n: int, done: Ranges) -> None:
        """Prepare."""
        ends = [0, *(end for _, end in done)]
        begins = [*(begin for begin, _ in done), n]
        gaps = [(begin, end) for begin, end in zip(ends, begins, strict=True) if end > begin]
        self._begins = [begin for begin, _ in gaps]
        self._before = list(accumulate((end - begin for begin, end in gaps), initial=0))

    def __len__(self) -> int:
        """Return how many are left."""
        return self._before[-1]

    def __getitem__(self, place: int) -> int:
        """Return the number at a place."""
        gap = bisect_right(self._before, place) - 1
        return self._begins[gap] + place - self._before[gap]

    def numbers(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers at the places from `begin` to behind the last, as ranges."""
        while begin < end:
            gap = bisect_right(self._before, begin) - 1
            until = min(end, self._before[gap + 1])
            first = self._begins[gap] + begin - self._before[gap]
            yield first, first + until - begin
            begin = until


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's share of what is left of an epoch: every `world_size`-th batch. `even`: as many for each rank."""

    rank: int = 0
    world_size: int = 1
    even: bool = False

    def count(self, left: int) -> int:
        """Return how many of `left` batches fall to this rank."""
        return left // self.world_size if self.even else max(0, -(-(left - self.rank) // self.world_size))

    def place(self, own: int) -> int:
        """Return which of the batches left is this rank's `own`-th."""
        return self.rank + own * self.world_size


class Position:
    """What one rank has handed out of one epoch. Not for several threads at once."""

    def __init__(self, epoch: int, batches: int, share: Share, done: Ranges = ()) -> None:
        """Begin with what is left of `batches` after `done`."""
        self.epoch = epoch
        self.share = share
        self.done = done
        self.rest = Rest(batches, done)
        self.count = share.count(len(self.rest))
        self.mark = 0
        self._beyond: set[int] = set()

    def number(self, own: int) -> int:
        """Return the number in the epoch of this rank's `own`-th batch."""
        return self.rest[self.share.place(own)]

    def left(self) -> Iterator[int]:
        """Yield which of its own batches this rank has not handed out, in order, as of now."""
        beyond = set(self._beyond)
        return (own for own in range(self.mark, self.count) if own not in beyond)

    def hand_out(self, own: int) -> None:
        """Note that a batch was handed out."""
        self._beyond.add(own)
        while self.mark in self._beyond:
            self._beyond.remove(self.mark)
            self.mark += 1

    @property
    def handed_out(self) -> int:
        """How many batches were handed out."""
        return self.mark + len(self._beyond)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, a few hundred bytes."""
        beyond = joined((own, own + 1) for own in self._beyond)
        return {
            "epoch": self.epoch,
            "rank": self.share.rank,
            "world_size": self.share.world_size,
            "done": [list(pair) for pair in self.done],
            "mark": self.mark,
            "beyond": [list(pair) for pair in beyond],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the mark of a state of the same rank."""
        self.mark = state["mark"]
        self._beyond = {own for begin, end in state["beyond"] for own in range(begin, end)}


def resumed(states: Sequence[Mapping[str, Any]], batches: int, share: Share) -> Position:
    """Return where `share` goes on after `states`: its own, or those of all ranks, of `batches` in an epoch.

    Raises UsageError where they are not of one moment of one run, or not of all ranks.
    """
    for state in states:
        _check(state)
    first = states[0]
    ranks = sorted(state["rank"] for state in states)
    worlds, epochs = {state["world_size"] for state in states}, {state["epoch"] for state in states}
    if len(epochs) > 1 or len({joined(state["done"]) for state in states}) > 1:
        raise UsageError(
            f"The states are not of one moment: epochs {sorted(epochs)}. Save those of all ranks together."
        )
    if len(states) == 1 and (first["rank"], first["world_size"]) == (share.rank, share.world_size):
        position = Position(first["epoch"], batches, share, joined(first["done"]))
        position.restore(first)
        return position
    if len(worlds) > 1 or ranks != list(range(first["world_size"])):
        raise UsageError(
            f"States of the ranks {ranks} of {sorted(worlds)}: to go on as rank {share.rank} of {share.world_size}, "
            "give those of all ranks in a list."
        )
    return Position(first["epoch"], batches, share, _finished(states, batches))


def _check(state: Mapping[str, Any]) -> None:
    """Raise UsageError where `state` is none that `Position.to_dict` gives."""
    numbers = [state.get(key) for key in ("epoch", "rank", "world_size", "mark")]
    ranges = [number for key in ("done", "beyond") for pair in state.get(key, [None]) for number in pair or [None]]
    wrong = [value for value in (*numbers, *ranges) if type(value) is not int or value < 0]
    if wrong or not state["rank"] < state["world_size"]:
        raise UsageError(f"This is no state of a feed, or it was changed: {dict(state)!r}.")


def _finished(states: Sequence[Mapping[str, Any]], batches: int) -> Ranges:
    """Return the numbers of the batches that all ranks together have handed out: `states` has one of each."""
    world, least = len(states), min(state["mark"] for state in states)
    places: list[Sequence[int]] = [(0, least * world)]
    for state in states:
        own = (i for begin, end in ((least, state["mark"]), *state["beyond"]) for i in range(begin, end))
        places.extend((state["rank"] + i * world, state["rank"] + i * world + 1) for i in own)
    done = joined(states[0]["done"])
    rest = Rest(batches, done)
    return joined([*done, *(pair for begin, end in joined(places) for pair in rest.numbers(begin, end))])

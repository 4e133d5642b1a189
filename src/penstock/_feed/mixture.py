"""Several data sets in one epoch, in given shares: which item lies where (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from penstock._feed.permutation import Array, Permutation
from penstock.errors import UsageError

MOST_TURNS = 1000
"""Length of a round at most: a share under a thousandth cannot be kept."""


class Mixture:
    """Rounds in which each data set has its share of turns; each goes through its items again and again.

    An epoch has as many items as all data sets together, rounded to whole rounds. A data set is gone through whole
    before one of its items comes again (in another order), also from one epoch to the next.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int, *, shuffle: bool) -> None:
        """Deal turns out by `weights`. Raises UsageError where they make no sense."""
        self._lengths = lengths
        self._turns = turns_of(weights, lengths)
        self._starts = np.cumsum([0, *self._turns])
        self._round = int(self._starts[-1])
        self._rounds = max(1, sum(lengths) // self._round)
        self._seed = seed
        self._shuffle = shuffle

    def __len__(self) -> int:
        """Return the items of an epoch."""
        return self._rounds * self._round

    def find(self, epoch: int, places: Array) -> tuple[Array, Array]:
        """Return for each place of an epoch which data set it falls to, and which item of it."""
        rounds, turns = np.divmod(places, self._round)
        rounds = rounds + epoch * self._rounds
        slots = np.empty(len(turns), np.int64)
        for number in np.unique(rounds):
            here = rounds == number
            key = (self._seed, 1, int(number)) if self._shuffle else (0, 1, 0)
            slots[here] = Permutation(self._round, key)(turns[here])
        which = np.searchsorted(self._starts, slots, side="right") - 1
        items = np.empty(len(turns), np.int64)
        for one in np.unique(which):
            mine = which == one
            draws = rounds[mine] * self._turns[one] + slots[mine] - self._starts[one]
            items[mine] = self._items(int(one), draws)
        return which, items

    def _items(self, one: int, draws: Array) -> Array:
        """Return which items of a data set its draws (counted from the first epoch on) give."""
        passes, places = np.divmod(draws, self._lengths[one])
        if not self._shuffle:
            return places
        items = np.empty(len(draws), np.int64)
        for number in np.unique(passes):
            here = passes == number
            items[here] = Permutation(self._lengths[one], (self._seed, 2, one, int(number)))(places[here])
        return items


def turns_of(weights: Sequence[float], lengths: Sequence[int]) -> list[int]:
    """Return the turns of each data set in a round: small whole numbers in the ratio of `weights`.

    Raises UsageError where they make no sense.
    """
    if len(weights) != len(lengths) or not all(weight > 0 and math.isfinite(weight) for weight in weights):
        raise UsageError(f"weights={list(weights)!r} for {len(lengths)} data sets: give a number > 0 for each.")
    total = sum(weights)
    shares = [Fraction(weight / total).limit_denominator(MOST_TURNS) for weight in weights]
    length = math.lcm(*(share.denominator for share in shares))
    if length > MOST_TURNS or sum(shares) != 1:
        length = MOST_TURNS
    turns = _rounded([weight / total * length for weight in weights], length)
    if min(turns) == 0 or min(lengths) == 0:
        raise UsageError(
            f"weights={list(weights)!r} for data sets of {list(lengths)} items: each needs an item, and a share of "
            f"1/{MOST_TURNS} at least."
        )
    return turns


def _rounded(shares: Sequence[float], total: int) -> list[int]:
    """Return whole numbers that add up to `total`: the largest remainders are rounded up."""
    found = [math.floor(share + 1e-9) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: found[i] - shares[i])
    for i in order[: total - sum(found)]:
        found[i] += 1
    return found

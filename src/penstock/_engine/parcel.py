"""A parcel: a run of consecutive items of one flow, the unit that changes hands between threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock._contracts import Failure

if TYPE_CHECKING:
    from penstock._engine.flow import Flow
    from penstock._engine.inlet import Inlet

SAMPLES = 4
"""How many values of a long parcel are looked at to estimate its bytes: a look costs as much as a cheap stage."""


@dataclass(slots=True, eq=False)
class Parcel:
    """Consecutive items of a flow: `values[i]` belongs to `items[i]` at `positions[i]`; a failed one is a `Failure`."""

    flow: Flow | Inlet
    start: int
    """Sequence number of the first item within the flow; dense, so that order can be restored."""
    origin: tuple[int, int]
    """(start, length) of the parcel as it was admitted: the pieces of a split one are gathered by it."""
    positions: Sequence[int]
    """Position of each item in the source; batches are formed by it."""
    items: Sequence[Any]
    values: list[Any]
    failed: int = 0
    """How many of `values` are failures; 0 lets every stage take its fast path."""
    nbytes: int = 0
    """Bytes that `values` hold, estimated when the parcel last changed hands."""
    open_until: float | None = None
    """Until this time (monotonic) more items may be added to it; None: sealed."""
    step: int = 0
    """How many steps of the stage it is at are done with it: more than 0 only where a worker was given up amid them."""
    alone: bool = False
    """The items of its batch are to be asked one by one in that step: they got stuck together."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.values)

    def split(self, n: int) -> tuple[Parcel, Parcel]:
        """Return the first `n` items and the rest as two parcels."""
        return self.part(0, n), self.part(n, len(self))

    def part(self, start: int, stop: int) -> Parcel:
        """Return items `start` to `stop` as a parcel of their own."""
        values = self.values[start:stop]
        failed = count_failures(values) if self.failed else 0
        share = self.nbytes * (stop - start) // max(1, len(self))
        return Parcel(
            self.flow,
            self.start + start,
            self.origin,
            self.positions[start:stop],
            self.items[start:stop],
            values,
            failed,
            share,
            step=self.step,
            alone=self.alone,
        )


def count_failures(values: Sequence[Any]) -> int:
    """Return how many of `values` are failures."""
    return sum(1 for value in values if type(value) is Failure)


def join(pieces: Sequence[Parcel]) -> Parcel:
    """Return adjacent `pieces` as one parcel, in order of their start."""
    ordered = sorted(pieces, key=lambda piece: piece.start)
    first = ordered[0]
    joined = Parcel(first.flow, first.start, first.origin, [], [], [])
    joined.positions = [position for piece in ordered for position in piece.positions]
    joined.items = [item for piece in ordered for item in piece.items]
    joined.values = [value for piece in ordered for value in piece.values]
    joined.failed = sum(piece.failed for piece in ordered)
    joined.nbytes = sum(piece.nbytes for piece in ordered)
    return joined


def block_cuts(positions: Sequence[int], block: int) -> list[int]:
    """Return the offsets at which blocks end: items belong together where `position // block` is the same."""
    if positions and positions[-1] - positions[0] == len(positions) - 1:
        first = block - positions[0] % block
        return [*range(first, len(positions), block), len(positions)]
    keys = [position // block for position in positions]
    return [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]] + ([len(keys)] if keys else [])


def whole_blocks(positions: Sequence[int], block: int, n: int) -> int:
    """Return the smallest offset >= `n` at which a block ends."""
    return next(cut for cut in block_cuts(positions, block) if cut >= min(n, len(positions)))


def estimate_nbytes(values: Sequence[Any]) -> int:
    """Return the bytes of array data that `values` hold: exact for short parcels, by a few samples for long ones."""
    n = len(values)
    if n <= SAMPLES:
        return sum(value_nbytes(value) for value in values)
    sample = values[:: max(1, n // SAMPLES)]
    return sum(value_nbytes(value) for value in sample) * n // len(sample)


def value_nbytes(value: Any) -> int:
    """Return the bytes of the arrays and byte strings in `value`, one level of containers deep."""
    if isinstance(value, dict):
        return sum(map(_own_nbytes, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(_own_nbytes, value))
    return _own_nbytes(value)


def _own_nbytes(value: Any) -> int:
    """Return the length of a string, or the object's `nbytes` where that is a number: for some types it is a method."""
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    nbytes = getattr(value, "nbytes", 0)
    return int(nbytes) if isinstance(nbytes, (int, np.integer)) else 0

"""What all processes of a stage are given, in one memory that all of them read: an index, arrays, a long pickle."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

import numpy as np

from penstock._engine import messages
from penstock._engine.slots import TAG_BYTES, Array, Purse, Slot, aligned
from penstock.errors import UsageError

LEAST_BYTES = 1 << 16
"""A pickle of fewer bytes is sent to each process by itself."""


class Baggage:
    """A pickle and the arrays that belong to it, as bytes. Its memory is given back when nobody refers to it any more.

    A process maps it for itself alone: what it writes there, it writes into a copy of the page.
    """

    def __init__(self, name: str, data: bytes, buffers: list[Array], purse: Purse) -> None:
        """Copy them there. Raises UsageError, which names the stage, where there is not as much memory."""
        parts = [np.frombuffer(data, np.uint8), *buffers]
        nbytes = sum(aligned(part.nbytes) for part in parts) + TAG_BYTES
        made = Slot.made(nbytes, purse)
        if made is None:
            raise UsageError(
                f"stage {name!r}: what its processes are given takes {nbytes:,} bytes of shared memory, and "
                f"{purse.used_bytes:,} of {purse.limit_bytes:,} are in use. Give them less, or kind='thread'."
            )
        self.slot, self.descriptor = made
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        self._parts: list[tuple[int, int]] = []
        at = 0
        for part in parts:
            self.slot.view[at : at + part.nbytes] = part.data
            self._parts.append((at, part.nbytes))
            at += aligned(part.nbytes)

    def parts(self) -> list[Array]:
        """Return the pickle and the arrays, as bytes of the shared memory."""
        return [self.slot.lend(at, nbytes) for at, nbytes in self._parts]

    def located(self, number: int) -> Callable[[Array], int | None]:
        """Return what tells where an array lies for a process that knows this memory under `number`."""

        def place(buffer: Array) -> int | None:
            offset = self.slot.offset_of(buffer)
            return None if offset is None else messages.place_of(number, offset)

        return place

"""Where a worker process puts its answers: one behind another in the slot it was given, in a further one when full."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

from penstock._engine import messages, wire
from penstock._engine.leases import ANSWERING, WAITING, WORKING, Leases
from penstock._engine.slots import Array, Slot, aligned
from penstock._engine.wire import Note
from penstock.errors import ItemError

if TYPE_CHECKING:
    import numpy as np

TOLD = 3
"""Slots of which a note can say that they are given up."""
RESERVE = 8192
"""Bytes of a slot that only failures may use: there must be a place to say that there is no memory."""


class NoMemory(ItemError):
    """Raised for an answer that is larger than the memory there may be for it."""


class Answers:
    """The answers of one process. The parent offers slots, and each again when nobody reads it any more."""

    def __init__(self, connection: socket.socket, leases: Leases, slots: dict[int, Slot]) -> None:
        """Begin without a slot."""
        self._connection = connection
        self._leases = leases
        self._slots = slots
        self._number = -1
        self._offset = 0
        self._retired: list[int] = []
        """Slots that the parent need not offer again."""

    def begin(self, number: int) -> None:
        """Begin with a request: answers go into a slot from its beginning, or, -1, where the last one ended."""
        if number in self._slots:
            self._switch(number)
        elif number >= 0:
            self._retired.append(number)
            self._number = -1

    @property
    def last(self) -> int:
        """The slot that was written into last, which stays with this side; -1: none."""
        return self._number

    def _switch(self, number: int) -> None:
        self._number, self._offset = number, 0
        if self._slots[number].lent:  # the user's function holds on to an array of `room`: it may write into it
            self._slots.pop(number).close()
            self._retired.append(number)
            self._number = -1

    def put(self, value: Any, request: int) -> None:
        """Write an answer, which counts from then on. Raises NoMemory, and whatever pickling it raises."""
        packed = messages.pack(value, self._located)
        reserve = 0 if isinstance(value, messages.Failed) else RESERVE
        if not self._fits(packed.nbytes + reserve):
            self._more(packed.nbytes + RESERVE)
        offset = self._offset
        self._offset = messages.write(packed, self._slots[self._number], self._number, offset, request)
        self._leases.answer(messages.place_of(self._number, offset))

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array in the slot itself: as an answer, or a part of one, it need not be copied."""
        nbytes = math.prod(shape) * dtype.itemsize
        if not self._fits(nbytes + RESERVE):
            self._more(nbytes + RESERVE)
            self._leases.enter(WORKING)
        begin = self._offset
        self._offset = aligned(begin + nbytes)
        return self._slots[self._number].lend(begin, nbytes).view(dtype).reshape(shape)

    def _fits(self, nbytes: int) -> bool:
        return self._number >= 0 and self._offset + nbytes <= self._slots[self._number].nbytes

    def _located(self, buffer: Array) -> int | None:
        """Return where `buffer` lies in the slots of answers, if it does."""
        slot = self._slots.get(self._number)
        offset = None if slot is None else slot.offset_of(buffer)
        return None if offset is None else messages.place_of(self._number, offset)

    def _more(self, nbytes: int) -> None:
        """Take another slot, with room for `nbytes`; ask for one where none is offered."""
        self._leases.enter(WAITING)
        before, self._number = (self._number, self._offset), -1
        try:
            while self._number < 0:
                offered = (n for n, slot in self._slots.items() if slot.nbytes >= nbytes and slot.take())
                number = next(offered, -1)
                if number >= 0:
                    self._switch(number)
                else:
                    self._ask(nbytes)
        except NoMemory:
            self._number, self._offset = before  # where the failure can be said
            raise
        finally:
            self._leases.enter(ANSWERING)

    def _ask(self, nbytes: int) -> None:
        """Wait until the parent offers one. Raises NoMemory where it has none."""
        told = [*self._retired[:TOLD], -1, -1, -1][:TOLD]
        wire.send(self._connection, Note(wire.NEED, nbytes, *told))
        del self._retired[:TOLD]
        unmapped = ""
        while (received := wire.receive(self._connection)) is not None:
            note, descriptor = received
            if note.kind == wire.REFUSE:
                raise NoMemory(
                    f"its answer takes {nbytes:,} bytes of shared memory; {note.a:,} of {note.b:,} are in use. Return "
                    "less at once, or let go of earlier results."
                )
            if note.kind == wire.GRANT:
                if unmapped:
                    raise NoMemory(unmapped)
                return
            unmapped = self._map(note, descriptor)
        raise SystemExit(0)  # the parent has closed it: nobody wants an answer

    def _map(self, note: Note, descriptor: int | None) -> str:
        """Map a slot that comes; return why it cannot be, else ""."""
        assert note.kind == wire.SLOT
        assert descriptor is not None
        try:
            self._slots[note.a] = Slot(descriptor, note.b)
        except OSError as error:
            self._retired.append(note.a)
            return f"{note.b:,} bytes for its answer cannot be mapped: {error.strerror}."
        return ""

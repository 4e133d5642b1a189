"""Notes between a process and its parent: a few numbers each, now and then with a descriptor. Values lie in slots."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_FORM = struct.Struct("<5q")
START, WORK, SLOT, DROP, GRANT, REFUSE, READY, FAULT, DONE, NEED = range(10)
"""From the parent: begin with what lies in a slot; work on it; here is a slot (with its descriptor; for you alone where
a third number is given); forget one; one is offered to you; there is no more memory. From the child: I am ready; I
cannot do this, and why; done; I need so many bytes. While a child is at work nothing but the answer to its NEED is
sent to it."""


class Note(NamedTuple):
    """One note: what it is, and up to four numbers."""

    kind: int
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0


def send(to: socket.socket, note: Note, descriptor: int | None = None) -> None:
    """Send a note; never waits, as the other side has taken the one before. Raises OSError where nobody is there."""
    data = _FORM.pack(*note)
    sent = to.send(data) if descriptor is None else socket.send_fds(to, [data], [descriptor])
    if sent != len(data):
        raise BrokenPipeError(f"a note of {len(data)} bytes did not fit: {sent} were taken.")


def receive(source: socket.socket) -> tuple[Note, int | None] | None:
    """Return the next note with its descriptor; None where the other side is gone. Waits as the socket is set."""
    data, descriptors = b"", []
    while len(data) < _FORM.size:
        try:
            more, found, *_ = socket.recv_fds(source, _FORM.size - len(data), 1)
        except ConnectionError:
            more, found = b"", []
        descriptors.extend(found)
        if not more:
            return None
        data += more
    return Note(*_FORM.unpack(data)), descriptors[0] if descriptors else None

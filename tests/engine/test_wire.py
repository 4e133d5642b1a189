"""Notes: whole, in order, with their descriptors; and the end of the other side is an answer too."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from penstock._engine import wire
from penstock._engine.wire import Note


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        yield ours, theirs


def test_notes_arrive_in_order_with_their_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read, write = os.pipe()
    wire.send(theirs, Note(wire.NEED, 1 << 40, -1))
    wire.send(theirs, Note(wire.SLOT, 3, 4096), write)
    wire.send(theirs, Note(wire.DONE, 7))
    os.close(write)
    assert wire.receive(ours) == (Note(wire.NEED, 1 << 40, -1, 0, 0), None)
    received = wire.receive(ours)
    assert received is not None
    note, descriptor = received
    assert note == (wire.SLOT, 3, 4096, 0, 0)
    assert descriptor is not None
    os.write(descriptor, b"x")
    assert os.read(read, 1) == b"x"
    assert wire.receive(ours) == (Note(wire.DONE, 7), None)
    os.close(descriptor)
    os.close(read)


def test_a_note_that_comes_in_pieces_is_put_together(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    data = wire._FORM.pack(*Note(wire.DONE, 1, 2, 3, 4))
    theirs.send(data[:7])
    theirs.send(data[7:])
    assert wire.receive(ours) == (Note(wire.DONE, 1, 2, 3, 4), None)


def test_the_end_of_the_other_side_is_none_for_the_reader_and_an_error_for_the_writer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.close()
    assert wire.receive(ours) is None
    with pytest.raises(OSError, match="pipe"):
        wire.send(ours, Note(wire.WORK))

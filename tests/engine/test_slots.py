"""Memory without a name: it is there before it is used, is bounded, and is not written while anybody reads it."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from penstock._engine import slots
from penstock._engine.room import ALIGN
from penstock._engine.slots import _OFFERED, MIB, TAG_BYTES, Purse, Slot, aligned, memory_file, roomy


@pytest.fixture
def purse() -> Purse:
    return Purse(10 * MIB)


@pytest.fixture
def slot(purse: Purse) -> Iterator[Slot]:
    made = made_of(MIB, purse)
    yield made
    made.close()


def made_of(nbytes: int, purse: Purse) -> Slot:
    made = Slot.made(nbytes, purse)
    assert made is not None
    os.close(made[1])
    return made[0]


def test_two_mappings_of_a_slot_are_one_memory(purse: Purse) -> None:
    made = Slot.made(MIB, purse)
    assert made is not None
    here, descriptor = made
    there = Slot(descriptor, MIB)
    here.view[5:8] = b"abc"
    assert bytes(there.view[5:8]) == b"abc"
    there.lend(6, 1)[:] = ord("x")
    assert bytes(here.view[5:8]) == b"axc"
    here.close()
    there.close()


@pytest.fixture
def two(purse: Purse) -> Iterator[tuple[Slot, Slot]]:
    """The slot of a reader, and the same memory as its writer has it."""
    made = Slot.made(MIB, purse)
    assert made is not None
    reader, descriptor = made
    writer = Slot(descriptor, MIB)
    yield reader, writer
    reader.close()
    writer.close()


def test_a_slot_may_be_taken_once_for_each_offer(two: tuple[Slot, Slot]) -> None:
    reader, writer = two
    assert (reader.offer(), writer.take()) == (False, False)  # it begins with the writer
    for _ in range(3):
        reader.reclaim()
        reader.reclaim()
        assert (reader.taken, reader.offer(), reader.offer()) == (False, True, True)
        assert (writer.take(), writer.take()) == (True, False)
        assert (reader.taken, reader.offer()) == (True, False)


def test_an_offer_that_nobody_took_yet_is_not_made_twice(two: tuple[Slot, Slot]) -> None:
    reader, writer = two
    reader.reclaim()
    assert reader.offer()
    reader.reclaim()  # it was not taken: the same offer stands
    assert writer.take()
    assert (reader.taken, reader.offer(), writer.take()) == (True, False, False)


def test_a_slot_that_is_read_is_offered_when_the_last_view_is_gone(two: tuple[Slot, Slot]) -> None:
    reader, writer = two
    views = [reader.lend(0, 8), reader.lend(64, 8)[2:]]
    reader.reclaim()
    assert not reader.offer()
    views.pop()
    assert not writer.take()
    views.pop()
    assert (writer.take(), writer.take()) == (True, False)
    del views
    held = writer.lend(0, 8)  # what the writer's function holds says nothing about who reads
    reader.reclaim()
    assert reader.offer()
    del held
    assert (writer.take(), writer.take()) == (True, False)


def test_an_offer_that_is_written_late_offers_nothing(two: tuple[Slot, Slot]) -> None:
    """A thread may be stopped between its look at the leases and its word that there are none."""
    reader, writer = two
    reader.reclaim()
    late = reader._lent.ticket
    assert (reader.offer(), writer.take()) == (True, True)
    reader._lent.tag[_OFFERED] = late
    assert not writer.take()
    view = reader.lend(0, 8)
    reader.reclaim()
    reader._lent.tag[_OFFERED] = late
    assert (reader.offer(), writer.take()) == (False, False)
    del view
    assert writer.take()
    reader._lent.tag[_OFFERED] = late
    assert not writer.take()


class Sides(RuleBasedStateMachine):
    """A reader and a writer of one slot, at random; the writer works only between `ask` and `answer`."""

    def __init__(self) -> None:
        super().__init__()
        made = Slot.made(MIB, Purse(MIB))
        assert made is not None
        self.reader = made[0]
        self.writer = Slot(made[1], MIB)
        self.views: list[Any] = []
        self.at_work, self.has = False, True

    @precondition(lambda self: not self.at_work)
    @rule()
    def ask(self) -> None:
        self.reader.reclaim()
        self.has = False
        self.reader.offer()
        self.at_work = True

    @precondition(lambda self: self.at_work)
    @rule()
    def look_again(self) -> None:
        self.reader.offer()

    @precondition(lambda self: self.at_work)
    @rule()
    def take(self) -> None:
        free = not self.has and not self.views
        assert self.writer.take() == free  # neither while somebody reads, nor twice; and always where it is free
        self.has = self.has or free

    @precondition(lambda self: self.at_work)
    @rule(answers=st.integers(0, 3))
    def answer(self, answers: int) -> None:
        self.at_work = False
        if self.has:
            self.views += [self.reader.lend(64 * i, 64) for i in range(answers)]

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    def teardown(self) -> None:
        self.views.clear()
        self.reader.close()
        self.writer.close()


TestSides = Sides.TestCase


def test_a_slot_has_no_name_and_keeps_no_descriptor(purse: Purse) -> None:
    before, shared = os.listdir("/proc/self/fd"), set(os.listdir("/dev/shm"))
    several = [made_of(MIB, purse) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert set(os.listdir("/dev/shm")) == shared
    for slot in several:
        slot.close()


def test_its_pages_are_there_before_they_are_used(purse: Purse) -> None:
    made = Slot.made(4 * MIB, purse)
    assert made is not None
    slot, descriptor = made
    assert os.fstat(descriptor).st_blocks * 512 == 4 * MIB
    os.close(descriptor)
    slot.close()


def test_memory_that_is_not_there_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would not refuse it: it would kill some process."""
    monkeypatch.setattr(slots, "unnamed", lambda nbytes: pytest.fail("it was asked for"))
    assert Slot.made(1 << 50, Purse(1 << 60)) is None  # the purse allows it, the machine does not have it
    monkeypatch.setattr(slots, "memory_available", lambda: MIB)
    assert Slot.made(2 * MIB, Purse(1 << 60)) is None


def test_a_purse_bounds_what_is_taken(purse: Purse) -> None:
    several = [made_of(4 * MIB, purse), made_of(4 * MIB, purse)]
    assert Slot.made(4 * MIB, purse) is None
    assert purse.used_bytes == 8 * MIB
    assert purse.tight
    assert repr(purse) == "<Purse: 8,388,608 of 10,485,760 bytes>"
    several.pop().close()
    gc.collect()
    assert (purse.used_bytes, purse.tight) == (4 * MIB, False)
    made_of(5 * MIB, purse).close()
    several.pop().close()


@pytest.mark.parametrize("call", ["posix_fallocate", "ftruncate"])
def test_a_refusal_of_the_system_takes_nothing(purse: Purse, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, refuse)
    assert Slot.made(MIB, purse) is None
    assert purse.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_cannot_be_mapped_takes_nothing(purse: Purse, monkeypatch: pytest.MonkeyPatch) -> None:
    before, descriptor = len(os.listdir("/proc/self/fd")), memory_file()
    with pytest.raises(OSError, match="Errno"):
        Slot(descriptor, 0)
    monkeypatch.setattr(slots, "_mapped", lambda *_: os.close(-1))
    assert Slot.made(MIB, purse) is None
    assert purse.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_view_holds_a_lease_however_it_was_made(slot: Slot) -> None:
    array = slot.lend(ALIGN, 4096)
    assert slot.lent
    views = [array.view(np.float32).reshape(32, 32)[3:, ::2].T, array.data, np.asarray(array[5:6])]
    del array
    while views:
        assert slot.lent
        views.pop()
    assert not slot.lent
    assert repr(slot) == f"<Slot of {MIB - TAG_BYTES:,} bytes, 0 leases>"


def test_a_view_outlives_its_slot_and_the_memory_goes_with_it(purse: Purse) -> None:
    slot = made_of(MIB, purse)
    view = slot.lend(0, 8)[2:]
    view[:] = 7
    slot.reclaim()
    slot.close()
    slot.close()
    del slot
    gc.collect()
    assert purse.used_bytes == MIB
    assert view.tolist() == [7] * 6
    del view
    gc.collect()
    assert purse.used_bytes == 0


def test_sizes() -> None:
    assert [aligned(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]
    assert [roomy(n) for n in (0, 1, MIB, 10 * MIB)] == [MIB, MIB, 2 * MIB, 13 * MIB]
    assert all(roomy(n) - TAG_BYTES >= n for n in (1, MIB - TAG_BYTES - 1, MIB * 4 // 5, MIB * 4 // 5 - 1))


def test_without_memfd_an_unlinked_file_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptor = memory_file()
    os.write(descriptor, b"x")
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)
    made_of(MIB, Purse(MIB)).close()

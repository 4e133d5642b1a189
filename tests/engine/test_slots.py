"""Memory without a name: it is there before it is used, is bounded, and is not written while anybody reads it."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock._engine import slots
from penstock._engine.room import ALIGN
from penstock._engine.slots import MIB, Purse, Slot, aligned, memory_file, roomy


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
    assert repr(slot) == "<Slot of 1,048,576 bytes, 0 leases>"


def test_a_view_outlives_its_slot_and_the_memory_goes_with_it(purse: Purse) -> None:
    slot = made_of(MIB, purse)
    view = slot.lend(0, 8)[2:]
    view[:] = 7
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


def test_without_memfd_an_unlinked_file_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptor = memory_file()
    os.write(descriptor, b"x")
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)
    made_of(MIB, Purse(MIB)).close()

"""What all processes of a stage are given, in one memory."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest

from penstock._engine.baggage import LEAST_BYTES, Baggage
from penstock._engine.child import Duty
from penstock._engine.processes import Apart, Order, plain
from penstock._engine.slots import Purse, Slot
from penstock.errors import UsageError

pytestmark = pytest.mark.usefixtures("no_child_left")


def order_of(fn: Any) -> Order:
    return Order.of(Duty("work", plain(fn)), fn, 2)


def test_arrays_of_a_function_are_there_once_and_writing_makes_a_copy(tasks: Any) -> None:
    given = tasks.Holding(np.arange(1 << 17), b"x" * (1 << 17))
    order = order_of(given)
    assert isinstance(order.data, Baggage)
    with Apart(order, Purse(1 << 28)) as one, Apart(order, Purse(1 << 28)) as other:
        assert one.each([5]) == other.each([5]) == [(5, 1 << 17)]
        assert one.each([("write", 5, -1)]) == [(-1, 1 << 17)]
        assert one.each([5]) == [(-1, 1 << 17)]
        assert other.each([5]) == [(5, 1 << 17)]
    with Apart(order, Purse(1 << 28)) as third:
        assert third.each([5]) == [(5, 1 << 17)]
    assert given.array[5] == 5


def test_a_small_function_has_none(tasks: Any) -> None:
    assert isinstance(order_of(tasks.double).data, bytes)


def test_a_process_that_dies_is_given_it_again(tasks: Any) -> None:
    given = tasks.Holding(np.arange(1 << 14), b"")
    with Apart(order_of(given), Purse(1 << 28)) as apart:
        assert apart.each([("die",), 7])[1] == (7, 0)
        assert apart.deaths == 3


def test_memory_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match=r"stage 'sample': .* takes 1,\d+,\d+ bytes of shared memory, and 0 of 1,000 are in use"
    ):
        Baggage("sample", b"x" * LEAST_BYTES, [np.zeros(1 << 20, np.uint8)], Purse(1000))


def test_its_memory_and_its_descriptor_go_with_it() -> None:
    purse = Purse(1 << 24)
    before = len(os.listdir("/proc/self/fd"))
    baggage = Baggage("work", b"abc", [np.arange(1000).view(np.uint8)], purse)
    assert [bytes(part) for part in baggage.parts()] == [b"abc", np.arange(1000).tobytes()]
    assert purse.used_bytes > 0
    del baggage
    gc.collect()
    assert purse.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_written_into_a_private_slot_nobody_else_sees() -> None:
    made = Slot.made(1 << 20, Purse(1 << 24))
    assert made is not None
    slot, descriptor = made
    private = Slot(os.dup(descriptor), 1 << 20, private=True)
    os.close(descriptor)
    slot.view[0] = 1
    private.view[1] = 2
    assert (private.view[0], slot.view[1]) == (1, 0)
    slot.close()
    private.close()

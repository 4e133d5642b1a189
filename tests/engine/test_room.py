"""Arrays in the memory that results travel in; anywhere else plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np

import penstock
from penstock._engine.room import ALIGN, ROOM


def test_outside_of_a_worker_process_it_is_a_plain_array() -> None:
    array = penstock.empty((3, 4), "uint8")
    assert array.shape == (3, 4)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.ctypes.data % ALIGN == 0
    assert penstock.empty(3, object).tolist() == [None] * 3
    assert penstock.empty(5).shape == (5,)


def test_what_makes_arrays_is_asked_but_for_objects() -> None:
    asked: list[Any] = []

    def make(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        asked.append((shape, dtype))
        return np.zeros(shape, dtype)

    ROOM.make = make
    try:
        penstock.empty((2, 3), np.int16)
        penstock.empty(4, object)
    finally:
        ROOM.make = None
    assert asked == [((2, 3), np.dtype(np.int16))]

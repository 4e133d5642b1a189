"""Where a worker process makes its result: in the memory that it travels in."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


ALIGN = 64
"""Bytes of a cache line."""


class Room(threading.local):
    """What makes arrays in the thread of a worker process that works on items; None everywhere else."""

    make: Callable[[tuple[int, ...], np.dtype[Any]], Array] | None = None
    cancelled: Callable[[], bool] | None = None
    """Tells whether nobody wants the request in hand any more."""


ROOM = Room()


def empty(shape: int | tuple[int, ...], dtype: Any = "float32") -> Array:
    """Return a new array, its numbers not set, in the memory that the results of a worker process travel in.

    In a function of `Workers(fn, kind="process")`, or the `predict` of a model with `concurrency = "process"`, a result
    that was made with it and filled in place is not copied on its way. Anywhere else it is as `numpy.empty`. It begins
    on a cache line, as TensorFlow wants it of what it takes through DLPack.
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    kind = np.dtype(dtype)
    if ROOM.make is not None and not kind.hasobject:
        return ROOM.make(sizes, kind)
    if kind.hasobject:
        return np.empty(sizes, kind)
    nbytes = math.prod(sizes) * kind.itemsize
    memory = np.empty(nbytes + ALIGN, np.uint8)
    start = -memory.ctypes.data % ALIGN
    found: Array = memory[start : start + nbytes].view(kind).reshape(sizes)
    return found

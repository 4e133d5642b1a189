"""A batch of 9.6 MB from a process to the consumer, in each library, by its fastest way found.

An entry is a context manager that starts the process outside of the clock; its `run(n)` gives the batches 0 to n - 1.
Each carries its number in its first bytes; the consumer looks at that and lets go of it. "Copied": the process has the
batch already. "In place": it writes every byte of it anew, into the memory that the consumer sees.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

SHAPE = (64, 224, 224, 3)
NBYTES = int(np.prod(SHAPE))
AHEAD = 32
"""Batches that may be on their way."""
Run = Callable[[int], Iterable[Any]]


def stamped(batch: Any, number: int) -> Any:
    """Return `batch` with its number in its first bytes."""
    batch.reshape(-1)[:8].view(np.int64)[0] = number
    return batch


def number_of(batch: Any) -> int:
    """Return the number that a batch carries, and look at its last byte."""
    flat = np.asarray(batch).reshape(-1)
    if flat.size != NBYTES or flat[-1] != 7:
        raise SystemExit(f"a batch of {flat.size:,} bytes that ends with {flat[-1]}, not {NBYTES:,} that end with 7.")
    return int(flat[:8].view(np.int64)[0])


@functools.cache
def ready() -> list[Any]:
    """Return the batches that a process has already: several, as some libraries pickle in a thread, later."""
    return [np.full(SHAPE, 7, np.uint8) for _ in range(AHEAD)]


def copied(number: int) -> Any:
    """Give a batch that is there."""
    return stamped(ready()[number % AHEAD], number)


# ---- what one thread can do


def memcpy(n: int) -> float:
    """Return the seconds that one thread takes to copy n batches between AHEAD places."""
    places = [np.full(SHAPE, 1, np.uint8) for _ in range(AHEAD)]
    sources = ready()
    begun = time.perf_counter()
    for i in range(n):
        np.copyto(places[i % AHEAD], sources[i % AHEAD])
    return time.perf_counter() - begun


def memset(n: int) -> float:
    """Return the seconds that one thread takes to fill n batches in AHEAD places."""
    places = [np.full(SHAPE, 1, np.uint8) for _ in range(AHEAD)]
    begun = time.perf_counter()
    for i in range(n):
        places[i % AHEAD].fill(7)
    return time.perf_counter() - begun


# ---- penstock


def in_place(number: int) -> Any:
    """Write the batch where the consumer will see it."""
    import penstock

    batch = penstock.empty(SHAPE, "uint8")
    batch.fill(7)
    return stamped(batch, number)


@contextmanager
def _penstock(fn: Callable[[int], Any]) -> Iterator[Run]:
    from penstock._engine.chunks import one_by_one
    from penstock._engine.pipeline import Pipeline
    from penstock._engine.processes import stage_step
    from penstock._engine.sizing import Window
    from penstock._engine.step import Stage

    with Pipeline([Stage("make", (stage_step("make", fn, workers=1),), 1)]) as pipeline:

        def run(n: int) -> Iterator[Any]:
            with pipeline.flow(one_by_one(range(n)), Window(AHEAD, AHEAD)) as flow:
                for parcel in flow:
                    parcel.values.reverse()
                    while parcel.values:
                        yield parcel.values.pop()

        yield run


# ---- the rivals


class Batches:
    """For spdl and DataLoader: batches that are there already."""

    def __init__(self, n: int, *, tensors: bool = False) -> None:
        self.n = n
        self.tensors = tensors

    def __len__(self) -> int:
        """Return how many there are."""
        return self.n

    def __getitem__(self, number: int) -> Any:
        """Return one."""
        if not self.tensors:
            return copied(number)
        import torch

        return torch.from_numpy(copied(number))

    def __iter__(self) -> Iterator[Any]:
        """Yield all."""
        return map(copied, range(self.n))


@contextmanager
def _spdl(arena: str) -> Iterator[Run]:
    """One process of spdl: no arena, its ring, its pool of segments (8 of them; 4 and 16 are no faster)."""
    from spdl.pipeline import SharedMemoryRingBuffer, SharedMemorySegmentPool, iterate_in_subprocess

    def run(n: int) -> Iterator[Any]:
        memory = None
        if arena == "ring":
            memory = SharedMemoryRingBuffer(8 * (NBYTES + 4096))
        elif arena == "pool":
            memory = SharedMemorySegmentPool(NBYTES + 4096, 8)
        return iter(iterate_in_subprocess(functools.partial(Batches, n), buffer_size=4, arena=memory))

    yield run


@contextmanager
def _data_loader(tensors: bool) -> Iterator[Run]:
    """DataLoader with one worker and no batching of its own."""
    from torch.utils.data import DataLoader

    def run(n: int) -> Iterator[Any]:
        data: Any = Batches(n, tensors=tensors)
        return iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))

    yield run


class Pictures:
    """For DataLoader and grain: single pictures, which they put into a batch in shared memory themselves."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        """Return how many there are."""
        return self.n * SHAPE[0]

    def __getitem__(self, index: int) -> Any:
        """Return one, the first of a batch with its number."""
        number, place = divmod(index, SHAPE[0])
        picture = ready()[number % AHEAD][place]
        return picture if place else stamped(picture, number)


@contextmanager
def _collating_loader() -> Iterator[Run]:
    """DataLoader whose collate function writes tensors into shared memory."""
    import torch
    from torch.utils.data import DataLoader

    class Tensors(Pictures):
        def __getitem__(self, index: int) -> Any:
            return torch.from_numpy(super().__getitem__(index))

    def run(n: int) -> Iterator[Any]:
        data: Any = Tensors(n)
        return iter(DataLoader(data, batch_size=SHAPE[0], num_workers=1, prefetch_factor=4))

    yield run


@contextmanager
def _grain() -> Iterator[Run]:
    """grain: one process that puts pictures into a batch in shared memory."""
    from absl import flags
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    flags.FLAGS(["transport"])  # grain reads flags that a program with absl's main would have parsed

    def run(n: int) -> Iterator[Any]:
        source: Any = Pictures(n)
        batches = MapDataset.source(source).to_iter_dataset(ReadOptions(num_threads=0)).batch(SHAPE[0])
        return iter(batches.mp_prefetch(MultiprocessingOptions(num_workers=1, per_worker_buffer_size=4)))

    yield run


ENTRIES: dict[str, Callable[[], AbstractContextManager[Run]]] = {
    "penstock, copied": functools.partial(_penstock, copied),
    "penstock, in place": functools.partial(_penstock, in_place),
    "spdl": functools.partial(_spdl, ""),
    "spdl, ring": functools.partial(_spdl, "ring"),
    "spdl, pool": functools.partial(_spdl, "pool"),
    "DataLoader, arrays": functools.partial(_data_loader, False),
    "DataLoader, tensors": functools.partial(_data_loader, True),
    "DataLoader, collated tensors": _collating_loader,
    "grain, collated": _grain,
}
IN_PLACE = {"penstock, in place", "memset"}
"""Compared with memset; all others, which read what they write, with memcpy."""
ALONE = {"memcpy": memcpy, "memset": memset}
"""What bounds them all: one thread, nothing but the memory."""

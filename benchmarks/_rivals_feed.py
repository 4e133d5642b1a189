"""The rivals of feed.py: each gives the batches of `epochs` passes over the same rows, one after another, shuffled.

An entry is a context manager; entering it does what can be done before the first batch is asked for.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import numpy as np
from _feed_photos import BATCH, Photos, drawn, keyed
from _runtimes import cores

Rows = list[tuple[str, int]]


@dataclass(frozen=True)
class Work:
    """What an entry has to feed, and with which settings."""

    rows: Rows
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)


Entry = Callable[[Work], AbstractContextManager[Iterator[Any]]]


def order(work: Work, epoch: int) -> list[int]:
    """Return a shuffled epoch."""
    return random.Random(epoch).sample(range(len(work.rows)), len(work.rows))


def chunks(work: Work) -> Iterator[list[int]]:
    """Yield the items of each batch of all epochs."""
    for epoch in range(work.epochs):
        items = order(work, epoch)
        yield from (items[i : i + BATCH] for i in range(0, len(items), BATCH))


@contextmanager
def penstock(work: Work) -> Iterator[Iterator[Any]]:
    """Ours, with nothing set but the kind where an entry asks for it."""
    import penstock

    with penstock.Feed(work.rows, BATCH, transform=drawn, **work.settings) as feed:
        yield feed.steps(0, work.epochs * len(feed))
        PLAN.update(feed.plan)


PLAN: dict[str, Any] = {}


@contextmanager
def thread_pool(work: Work) -> Iterator[Iterator[Any]]:
    """By hand: a thread a core takes the next batch, fills its array, and hands it over in order."""
    n = work.settings.get("threads", cores())
    todo, ahead = enumerate(chunks(work)), 2 * n
    lock, done, room = threading.Lock(), dict[int, Queue[Any]](), threading.Semaphore(ahead)

    def make() -> None:
        while True:
            room.acquire()
            with lock:
                number, items = next(todo, (-1, []))
                place = done.setdefault(number, Queue())
            if number < 0:
                return
            images = np.empty((len(items), 224, 224, 3), np.uint8)
            labels = np.empty(len(items), np.int64)
            for i, item in enumerate(items):
                images[i], labels[i] = keyed(work.rows[item], item)
            place.put((images, labels))

    def read() -> Iterator[Any]:
        for number in range(work.epochs * -(-len(work.rows) // BATCH)):
            with lock:
                place = done.setdefault(number, Queue())
            yield place.get()
            room.release()

    threads = [threading.Thread(target=make, daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    yield read()
    for _ in threads:
        room.release()


def _loader(work: Work, loader: Any, context: str, workers: int) -> Any:
    import torch

    torch.set_num_threads(1)
    workers = work.settings.get("workers", workers)
    return loader(
        Photos(work.rows, tensors=True),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=context,
        prefetch_factor=work.settings.get("prefetch", 4),
    )


@contextmanager
def data_loader(context: str, work: Work) -> Iterator[Iterator[Any]]:
    """DataLoader with persistent workers, tensors through shared memory."""
    from torch.utils.data import DataLoader

    loader = _loader(work, DataLoader, context, cores())
    yield (batch for _ in range(work.epochs) for batch in loader)


@contextmanager
def stateful(work: Work) -> Iterator[Iterator[Any]]:
    """Torchdata's StatefulDataLoader, a snapshot every step as it comes."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    loader = _loader(work, StatefulDataLoader, "fork", cores())
    yield (batch for _ in range(work.epochs) for batch in loader)


def _stacked(pairs: list[tuple[Any, int]]) -> tuple[Any, Any]:
    return np.stack([photo for photo, _ in pairs]), np.array([label for _, label in pairs])


def _batch_of(rows: Rows, items: list[int]) -> tuple[Any, Any]:
    """Make a whole batch in one call: what spdl advises, as each hand-over costs it 0.3 ms."""
    return _stacked([keyed(rows[item], item) for item in items])


def _spdl_builder(work: Work) -> Any:
    from spdl.pipeline import PipelineBuilder

    n = work.settings.get("threads", cores())
    make = functools.partial(_batch_of, work.rows)
    builder = PipelineBuilder().add_source(Chunks(work))
    return builder.pipe(make, concurrency=n, output_order="input").add_sink(work.settings.get("sink", 4))


class Chunks:
    """The items of each batch, as an object that travels."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __iter__(self) -> Iterator[list[int]]:
        """Yield them."""
        return chunks(self.work)


@contextmanager
def spdl_threads(work: Work) -> Iterator[Iterator[Any]]:
    """Spdl in this process: a thread a core, each makes whole batches."""
    pipeline = _spdl_builder(work).build(num_threads=work.settings.get("threads", cores()))
    with pipeline.auto_stop():
        yield iter(pipeline.get_iterator())


@contextmanager
def spdl_subprocess(work: Work) -> Iterator[Iterator[Any]]:
    """Spdl's recommended pattern: the threaded pipeline in one subprocess, with its pool of shared segments."""
    from spdl.pipeline import SharedMemorySegmentPool, run_pipeline_in_subprocess

    n, nbytes = work.settings.get("threads", cores()), BATCH * 224 * 224 * 3 + (1 << 16)
    arena = SharedMemorySegmentPool(nbytes, 12)
    made: Any = run_pipeline_in_subprocess(_spdl_builder(work).get_config(), num_threads=n, arena=arena)
    yield iter(made)


def _grain(work: Work) -> Any:
    import grain

    return grain.MapDataset.source(Photos(work.rows)).seed(0).shuffle().repeat(work.epochs)


@contextmanager
def grain_threads(work: Work) -> Iterator[Iterator[Any]]:
    """Grain's read threads, each of which makes whole batches: 7 % faster than items put together outside."""
    import grain

    options = grain.ReadOptions(num_threads=work.settings.get("threads", cores()), prefetch_buffer_size=8)
    yield iter(_grain(work).batch(BATCH).to_iter_dataset(options))


@contextmanager
def grain_processes(work: Work) -> Iterator[Iterator[Any]]:
    """Grain's processes, one a core."""
    import grain
    from absl import flags

    flags.FLAGS(["feed"])  # grain reads flags that a program with absl's main would have parsed
    made = _grain(work).batch(BATCH).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    processes = grain.MultiprocessingOptions(
        num_workers=work.settings.get("workers", cores()), per_worker_buffer_size=4
    )
    yield iter(made.mp_prefetch(processes))


RIVALS: dict[str, Entry] = {
    "threads by hand": thread_pool,
    "DataLoader, fork": functools.partial(data_loader, "fork"),
    "DataLoader, forkserver": functools.partial(data_loader, "forkserver"),
    "StatefulDataLoader, fork": stateful,
    "spdl, threads": spdl_threads,
    "spdl, subprocess": spdl_subprocess,
    "grain, threads": grain_threads,
    "grain, processes": grain_processes,
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "threads by hand": [{"threads": 3}],
    "DataLoader, fork": [{"workers": 1}, {"workers": 3}, {"prefetch": 2}],
    "DataLoader, forkserver": [{"workers": 1}, {"workers": 3}],
    "spdl, threads": [{"threads": 3}, {"sink": 8}],
    "spdl, subprocess": [{"threads": 3}],
    "grain, threads": [{"threads": 1}, {"threads": 3}, {"threads": 16}],
    "grain, processes": [{"workers": 1}, {"workers": 3}],
}
"""Other settings that `feed.py --settings` tries beside those above."""

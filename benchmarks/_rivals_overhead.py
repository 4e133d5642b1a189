"""Three stages of trivial functions (map on 4 threads, batch of 32, map over the batch), ordered, in each library.

An entry is a context manager: what can be kept (pools, workers, a session) is made on entry, outside the clock. Its
`run(n)` returns the rows, flat or as one list a batch, whichever costs the entry less. The settings are the fastest of
a search on 2 shared cores; the comments give its figures in µs an item.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

BATCH = 32
THREADS = 4
PARCEL = 1024
Run = Callable[[int], Sequence[Any]]
Rows = list[list[int]]


def plus_one(x: int) -> int:
    """The first map, one item at a time."""
    return x + 1


def negated(batch: Sequence[int]) -> list[int]:
    """The last map, a batch at a time."""
    return [-x for x in batch]


def parcel_plus_one(parcel: Sequence[int]) -> list[int]:
    """The first map over a parcel, where a user makes parcels by hand."""
    return [plus_one(x) for x in parcel]


def expected(n: int) -> list[int]:
    """The rows that every entry must give, in this order."""
    return [-(x + 1) for x in range(n)]


def flat(rows: Sequence[Any]) -> list[int]:
    """Return the rows as one list."""
    return [x for row in rows for x in row] if rows and isinstance(rows[0], list) else list(rows)


def parcels(values: Iterable[int], size: int) -> Iterator[list[int]]:
    """Cut `values` into lists of `size`."""
    iterator = iter(values)
    while parcel := list(islice(iterator, size)):
        yield parcel


def negated_batches(parcel: Sequence[int]) -> Rows:
    """The last map over the batches of a parcel."""
    return [negated(parcel[i : i + BATCH]) for i in range(0, len(parcel), BATCH)]


# ---- the standard library


def windowed(pool: ThreadPoolExecutor, fn: Callable[[Any], Any], values: Iterable[Any], window: int) -> Iterator[Any]:
    """`pool.map` with a bounded window: submit one more for each result taken."""
    iterator = iter(values)
    waiting: deque[Future[Any]] = deque(pool.submit(fn, value) for value in islice(iterator, window))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(fn, value) for value in islice(iterator, 1))


@contextmanager
def thread_pool() -> Iterator[Run]:
    """concurrent.futures with a window: 16 11.6, 64 9.6, 256 8.1, 1,024 7.4, 4,096 11.0."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield lambda n: [negated(p) for p in parcels(windowed(pool, plus_one, range(n), 1024), BATCH)]


@contextmanager
def thread_pool_by_hand() -> Iterator[Run]:
    """The same with parcels made by the user: 32 0.44, 256 0.20, 1,024 0.15, 4,096 0.19."""
    with ThreadPoolExecutor(THREADS) as pool:

        def run(n: int) -> Rows:
            done = windowed(pool, parcel_plus_one, parcels(range(n), PARCEL), 2 * THREADS)
            return [batch for parcel in done for batch in negated_batches(parcel)]

        yield run


@contextmanager
def pool_imap() -> Iterator[Run]:
    """multiprocessing: 2 workers 32 1.6, 256 0.58, 1,024 0.44, 4,096 0.51; 4: 1.4, 0.61, 0.32, 0.30; 16,384 0.36."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(THREADS) as pool:
        yield lambda n: [negated(p) for p in parcels(pool.imap(plus_one, range(n), 4096), BATCH)]


# ---- libraries


@contextmanager
def spdl() -> Iterator[Run]:
    """spdl: sink buffer 3 247, 64 219; threads 2 306, 8 261; concurrency 8 352, 32 374; thread output queue 411."""
    from spdl.pipeline import PipelineBuilder

    def run(n: int) -> Rows:
        builder = PipelineBuilder().add_source(range(n)).pipe(plus_one, concurrency=THREADS, output_order="input")
        pipeline = builder.aggregate(BATCH).pipe(negated).add_sink(64).build(num_threads=THREADS)
        with pipeline.auto_stop():
            return list(pipeline.get_iterator())

    yield run


@contextmanager
def spdl_by_hand() -> Iterator[Run]:
    """The same with parcels made by the user in the source: 32 11.2, 256 2.2, 1,024 1.07, 4,096 0.87."""
    from spdl.pipeline import PipelineBuilder

    def run(n: int) -> Rows:
        source = PipelineBuilder().add_source(parcels(range(n), 4 * PARCEL))
        builder = source.pipe(parcel_plus_one, concurrency=THREADS, output_order="input").pipe(negated_batches)
        pipeline = builder.add_sink(8).build(num_threads=THREADS + 1)
        with pipeline.auto_stop():
            return [batch for batches in pipeline.get_iterator() for batch in batches]

    yield run


@contextmanager
def torchdata_nodes() -> Iterator[Run]:
    """torchdata: plain 37, fewer snapshots 18; prebatch 16 4.2, 32 2.8, 64 2.8 (fewer snapshots 1.9), 128 1.8."""
    from torchdata import nodes

    def run(n: int) -> Rows:
        mapped = nodes.ParallelMapper(
            nodes.IterableWrapper(range(n)), plus_one, num_workers=THREADS, prebatch=128, snapshot_frequency=50
        )
        return list(nodes.Loader(nodes.Mapper(nodes.Batcher(mapped, BATCH, drop_last=False), negated)))

    yield run


@contextmanager
def grain() -> Iterator[Run]:
    """grain: batches made after the threads 24 to 204; inside them, with 16 batches ahead 3.5, 500 11.7, 2,000 9.4."""
    from grain import MapDataset, ReadOptions

    options = ReadOptions(num_threads=THREADS, prefetch_buffer_size=16)

    def run(n: int) -> Rows:
        batches = MapDataset.range(n).map(plus_one).batch(BATCH, batch_fn=list).map(negated)
        return list(batches.to_iter_dataset(options))

    yield run


class Numbers:
    """A map-style data set for DataLoader."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        """Return the number of items."""
        return self.n

    def __getitem__(self, index: int) -> int:
        """Return one item."""
        return plus_one(index)


@contextmanager
def data_loader() -> Iterator[Run]:
    """DataLoader with its processes kept: 4 workers, prefetch_factor 2 2.8, 8 1.9, 32 2.2; 2 workers 2 2.4, 32 1.9."""
    import warnings

    from torch.utils.data import DataLoader

    warnings.filterwarnings("ignore", message="This DataLoader will create")  # 4 workers, as the task says, on 2 cores

    @functools.cache
    def loader(n: int) -> Any:
        return DataLoader(
            Numbers(n),
            batch_size=BATCH,
            num_workers=THREADS,
            prefetch_factor=8,
            collate_fn=negated,
            persistent_workers=True,
        )

    yield lambda n: list(loader(n))


# ---- penstock


def _worker_items(session: Any) -> list[int]:
    """Return how many items each worker of the first stage has done so far."""
    stages = session.statistics().stages
    return list(stages[0].worker_items) if stages else [0] * THREADS


@contextmanager
def penstock() -> Iterator[Run]:
    """Ours with nothing set but what the task says."""
    from penstock import Batching, Session, Workers

    stages = [Workers(plus_one, THREADS)]
    with Session(negated, stages=stages, batch=Batching(max_size=BATCH)) as session:

        def run(n: int) -> list[int]:
            before = _worker_items(session)
            rows = list(session.map(range(n)))
            pairs = zip(before, _worker_items(session), strict=False)  # nothing has started before the first run
            run.workers = [now - then for then, now in pairs]  # type: ignore[attr-defined]
            return rows

        yield run


ENTRIES: dict[str, Callable[[], AbstractContextManager[Run]]] = {
    "penstock": penstock,
    "spdl": spdl,
    "torchdata.nodes": torchdata_nodes,
    "grain": grain,
    "thread pool, window": thread_pool,
    "DataLoader": data_loader,
    "Pool.imap": pool_imap,
    "thread pool, parcels by hand": thread_pool_by_hand,
    "spdl, parcels by hand": spdl_by_hand,
}
BY_HAND = {"thread pool, parcels by hand", "spdl, parcels by hand"}
"""Shown beside: here the user writes the parcels, and the mapped function takes a list."""
ITEMS_SHARE = {"spdl": 0.1}
"""Entries that would take more than 30 s a round run on this share of the items."""


# ---- 1 ms of sleep an item on 8 threads

SLEEPERS = 8
NAP_S = 0.001


def nap(x: int) -> int:
    """What takes long and needs no CPU."""
    time.sleep(NAP_S)
    return x + 1


@contextmanager
def bare_threads() -> Iterator[Run]:
    """Eight threads that loop over every eighth item: no queue, no order to keep, nothing shared but the list."""
    import threading

    def run(n: int) -> list[int]:
        rows = [0] * n

        def loop(first: int) -> None:
            for i in range(first, n, SLEEPERS):
                rows[i] = -nap(i)

        threads = [threading.Thread(target=loop, args=(first,)) for first in range(SLEEPERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return rows

    yield run


@contextmanager
def sleeping_pool() -> Iterator[Run]:
    """The thread pool with its window."""
    with ThreadPoolExecutor(SLEEPERS) as pool:
        yield lambda n: [negated(p) for p in parcels(windowed(pool, nap, range(n), 4 * SLEEPERS), BATCH)]


@contextmanager
def sleeping_spdl() -> Iterator[Run]:
    """spdl, in input order."""
    from spdl.pipeline import PipelineBuilder

    def run(n: int) -> Rows:
        builder = PipelineBuilder().add_source(range(n)).pipe(nap, concurrency=SLEEPERS, output_order="input")
        pipeline = builder.aggregate(BATCH).pipe(negated).add_sink(64).build(num_threads=SLEEPERS + 1)
        with pipeline.auto_stop():
            return list(pipeline.get_iterator())

    yield run


@contextmanager
def sleeping_penstock() -> Iterator[Run]:
    """Ours with the same eight threads."""
    from penstock import Batching, Session, Workers

    with Session(negated, stages=[Workers(nap, SLEEPERS)], batch=Batching(max_size=BATCH)) as session:
        yield lambda n: list(session.map(range(n)))


SLEEPING: dict[str, Callable[[], AbstractContextManager[Run]]] = {
    "bare threads": bare_threads,
    "penstock": sleeping_penstock,
    "thread pool, window": sleeping_pool,
    "spdl": sleeping_spdl,
}

"""Running a model from several threads at once, to check its answers and to time it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from penstock._contracts import Model, Predict
from penstock._models.ceiling import Ceiling

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
READY_TIMEOUT_S = 600.0
"""Longest wait for all threads to stand at the start; a first call may compile for long, but not for ever."""


def side_by_side(
    model: Model, threads: int, job: Callable[[Predict, int], T], at_start: Callable[[], None] | None = None
) -> list[T]:
    """Return what `job(predict, place)` gives in each of `threads` worker threads that start together.

    `at_start` is called once, when all have entered their worker.
    """
    return together(model.worker, threads, job, at_start)


def together(
    enter: Callable[[], AbstractContextManager[F]],
    threads: int,
    job: Callable[[F, int], T],
    at_start: Callable[[], None] | None = None,
) -> list[T]:
    """Return what `job(fn, place)` gives in each of `threads` threads, with the `fn` that it got of `enter()`."""
    start = threading.Barrier(threads, at_start)

    def work(place: int) -> T:
        try:
            with enter() as fn:
                start.wait(READY_TIMEOUT_S)
                return job(fn, place)
        except BaseException:
            start.abort()  # or the others would wait for this one
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="penstock-drill") as pool:
        futures = [pool.submit(work, place) for place in range(threads)]
    errors = [error for future in futures if (error := future.exception(0)) is not None]
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
    return [future.result(0) for future in futures]


def callers_of(model: Model, threads: int) -> int:
    """Return how many of `threads` threads may call the model at once: all, or one."""
    return threads if model.concurrency == "concurrent" else 1


def rows_of_all(model: Model, items: Sequence[Any], threads: int, batch: int) -> list[list[Any]]:
    """Return the rows of all `items` from each of `threads` workers that run at the same time.

    Batches for which there is no memory are made smaller, as they are in a run.
    """
    ceiling = Ceiling(model.name)
    return side_by_side(model, threads, lambda predict, _: in_batches(ceiling.under(predict), items, batch))


def in_batches(predict: Predict, items: Sequence[Any], batch: int) -> list[Any]:
    """Return the rows of `items`, predicted `batch` at a time."""
    rows: list[Any] = []
    for begin in range(0, len(items), batch):
        rows.extend(predict(items[begin : begin + batch]))
    return rows


@dataclass(frozen=True, slots=True)
class Pace:
    """Items a second of one measurement: by the clock, and by the CPU time spent, as if all threads had had a CPU."""

    wall: float
    cpu: float


def pace(
    model: Model, items: Sequence[Any], threads: int, batch: int, slot_s: float, ceiling: Ceiling | None = None
) -> Pace:
    """Return the pace of `threads` workers together, over `slot_s` and at least one call each.

    Of a model that only one thread may call, the others are idle, or the runtime's own. Batches for which there is no
    memory are made smaller under a `ceiling`, and raise without.

    Items of one shape cost the same; where shapes differ, whole passes over all of them are timed, or candidates would
    be compared on different items.
    """
    alike, callers = same_shape(items), callers_of(model, threads)
    cpu_started: list[float] = []

    def run(predict: Predict, place: int) -> tuple[int, float, float]:
        predict = ceiling.under(predict) if ceiling else predict
        begin = place * len(items) // callers
        done, started = 0, time.perf_counter()
        while True:
            predict([items[(begin + done + k) % len(items)] for k in range(batch)])
            done += batch
            spent = time.perf_counter() - started
            if spent >= slot_s and (alike or done >= len(items)):
                return done, spent, time.process_time()

    ended = side_by_side(model, callers, run, lambda: cpu_started.append(time.process_time()))
    cpu_s = max(cpu_end for _, _, cpu_end in ended) - cpu_started[0]
    total = sum(done for done, _, _ in ended)
    return Pace(sum(done / spent for done, spent, _ in ended), total * threads / max(cpu_s, 1e-9))


def same_shape(items: Sequence[Any]) -> bool:
    """Return whether all items have one shape."""
    return len({np.shape(item) for item in items}) <= 1


def one_of_each(items: Sequence[Any]) -> list[Any]:
    """Return the first item of each shape, in order."""
    found: dict[tuple[int, ...], Any] = {}
    for item in items:
        found.setdefault(np.shape(item), item)
    return list(found.values())

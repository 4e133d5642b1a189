from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from penstock._models.drill import Pace, in_batches, pace, rows_of_all, same_shape, side_by_side


class Fake:
    """A model that answers with its input and remembers who was inside."""

    name, concurrency = "fake", "concurrent"

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.inside = 0
        self.batches: list[int] = []

    @contextmanager
    def worker(self) -> Iterator[Any]:
        self.inside += 1
        self.threads.add(threading.get_ident())
        try:
            yield self.predict
        finally:
            self.inside -= 1

    def predict(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(len(items))
        return list(items)

    def close(self) -> None: ...


def test_every_thread_enters_and_all_run_at_once() -> None:
    model, meeting = Fake(), threading.Barrier(4)

    def job(predict: Any, place: int) -> Any:
        meeting.wait(10)
        return predict([place])

    assert side_by_side(model, 4, job) == [[0], [1], [2], [3]]
    assert len(model.threads) == 4
    assert model.inside == 0


def test_one_threads_error_is_raised_and_the_others_end() -> None:
    class Broken(Fake):
        @contextmanager
        def worker(self) -> Iterator[Any]:
            if len(self.threads) == 2:
                raise OSError("no request left")
            with super().worker() as predict:
                yield predict

    with pytest.raises(OSError, match="no request left"):
        side_by_side(Broken(), 3, lambda predict, place: place)


def test_rows_of_all_items_from_each_thread() -> None:
    model = Fake()
    assert rows_of_all(model, [1, 2, 3, 4, 5], threads=2, batch=2) == [[1, 2, 3, 4, 5]] * 2
    assert sorted(model.batches) == [1, 1, 2, 2, 2, 2]
    assert in_batches(model.predict, [1, 2, 3], 8) == [1, 2, 3]


def test_rows_come_in_batches_that_fit_in_memory() -> None:
    class Small(Fake):
        def predict(self, items: Sequence[Any]) -> list[Any]:
            if len(items) > 2:
                raise MemoryError
            return super().predict(items)

    model = Small()
    assert rows_of_all(model, [1, 2, 3, 4, 5], threads=1, batch=5) == [[1, 2, 3, 4, 5]]
    assert model.batches == [2, 2, 1]


def test_a_pace_is_by_the_clock_and_by_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": 0.0, "process_time": 0.0}
    monkeypatch.setattr("time.perf_counter", lambda: clocks["perf_counter"])
    monkeypatch.setattr("time.process_time", lambda: clocks["process_time"])

    class Timed(Fake):
        def predict(self, items: Sequence[Any]) -> list[Any]:
            clocks["perf_counter"] += 2.0
            clocks["process_time"] += 0.5
            return super().predict(items)

    assert pace(Timed(), [np.zeros(3)], threads=1, batch=4, slot_s=0.0) == Pace(wall=2.0, cpu=8.0)


def test_batches_are_full_and_every_thread_runs_one() -> None:
    model = Fake()
    measured = pace(model, [np.zeros(3)] * 5, threads=2, batch=4, slot_s=0.0)
    assert model.batches == [4, 4]
    assert min(measured.wall, measured.cpu) > 0


def test_items_of_different_shapes_are_timed_in_whole_passes() -> None:
    model = Fake()
    pace(model, [np.zeros(n) for n in range(1, 6)], threads=2, batch=1, slot_s=0.0)
    assert model.batches == [1] * 10


def test_same_shape() -> None:
    assert same_shape([])
    assert same_shape([np.zeros(2), np.ones(2)])
    assert not same_shape([np.zeros(2), np.ones(3)])

"""Session.map: ordered, bounded, lazy; failures at their place; workers that live as long as the session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import errors


def plus_one(x: int) -> int:
    return x + 1


def doubled(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("penstock")]


@given(n=st.integers(0, 60), batch=st.integers(1, 20), workers=st.integers(1, 3), own=st.booleans())
def test_equals_a_plain_loop(n: int, batch: int, workers: int, own: bool) -> None:
    stage = penstock.Workers(plus_one, workers) if own else plus_one
    with penstock.Session(doubled, stages=[stage], batch=batch, threads=2) as session:
        assert list(session.map(range(n))) == [2 * (x + 1) for x in range(n)]
        assert list(session.map(iter(range(n)))) == [2 * (x + 1) for x in range(n)]


def test_is_lazy_and_bounded() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for i in range(100_000):
            read.append(i)
            yield i

    with penstock.Session(doubled, batch=4) as session:
        results = session.map(source())
        assert read == []
        assert [next(results) for _ in range(3)] == [0, 2, 4]
        assert len(read) < 100_000
        results.close()


def test_generator_that_waits_for_its_last_result() -> None:
    got: list[int] = []
    arrived = threading.Condition()

    def more_than(n: int) -> bool:
        return len(got) > n

    def source() -> Iterator[int]:
        yield 1
        for i in range(5):
            with arrived:
                assert arrived.wait_for(partial(more_than, i), timeout=20)
            yield got[i]

    with penstock.Session(doubled, batch=penstock.Batching(max_size=8, max_wait_s=0.001)) as session:
        for value in session.map(source()):
            with arrived:
                got.append(value)
                arrived.notify()
    assert got == [2, 4, 8, 16, 32, 64]


def test_failed_item_raises_at_its_place() -> None:
    def inverse(batch: list[int]) -> list[float]:
        return [1 / x for x in batch]

    with penstock.Session(inverse, batch=3) as session:
        results = session.map([4, 2, 0, 1])
        assert [next(results), next(results)] == [0.25, 0.5]
        with pytest.raises(errors.ItemError, match=r"item 2 failed in stage 'model': ZeroDivisionError"):
            next(results)
        assert list(session.map([1])) == [1.0]  # the session goes on


def test_two_maps_at_once_keep_apart() -> None:
    with penstock.Session(doubled, batch=2) as session:
        pairs = zip(session.map(range(50)), session.map(range(100, 150)), strict=True)
        assert list(pairs) == [(2 * x, 2 * (x + 100)) for x in range(50)]


def test_workers_live_as_long_as_the_session() -> None:
    with penstock.Session(doubled, stages=[penstock.Workers(plus_one, 2)]) as session:
        list(session.map(range(10)))
        before = sorted(threads())
        for _ in range(20):
            list(session.map(range(10)))
        assert sorted(threads()) == before
        assert sum(session.statistics().stages[0].worker_items) == 210
    assert threads() == []


def test_closed_session_refuses() -> None:
    session = penstock.Session(doubled)
    assert "not started" in repr(session)
    session.close()
    session.close()
    with pytest.raises(errors.Closed, match="closed"):
        list(session.map([1]))


def test_close_while_reading_raises() -> None:
    session = penstock.Session(doubled, batch=1)
    results = session.map(range(100_000))
    next(results)
    session.close()
    with pytest.raises(errors.Cancelled):
        list(results)


def test_callable_is_called_by_one_thread_at_a_time() -> None:
    inside = threading.Semaphore(1)

    def model(batch: list[int]) -> list[int]:
        assert inside.acquire(blocking=False), "two threads at once"
        inside.release()
        return batch

    with penstock.Session(model, stages=[penstock.Workers(plus_one, 4)], batch=1) as session:
        assert len(list(session.map(range(500)))) == 500


def test_concurrent_callable_is_called_by_several() -> None:
    both = threading.Barrier(2)

    class Model:
        concurrency = "concurrent"

        def predict(self, batch: list[int]) -> list[int]:
            both.wait(timeout=20)
            return batch

    with penstock.Session(Model(), batch=1, threads=2) as session:
        assert list(session.map(range(2))) == [0, 1]


def test_model_file_on_paths_bytes_and_arrays(shared_data: Path) -> None:
    path = min((shared_data / "photos" / "flowers").rglob("*.jpg"))
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    with penstock.Session(model, preset="inception", runtime="onnxruntime") as session:
        by_path, by_bytes, by_array = session.map([str(path), path.read_bytes(), penstock.decode(path)])
        tops = [[t["index"] for t in o["top"]] for o in (by_path, by_bytes, by_array)]
        assert tops[0] == tops[1]
        assert tops[0][0] == tops[2][0]  # decoded at full size, so the last digits differ
        assert session.plan["runtime"] == "onnxruntime"
        assert session.plan["measurements"]


def test_labels_and_top_k_are_of_the_session(shared_data: Path) -> None:
    path = min((shared_data / "photos" / "flowers").rglob("*.jpg"))
    model, names = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx", ["a", "b", "c", "d", "e"]
    with penstock.Session(model, preset="inception", labels=names, top_k=2, runtime="onnxruntime") as session:
        (output,) = session.map([str(path)])
    assert [names[each["index"]] for each in output["top"]] == [each["label"] for each in output["top"]]
    assert len(output["top"]) == 2


def test_post_is_given_the_position() -> None:
    with penstock.Session(doubled, post=lambda item, output: (item.id, output)) as session:
        assert list(session.map(np.arange(3))) == [(0, 0), (1, 2), (2, 4)]

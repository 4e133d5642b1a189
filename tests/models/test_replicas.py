from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Predict
from penstock._models.callables import CallableModel
from penstock._models.replicas import Places, Replicas, copied, replicated
from penstock.errors import ModelError, UsageError


class Fake:
    """A model that bears one thread, and answers with its own number."""

    closed: ClassVar[list[int]] = []
    concurrency = "one_at_a_time"
    precision = "f32"
    streams = 1

    def __init__(self, number: int = 0, device: str = "cpu", wrong: float = 0.0) -> None:
        self.name, self.number, self.device, self.wrong = "fake", number, device, wrong

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        yield lambda items: [np.float64(self.wrong + self.number + item) for item in items]

    def replica(self, device: str) -> Fake:
        return Fake(self.number, device, self.wrong if device == "cpu" else 1.0)

    def close(self) -> None:
        self.closed.append(self.number)


@pytest.fixture(autouse=True)
def nothing_closed() -> None:
    Fake.closed.clear()


@pytest.mark.parametrize(
    ("concurrency", "replicas", "devices", "expected"),
    [
        ("concurrent", None, 1, (1, None)),
        ("concurrent", 4, 1, (1, None)),
        ("concurrent", 16, 1, (1, 16)),
        ("one_at_a_time", None, 1, (1, 1)),
        ("one_at_a_time", 3, 1, (3, 3)),
        ("one_at_a_time", 4, 1, (4, None)),
        ("one_at_a_time", None, 3, (1, 3)),
        ("one_thread", 2, 2, (2, 4)),
        ("concurrent", None, 2, (1, 8)),
        ("concurrent", 1, 2, (1, 2)),
        ("process", 2, 1, (1, 2)),
    ],
)
def test_copies_and_callers(
    concurrency: str, replicas: int | None, devices: int, expected: tuple[int, int | None]
) -> None:
    places = Places(tuple(f"d{k}" for k in range(devices)), replicas, threads=4)
    assert (places.copies(concurrency), places.callers(concurrency)) == expected


def test_one_thread_and_a_model_that_bears_one_still_have_a_stage_of_their_own() -> None:
    assert Places(("cpu",), None, threads=1).callers("one_at_a_time") == 1
    assert Places(("cpu",), None, threads=1).callers("concurrent") is None


def test_a_model_with_threads_of_its_own_is_worth_a_caller_more_unless_the_user_said_how_many() -> None:
    waited, other = Fake(0), Fake(1)
    waited.concurrency = other.concurrency = "concurrent"
    waited.streams = 2
    places = Places(("cpu",), None, threads=2)
    cases = [(waited, places, 1), (other, places, 0), (waited, replace(places, said=True), 0)]
    one_cpu = (waited, replace(places, threads=1), 0)  # a job that was begun on two, say
    for model, where, spare in (*cases, one_cpu):
        replicas, (memory,) = replicated(model, where, [1.0], 1)
        assert (replicas.spare, memory.callers) == (spare, where.threads + spare)


@given(st.integers(1, 6), st.integers(0, 20))
def test_every_copy_has_as_many_threads_as_any_other(copies: int, entered: int) -> None:
    replicas = Replicas([Fake(k) for k in range(copies)], None)
    with ExitStack() as stack:
        answers = [float(stack.enter_context(replicas.worker())([0])[0]) for _ in range(entered)]
        counts = [answers.count(k) for k in range(copies)]
        assert max(counts) - min(counts) <= 1
    with replicas.worker() as predict:  # all have left: the first is as empty as any
        assert predict([0]) == [0.0]


def test_a_thread_that_leaves_makes_room_in_its_copy() -> None:
    replicas = Replicas([Fake(0), Fake(1)], None)
    with replicas.worker() as first:
        with replicas.worker() as second:
            assert (first([0]), second([0])) == ([0.0], [1.0])
        with replicas.worker() as third:
            assert third([0]) == [1.0]


class Loader:
    """A user's class of which the third copy cannot be loaded."""

    lock = threading.Lock()
    made = 0
    closed: ClassVar[list[str]] = []

    def load(self, device: str) -> None:
        with self.lock:
            Loader.made += 1
            if Loader.made == 3:
                raise OSError("no such device")
            self.device = device

    def predict(self, batch: list[Any]) -> list[Any]:
        return batch

    def close(self) -> None:
        Loader.closed.append(self.device)


def test_a_copy_that_cannot_be_loaded_is_named_and_the_others_are_closed() -> None:
    Loader.made = 0
    Loader.closed.clear()
    replicas, _ = replicated(CallableModel(Loader), Places(("auto",), 4, 2), [], 8)
    assert replicas.callers == 4
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(replicas.worker())
        with pytest.raises(
            ModelError, match=r"replica 3 of 4 \(cpu copy 3\): model Loader could not be .* no such device"
        ):
            stack.enter_context(replicas.worker())
    replicas.close()
    assert Loader.closed == ["cpu", "cpu"]


def test_each_device_has_a_copy_that_is_told_its_name() -> None:
    Loader.made = 10
    replicas, plans = replicated(CallableModel(Loader, device="a"), Places(("a", "b", "c"), None, 2), [], 8)
    assert (replicas.callers, len(replicas)) == (3, 3)
    assert [plan.device for plan in plans] == ["a", "b", "c"]
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(replicas.worker())
        Loader.closed.clear()
    replicas.close()
    assert sorted(Loader.closed) == ["a", "b", "c"]


def test_a_copy_that_answers_otherwise_is_refused_and_all_are_closed() -> None:
    with pytest.raises(ModelError, match="a copy on gpu answers 2 items otherwise than the one on cpu"):
        replicated(Fake(7), Places(("cpu", "gpu"), None, 2), [1.0, 2.0], 2)
    assert Fake.closed == [7, 7]
    copied(Fake(), "cpu", [1.0])


def test_what_cannot_be_copied_is_refused() -> None:
    def predict(batch: list[Any]) -> list[Any]:
        return batch

    with pytest.raises(UsageError, match="model predict is one object that one thread may call at a time"):
        replicated(CallableModel(predict), Places(("auto",), 2, 2), [], 8)

    class Shared:
        name, concurrency, device = "shared", "one_at_a_time", "cpu"

        def close(self) -> None: ...

    with pytest.raises(UsageError, match="model shared has one copy here"):
        replicated(Shared(), Places(("auto",), 2, 2), [], 8)


def test_what_ran_out_of_memory_is_noted_by_device() -> None:
    class Small(Fake):
        @contextmanager
        def worker(self) -> Iterator[Predict]:
            def predict(items: Any) -> Any:
                if len(items) > 2:
                    raise MemoryError
                return items

            yield predict

    replicas = Replicas([Small(0), Fake(1)], None, ("a", "b"))
    with replicas.worker() as predict:
        assert list(predict([np.ones(3)] * 5)) != []
    assert replicas.noted() == {"memory_ceilings": {"a": {"(3,)": 2}}}
    assert "a: 0, b: 0" in repr(replicas)


class Noting(Fake):
    """Notes what it is asked, and in which thread."""

    asked: ClassVar[list[tuple[int, tuple[int, ...], int]]] = []

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        def predict(items: Any) -> list[Any]:
            self.asked.append((threading.get_ident(), np.shape(items[0]), len(items)))
            return [np.float64(0)] * len(items)

        yield predict


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_each_thread_warms_its_copy_for_each_shape_on_a_device_of_its_own(device: str) -> None:
    probes = [np.zeros(3), np.zeros(4), np.ones(3)]
    replicas, _ = replicated(Noting(0, device), Places(("auto",), None, 2), probes, 2)
    Noting.asked.clear()
    with replicas.worker():
        here = threading.get_ident()
        assert Noting.asked == ([] if device == "cpu" else [(here, (3,), 2), (here, (4,), 2)])

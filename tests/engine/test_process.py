"""One process and its memory: what is held is never written over, and all of it is bounded and given back."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Failure
from penstock._engine.processes import Apart
from penstock._engine.slots import MIB, TAG_BYTES, Purse

pytestmark = pytest.mark.usefixtures("no_child_left")
Make = Callable[..., Apart]


def types_of(values: list[Any]) -> list[Any]:
    return [value.type if type(value) is Failure else value for value in values]


def test_results_that_are_held_are_never_written_over(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        held = [process.each([("full", 40_000, float(i)), ("full", 10, 0.5)])[0] for i in range(30)]
        assert [set(array.tolist()) for array in held] == [{float(i)} for i in range(30)]
        assert process._process is not None
        most = len(process._process._slots)
        held.clear()
        for i in range(30):
            assert process.each([("full", 40_000, float(i))])[0][-1] == i
        assert len(process._process._slots) <= most
    assert held == []


def test_results_that_another_thread_lets_go_of_were_not_written_over(tasks: Any, apart: Make) -> None:
    held: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
    wrong: list[int] = []

    def consume() -> None:
        kept: deque[tuple[int, Any]] = deque()
        while (found := held.get()) is not None:
            kept.append(found)
            if len(kept) > 1 + found[0] % 7:
                number, array = kept.popleft()
                wrong.extend([number] * bool((array != number).any()))
                del array

    consumer = threading.Thread(target=consume)
    consumer.start()
    with apart(tasks.do) as process:
        for i in range(0, 600, 3):
            for k, array in enumerate(process.each([("in place", 150_000, float(i + k)) for k in range(3)])):
                held.put((i + k, array))
            del array
        assert process._process is not None
        most = len(process._process._slots)
    held.put(None)
    consumer.join()
    assert wrong == []
    assert most < 60


def test_slots_that_nobody_reads_are_taken_again_without_asking(
    tasks: Any, apart: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with apart(tasks.do) as process:
        for n in (5, 5, 0):
            held = process.each([("in place", 300_000, float(i)) for i in range(n)])
            del held
        assert process._process is not None
        monkeypatch.setattr(process._process, "_grant", lambda nbytes: pytest.fail(f"it asked for {nbytes}"))
        for i in range(20):
            held = process.each([("in place", 300_000, float(i + k)) for k in range(4)])
            assert [set(array) for array in held] == [{float(i + k)} for k in range(4)]
            del held


def test_what_is_returned_as_it_came_is_no_view_of_the_question(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        held = [process.each([("value", np.full(30_000, float(i)))])[0] for i in range(10)]
        assert [set(array.tolist()) for array in held] == [{float(i)} for i in range(10)]
        assert process._process is not None
        assert process._process._questions == 0  # the function keeps nothing: its slot is used again


def test_results_outlive_their_process(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        held = process.each([("full", 100_000, 1.5), ("crash",), ("full", 100_000, 2.5)])
    assert held[0].sum() + held[2].sum() == 400_000


def test_what_the_function_keeps_is_never_written_over(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        for n in range(1, 20):
            (found,) = process.each([("keep", np.full(50_000, float(n)))])
            assert found == [float(i) for i in range(1, n + 1)]


def test_a_result_made_in_place_is_the_same(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        held = [process.each([("in place", 300_000, i), ("in place", 4, -1.0)]) for i in range(8)]
        assert [(a[0], a[-1], len(a), b.tolist()) for a, b in held] == [(i, i, 300_000, [-1.0] * 4) for i in range(8)]


def test_a_result_made_in_place_that_the_function_keeps_is_not_written_over(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        for i in range(6):
            (found,) = process.each([("in place", 300_000, i, True)])
            assert set(found.tolist()) == {i}
            del found
        assert process.each([("keep", np.zeros(1))])[0] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_where_memory_is_short_results_are_copied_and_their_slots_used_again(tasks: Any, apart: Make) -> None:
    purse = Purse(24 * MIB)
    with apart(tasks.do, purse=purse) as process:
        held = [process.each([("full", 300_000, float(i))])[0] for i in range(20)]
        assert [set(array.tolist()) for array in held] == [{float(i)} for i in range(20)]
        assert purse.used_bytes <= purse.limit_bytes


def test_an_answer_larger_than_memory_costs_its_item_and_says_the_numbers(tasks: Any, apart: Make) -> None:
    with apart(tasks.do, purse=Purse(16 * MIB)) as process:
        found = process.each([("value", 1), ("full", 4_000_000, 1.0), ("in place", 4_000_000, 1.0), ("value", 2)])
        assert types_of(found) == [1, "NoMemory", "NoMemory", 2]
        assert "its answer takes 32,0" in found[1].message
        assert "of 16,777,216 are in use" in found[1].message


def test_a_value_larger_than_memory_costs_its_item(tasks: Any, apart: Make) -> None:
    with apart(tasks.double, purse=Purse(16 * MIB)) as process:
        found = process.each([1, np.ones(4_000_000), 2])
        assert types_of(found) == [2, "NoMemory", 4]
        assert "of 16,777,216 are in use" in found[1].message


def test_descriptors_threads_and_memory_are_flat(tasks: Any, apart: Make) -> None:
    purse = Purse(1 << 30)
    with apart(tasks.double, purse=purse) as process:
        array = np.ones(400_000)
        for _ in range(3):
            process.each([array] * 3)
        before = (len(os.listdir("/proc/self/fd")), threading.active_count(), purse.used_bytes)
        for _ in range(50):
            process.each([array] * 3)
        assert (len(os.listdir("/proc/self/fd")), threading.active_count(), purse.used_bytes) == before


def test_deaths_leave_nothing_behind(tasks: Any, apart: Make) -> None:
    descriptors, shared = len(os.listdir("/proc/self/fd")), os.listdir("/dev/shm")
    purse = Purse(1 << 30)
    with apart(tasks.do, purse=purse) as process:
        process.each([("exit", 1)])
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert os.listdir("/dev/shm") == shared
    assert purse.used_bytes == 0


def test_slots_that_nobody_uses_are_let_go_when_memory_is_short(tasks: Any, apart: Make) -> None:
    purse = Purse(40 * MIB)
    with apart(tasks.do, purse=purse) as process:
        held = [process.each([("full", 400_000, float(i))])[0] for i in range(12)]
        assert purse.tight
        held.clear()
        process.each([("full", 400_000, 1.0)])
        assert purse.used_bytes < 20 * MIB
        assert not purse.tight


def test_small_slots_are_let_go_when_answers_grow(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        held = [process.each([("full", 10_000, float(i)), ("full", 100_000, 1.0)]) for i in range(5)]
        held.clear()
        process.each([("full", 2_000_000, 1.0)])
        process.each([("full", 2_000_000, 1.0)])
        assert process._process is not None
        sizes = sorted(slot.nbytes for slot in process._process._slots.values())
        assert sizes[1:] == [20 * MIB - TAG_BYTES]  # and the one for questions

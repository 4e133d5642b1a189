"""Processes at work (rules 2, 4, 10): a death costs the item in hand, what is stuck is killed, none is done twice."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Failure
from penstock._devices import cpu_budget
from penstock._engine import processes
from penstock._engine.processes import ATTEMPTS, Apart, stage_step
from penstock._engine.program import Program
from penstock._engine.slots import MIB
from penstock._engine.work import HERE, Lease, Worker
from penstock.errors import ItemError, SinkError, Stalled, UsageError, WorkerDied

pytestmark = pytest.mark.usefixtures("no_child_left")
WAIT_S = 20.0
Make = Callable[..., Apart]


@contextmanager
def worker(values: list[Any], item_timeout_s: float | None = None) -> Iterator[Worker]:
    """Be a worker thread that works through `values`."""
    found = Worker(0, 0, threading.current_thread(), item_timeout_s=item_timeout_s)
    found.lease = Lease(None, None, values, [], 0.0)  # type: ignore[arg-type]
    HERE.worker = found
    try:
        yield found
    finally:
        HERE.worker = None


def types_of(values: list[Any]) -> list[Any]:
    return [value.type if type(value) is Failure else value for value in values]


def counted(log: Path) -> Counter[int]:
    return Counter(map(int, log.read_text().split()))


def test_values_go_there_and_come_back_in_order(tasks: Any, apart: Make) -> None:
    with apart(tasks.double) as process:
        assert process.each(range(3000)) == [2 * i for i in range(3000)]
        assert process.each([]) == []
        assert process.each(["a", [1], 2.5]) == ["aa", [1, 1], 5.0]
        assert process.deaths == 0


def test_it_is_another_process_and_stays_the_same_one(tasks: Any, apart: Make) -> None:
    with apart(tasks.pid_of) as process:
        pids = {*process.each([1, 2]), *process.each([3])}
        assert len(pids) == 1
        assert pids != {os.getpid()}


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_large_arrays_are_equal_bit_for_bit_both_ways(tasks: Any, dtype: str, apart: Make) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 100, (n, 1000)).astype(dtype) for n in (1, 300, 2000, 5, 2000)]
    with apart(tasks.double) as process:
        for found, array in zip(process.each(arrays), arrays, strict=True):
            np.testing.assert_array_equal(found, array * 2)
            assert found.dtype == array.dtype


# ---- deaths


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("crash",), "SIGSEGV (a crash in native code), in string_at"),
        (("exit", 3), "it ended itself with exit code 3"),
        (("exit", 0), "it ended itself with exit code 0"),
        (("kill", signal.SIGKILL), "SIGKILL (killed from outside, as the kernel does for want of memory)"),
        (("kill", signal.SIGABRT), "SIGABRT"),
    ],
)
def test_a_death_costs_the_item_in_hand_and_nothing_is_done_twice(
    tasks: Any, tmp_path: Path, order: tuple[Any, ...], said: str, apart: Make
) -> None:
    log = tmp_path / "log"
    orders = [(*(order if i == 11 else ("value", i)), i) for i in range(30)]
    with apart(partial(tasks.logged, str(log))) as process:
        found = process.each(orders)
        assert process.deaths == ATTEMPTS
    failure = found.pop(11)
    assert (failure.stage, failure.type, failure.attempts) == ("work", "WorkerDied", ATTEMPTS)
    assert f"died {ATTEMPTS} times" in failure.message
    assert said in failure.message
    assert found == [i for i in range(30) if i != 11]
    assert counted(log) == {i: ATTEMPTS if i == 11 else 1 for i in range(30)}


def test_an_item_that_was_only_in_hand_by_chance_is_done(tasks: Any, tmp_path: Path, apart: Make) -> None:
    log = tmp_path / "log"
    orders = [*(("value", i, i) for i in range(10)), ("once", str(tmp_path / "mark"), 10), ("value", 11, 11)]
    with apart(partial(tasks.logged, str(log))) as process:
        assert process.each(orders) == [*range(10), "second time", 11]
        assert process.deaths == 1
    assert counted(log) == {i: 2 if i == 10 else 1 for i in range(12)}


def test_a_process_that_died_between_two_requests_is_replaced(tasks: Any, apart: Make) -> None:
    with apart(tasks.double) as process:
        assert process.each([1]) == [2]
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGKILL)
        assert process.each([2, 3, 4]) == [4, 6, 8]
        assert process.deaths == 1


def test_what_a_process_has_started_dies_with_it(
    tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: Make
) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_MARK", str(tmp_path / "pid"))
    with apart(tasks.do) as process:
        assert types_of(process.each([("start another",)])) == ["WorkerDied"]
    try:
        other = os.pidfd_open(int((tmp_path / "pid").read_text()))
    except ProcessLookupError:
        return
    assert select.select([other], [], [], WAIT_S)[0]
    os.close(other)


def test_processes_that_die_before_they_are_ready_end_the_run(tasks: Any, apart: Make) -> None:
    process = apart(tasks.DiesWhenMade())
    with pytest.raises(WorkerDied, match="3 processes died before they were ready: it ended itself with exit code 5"):
        process.__enter__()
    assert process.deaths == 3


# ---- failures


def test_what_is_raised_there_is_the_items_failure(tasks: Any, apart: Make) -> None:
    orders = [("value", 1), ("raise", KeyError, "no"), ("raise", StopIteration, ""), ("lambda",), ("value", 2)]
    with apart(tasks.do) as process:
        found = process.each(orders)
        assert process.deaths == 0
    assert types_of(found) == [1, "KeyError", "StopIteration", "ItemError", 2]
    assert found[1] == Failure("work", "KeyError", "'no'")
    assert found[3].message.startswith("what it returned (function) cannot be sent to another process: ")


def test_a_value_that_cannot_be_sent_costs_itself_alone(tasks: Any, apart: Make) -> None:
    values: list[Any] = list(range(20))
    values[7] = values[13] = threading.Lock()
    with apart(tasks.double) as process:
        found = process.each(values)
    assert types_of(found) == [i * 2 if i not in (7, 13) else "ItemError" for i in range(20)]
    assert "it cannot be sent to another process: TypeError" in found[7].message


def test_a_value_that_cannot_be_read_there_and_a_result_that_cannot_here_cost_themselves(
    tasks: Any, apart: Make
) -> None:
    with apart(tasks.do) as process:
        found = process.each([("value", 1), tasks.Unreadable(), ("unreadable",), ("value", 2)])
        assert process.deaths == 0
    assert found == [1, Failure("work", "ValueError", "unreadable"), Failure("work", "ValueError", "unreadable"), 2]
    with apart(tasks.do_all, call="whole") as process, pytest.raises(ValueError, match="unreadable"):
        process.whole([1, tasks.Unreadable()])


def test_an_error_that_ends_the_run_is_raised(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process, pytest.raises(SinkError, match="the disk is full"):
        process.each([("value", 1), ("stop the run",)])


def test_signals_that_the_function_handles_itself_are_handled(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        assert process.each([("alarmed",)]) == ["heard 50"]
        assert types_of(process.each([("crash",)])) == ["WorkerDied"]


def test_what_it_prints_comes_out(tasks: Any, capfd: pytest.CaptureFixture[str], apart: Make) -> None:
    with apart(tasks.do) as process:
        process.each([("print", "from there")])
        assert capfd.readouterr().out == "from there\n"


# ---- stuck


@pytest.mark.parametrize(
    ("order", "where"), [(("hang",), "in hang "), (("kill", signal.SIGSTOP), "it does not tell: it is stopped")]
)
def test_a_stuck_item_is_killed_and_costs_itself_alone(
    tasks: Any, order: tuple[Any, ...], where: str, apart: Make
) -> None:
    orders = [("value", 1), order, ("value", 2)]
    with apart(tasks.do) as process, worker(orders, item_timeout_s=0.3):
        found = process.each(orders)
        assert process.deaths == 1
    assert types_of(found) == [1, "Stalled", 2]
    assert "(limit 0.3 s), working; its process was killed at: " in found[1].message
    assert where.removeprefix("in ") in found[1].message


def test_a_stopped_process_that_holds_nothing_is_replaced(tasks: Any, apart: Make) -> None:
    with apart(tasks.double) as process, worker([1], item_timeout_s=0.3):
        assert process.each([1]) == [2]
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGSTOP)
        assert process.each([2, 3]) == [4, 6]


def test_what_is_cut_short_ends_soon_whatever_the_process_does(tasks: Any, apart: Make) -> None:
    values = [("hang",)]
    with apart(tasks.do) as process, worker(values) as ending:
        cutting = threading.Timer(0.1, ending.cut)
        cutting.start()
        assert process.each(list(values)) == [None]
        cutting.join(WAIT_S)


def test_what_is_not_wanted_ends_behind_the_item_in_hand_and_the_process_stays(tasks: Any, apart: Make) -> None:
    values = [("value", 1), ("wait", 1.0), ("value", 3)]
    with apart(tasks.do) as process, worker(list(values)) as dropped:
        assert dropped.lease is not None
        cutting = threading.Timer(0.1, dropped.lease.values.clear)
        cutting.start()
        assert process.each(values) == [1, "waited", None]
        cutting.join(WAIT_S)
        dropped.lease.values.append(1)
        assert process.each([("value", 4)]) == [4]
        assert process.deaths == 0


# ---- batches


def test_a_batch_goes_whole(tasks: Any, apart: Make) -> None:
    with apart(tasks.do_all, call="whole") as process:
        assert process.whole([1, ("value", 2), 3]) == [1, 2, 3]
        with pytest.raises(KeyError, match="no"):
            process.whole([1, ("raise", KeyError, "no")])
        with pytest.raises(ItemError, match="it cannot be sent to another process: TypeError"):
            process.whole([1, threading.Lock()])
        assert process.deaths == 0


def test_a_batch_that_kills_is_to_be_halved_and_one_alone_tried_again(tasks: Any, tmp_path: Path, apart: Make) -> None:
    with apart(tasks.do_all, call="whole") as process:
        with pytest.raises(WorkerDied, match="'work' died with 2 items in hand: SIGSEGV"):
            process.whole([1, ("crash",)])
        assert process.deaths == 1
        with pytest.raises(WorkerDied, match="with 1 items in hand"):
            process.whole([("crash",)])
        assert process.deaths == 1 + ATTEMPTS
        assert process.whole([("once", str(tmp_path / "mark"))]) == ["second time"]


def test_a_batch_that_hangs_is_killed(tasks: Any, apart: Make) -> None:
    with apart(tasks.do_all, call="whole") as process, worker([1], item_timeout_s=0.3):
        with pytest.raises(Stalled, match="no answer after"):
            process.whole([("hang",)])
        assert process.whole([1]) == [1]


# ---- what is refused


def cases() -> list[Any]:
    def inner(value: Any) -> Any:
        return value

    class Local:
        def __call__(self, value: Any) -> Any:
            return value

    return [lambda value: value, inner, Local(), partial(print, threading.Lock())]


@pytest.mark.parametrize("fn", cases(), ids=["lambda", "inner", "local class", "lock"])
def test_what_cannot_be_sent_is_refused_by_name(fn: Any) -> None:
    with pytest.raises(UsageError) as caught:
        stage_step("load", fn, workers=2)
    assert "stage 'load' is to be done by processes, and " in str(caught.value)
    assert repr(fn) in str(caught.value)
    assert "Give a function at the top of a module" in str(caught.value)


def test_a_program_without_a_file_is_refused(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "this", lambda: Program([], [], None, None))
    stage_step("load", tasks.double, workers=1)
    monkeypatch.setattr(tasks.double, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "double", tasks.double, raising=False)
    with pytest.raises(UsageError, match="lies in a program without a file"):
        stage_step("load", tasks.double, workers=1)


def test_more_processes_than_memory_are_refused_with_both_numbers(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "memory_budget", lambda: 100 * MIB)
    with pytest.raises(UsageError, match=r"4 processes take 134,217,728 bytes at the least, .* may use 104,857,600"):
        stage_step("load", tasks.double, workers=4)


def test_code_that_is_not_found_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, apart: Make) -> None:
    module = ModuleType("only_here")
    exec("def fn(value): return value", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    process = apart(module.fn)
    with pytest.raises(UsageError, match=r"cannot load the code: ModuleNotFoundError: No module named 'only_here'"):
        process.__enter__()
    process.__exit__()


def test_threads_of_libraries_are_shared_out(tasks: Any, monkeypatch: pytest.MonkeyPatch, apart: Make) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with apart(tasks.do) as process:
        threads = str(cpu_budget().inside(1))
        assert process.each([("environment", n) for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]) == [threads, "5"]


def test_the_repr_says_what_it_is_at(tasks: Any, apart: Make) -> None:
    with apart(tasks.do) as process:
        process.each([("value", 1), ("exit", 1)])
        pid = process._process and process._process.pid
        process.each([("value", 1)])
        assert repr(process).startswith("<Apart work: <Process ")
        assert repr(process).endswith(" of work: idle, request 1, value None>, 3 died>")
        assert pid is None


def test_any_thread_may_ask_what_it_is_at(tasks: Any, apart: Make) -> None:
    process = apart(tasks.do)
    assert process.told() == "no process for 'work' just now"
    told: list[str] = []
    values = [("hang",)]
    with process, worker(values) as stuck:

        def ask() -> None:
            told.append(process.told())
            stuck.cut()

        asking = threading.Timer(0.5, ask)
        asking.start()
        assert process.each(list(values)) == [None]
        asking.join(WAIT_S)
    (said,) = told
    assert "of work: working, request 1, value 0> at" in said
    assert "hang (process_tasks.py:" in said

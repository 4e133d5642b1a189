"""What a worker does with a parcel: slices, the clock between them, and stopping in the midst of one."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from penstock._contracts import Failure
from penstock._engine import work as work_module
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.sizing import FIRST_SLICE
from penstock._engine.step import Step
from penstock._engine.work import OVERTIME_S, Worker, work


class Costs:
    """A clock that moves by what the test's functions say they cost."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now / 4


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    clock = Costs()
    monkeypatch.setattr(work_module, "time", clock)
    return clock


@pytest.fixture
def worker() -> Worker:
    return Worker(0, 0, threading.current_thread())


def parcel_of(n: int) -> Parcel:
    flow = cast("Flow", SimpleNamespace(closed=False, tickets=None))
    return Parcel(flow, 0, (0, n), range(n), range(n), list(range(n)))


def bound(*fns: Any, block: int | None = None) -> Any:
    return [(Step.of(f"step {i}", fn, block=block), fn) for i, fn in enumerate(fns)]


def test_all_steps_run_over_all_items_and_are_timed_and_counted(costs: Costs, worker: Worker) -> None:
    def slow(x: int) -> int:
        costs.now += OVERTIME_S / 1000
        return x + 1

    def half(x: int) -> int:
        if x % 2:
            raise ValueError("odd")
        return x

    parcel, rest, clocks = work(worker, bound(slow, half), parcel_of(100), None)
    assert rest is None
    assert [type(v) is Failure for v in parcel.values] == [x % 2 == 0 for x in range(100)]
    assert parcel.failed == 50
    assert [(c.items, c.failed) for c in clocks] == [(100, 0), (100, 50)]
    assert clocks[0].busy_s == pytest.approx(OVERTIME_S / 10)
    assert clocks[1].busy_s == 0.0
    assert [c.cpu_s for c in clocks] == [pytest.approx(OVERTIME_S / 40), 0.0]


def test_what_others_do_for_a_worker_counts_as_computing(costs: Costs, worker: Worker) -> None:
    """A process of which nobody knows what it does."""

    def asks(x: int) -> int:
        costs.now += 1.0
        worker.elsewhere_s += 0.75
        return x

    _, _, (clock,) = work(worker, bound(asks), parcel_of(1), None)
    assert clock.cpu_s == pytest.approx(1.0)


def test_single_requests_are_not_timed_on_the_cpu(costs: Costs, worker: Worker) -> None:
    parcel = parcel_of(1)
    parcel.flow = cast("Flow", SimpleNamespace(closed=False, tickets=SimpleNamespace(begin=lambda _: None)))
    costs.now = 4.0
    _, _, (clock,) = work(worker, bound(lambda x: x), parcel, None)
    assert clock.cpu_s == 0.0


def test_items_that_failed_before_do_not_count_as_seen(costs: Costs, worker: Worker) -> None:
    parcel = parcel_of(10)
    parcel.values[3], parcel.failed = Failure("earlier", "E", "no"), 1
    done, _, (clock,) = work(worker, bound(lambda x: x), parcel, None)
    assert (clock.items, clock.failed, done.failed) == (9, 0, 1)


@pytest.mark.parametrize(("block", "done"), [(None, FIRST_SLICE), (7, 14), (100, 100)])
def test_a_parcel_in_overtime_goes_back_behind_the_slice_in_hand(
    costs: Costs, worker: Worker, block: int | None, done: int
) -> None:
    """A stage that was cheap and has become slow: others share the rest, cut where a batch ends."""

    def slow(x: Any) -> Any:
        costs.now += OVERTIME_S * 1.1
        return x

    head, rest, _ = work(worker, bound(slow, block=block), parcel_of(250), block)
    assert rest is not None
    assert (len(head), len(rest)) == (done, 250 - done)
    assert (list(head.values), list(rest.values)) == (list(range(done)), list(range(done, 250)))
    assert (rest.start, list(rest.positions)) == (done, list(range(done, 250)))


def test_slices_grow_up_to_a_bound(costs: Costs, worker: Worker) -> None:
    """Each costs some microseconds; but what is in one cannot be shared when its items turn out slow."""
    leases: dict[int, int] = {}

    def look(x: int) -> int:
        assert worker.lease is not None
        leases[worker.lease.part.start] = len(worker.lease.part)
        return x

    work(worker, bound(look), parcel_of(1000), None)
    slices = list(leases.values())
    assert slices == [8, 8, 16, 32, 64, 128, 256, 488]


def test_a_cheap_parcel_is_done_in_one_go(costs: Costs, worker: Worker) -> None:
    head, rest, _ = work(worker, bound(lambda x: -x), parcel_of(1000), None)
    assert rest is None
    assert head.values == [-x for x in range(1000)]


def test_the_lease_says_what_is_in_hand(costs: Costs, worker: Worker) -> None:
    seen = []

    def look(x: int) -> int:
        assert worker.lease is not None
        seen.append((worker.lease.step.name, worker.lease.part.items[len(worker.lease.out)]))
        return x

    work(worker, bound(look, look), parcel_of(2), None)
    assert seen == [("step 0", 0), ("step 0", 1), ("step 1", 0), ("step 1", 1)]


@pytest.mark.parametrize("n", [FIRST_SLICE, 10 * FIRST_SLICE])
def test_a_worker_that_is_cut_ends_behind_the_item_in_hand(costs: Costs, worker: Worker, n: int) -> None:
    """Rule 3: however slow the items are, a stop waits for one of them, not for the slice."""
    parcel, seen = parcel_of(n), []
    later: list[int] = []

    def fn(x: int) -> int:
        seen.append(x)
        if x == 5:
            parcel.flow.closed = True
            worker.cut()
        return x

    head, _, _ = work(worker, bound(fn, later.append), parcel, None)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert later == []  # no step (a writer of files) sees what was cut short
    assert len(head) == 0


def test_a_worker_that_is_cut_in_a_batch_begins_no_other(costs: Costs, worker: Worker) -> None:
    parcel, seen = parcel_of(64), []
    later: list[list[int]] = []

    def model(batch: list[int]) -> list[int]:
        seen.append(batch)
        parcel.flow.closed = True
        worker.cut()
        raise ValueError("this batch would be halved")

    work(worker, bound(model, later.append, block=8), parcel, 8)
    assert seen == [list(range(8))]
    assert later == []


def test_the_last_batch_of_a_slice_may_be_cut_as_well(costs: Costs, worker: Worker) -> None:
    """Halves of it that were not tried are inputs still, and must not be taken for outputs."""
    parcel = parcel_of(8)
    later: list[int] = []

    def model(batch: list[int]) -> list[int]:
        parcel.flow.closed = True
        worker.cut()
        raise ValueError("this batch would be halved")

    head, _, _ = work(worker, [*bound(model, block=8), *bound(later.append)], parcel, 8)
    assert later == []
    assert len(head) == 0


def test_no_slice_is_begun_for_a_flow_that_is_closed(costs: Costs, worker: Worker) -> None:
    parcel, seen = parcel_of(200), []

    def fn(x: int) -> None:
        seen.append(x)
        parcel.flow.closed = True

    work(worker, bound(fn), parcel, None)
    assert len(seen) == FIRST_SLICE


def test_cutting_an_idle_worker_does_nothing(worker: Worker) -> None:
    worker.cut()
    assert worker.lease is None


def test_a_worker_that_was_given_up_begins_no_other_step(costs: Costs, worker: Worker) -> None:
    """Between two steps, where nothing is to be cut: whoever gives it up may have seen the lease of the one before."""
    later: list[int] = []

    def fn(x: int) -> int:
        worker.given_up = x == 7
        return x

    head, _, _ = work(worker, bound(fn, later.append), parcel_of(8), None)
    assert later == []
    assert len(head) == 0


def test_an_item_goes_on_behind_the_steps_it_has_behind_it(costs: Costs, worker: Worker) -> None:
    parcel = parcel_of(4)
    parcel.step, parcel.alone = 1, True
    head, _, (first, second) = work(worker, bound(lambda x: 1 / 0, lambda xs: [-x for x in xs], block=2), parcel, 2)
    assert head.values == [0, -1, -2, -3]
    assert (first.items, second.items) == (0, 4)
    assert (head.step, head.alone) == (0, False)  # the next stage begins with its own first one

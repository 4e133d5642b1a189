"""Pipelines: any stages give what a loop would give, each item once, in order, and every error is heard of."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine import work as work_module
from penstock._engine.chunks import listed, one_by_one, positional
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock.errors import Closed, SinkError

WAIT_S = 20.0


def gate_of(event: threading.Event) -> None:
    assert event.wait(WAIT_S), "the test never opened the gate"


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None, name: str = "work") -> Stage:
    return Stage(name, (Step.of(name, fn, block=block),), workers)


def values_of(pipeline: Pipeline, source: Any, window: Window | None = None) -> list[Any]:
    with pipeline.flow(one_by_one(source), window or Window()) as flow:
        return [value for parcel in flow for value in parcel.values]


# ---- equal to a loop


@dataclass
class Spy:
    """A step of a random plan: adds one to what it is given, fails for some items, and notes its calls."""

    name: str
    block: int | None
    takes_item: bool
    culprits: frozenset[int]
    stops_iteration: bool
    calls: list[list[int]] = field(default_factory=list)

    def step(self) -> Step:
        return Step.of(
            self.name, self.on_batch if self.block else self.on_item, block=self.block, takes_item=self.by_item
        )

    @property
    def by_item(self) -> bool:
        return self.takes_item and not self.block

    def on_item(self, *arguments: Any) -> tuple[int, int]:
        (position, x) = arguments[-1]
        assert arguments[:-1] == ((position,) if self.by_item else ())
        return self.on_batch([(position, x)])[0]

    def on_batch(self, batch: list[tuple[int, int]]) -> list[tuple[int, int]]:
        positions = [position for position, _ in batch]
        self.calls.append(positions)
        if self.culprits & set(positions):
            raise StopIteration if self.stops_iteration else ValueError("bad")
        return [(position, x + 1) for position, x in batch]


@st.composite
def plans(draw: st.DrawFn) -> list[tuple[list[Spy], int]]:
    """Draw stages: the steps of each, and its workers."""
    plan, k = [], 0
    for _ in range(draw(st.integers(1, 3))):
        spies = []
        for _ in range(draw(st.integers(1, 2))):
            block = draw(st.sampled_from([None, None, 1, 2, 4, 6]))
            culprits = draw(st.frozensets(st.integers(0, 80), max_size=4))
            spies.append(Spy(f"step {k}", block, draw(st.booleans()), culprits, draw(st.booleans())))
            k += 1
        plan.append((spies, draw(st.integers(1, 3))))
    return plan


def expected_of(position: int, spies: list[Spy]) -> Any:
    culprit = next((spy.name for spy in spies if position in spy.culprits), None)
    return culprit or (position, position * 10 + len(spies))


def check_calls(spies: list[Spy], live: list[int], *, by_position: bool) -> None:
    """Each batch is a block by position; who is in no failed batch is seen once."""
    for spy in spies:
        block = spy.block or 1
        seen = Counter(position for call in spy.calls for position in call)
        assert sorted(seen) == live
        assert all(len(call) <= block for call in spy.calls)
        blocks = [[p for p in live if p // block == number] for number in sorted({p // block for p in live})]
        if by_position:
            assert all(whole in spy.calls for whole in blocks)
            assert all(spy.culprits & set(whole) or all(seen[p] == 1 for p in whole) for whole in blocks)
        assert not spy.culprits or max(seen.values(), default=0) <= math.ceil(math.log2(block)) + 1
        live = [position for position in live if position not in spy.culprits]


def coming_from(flow: Flow) -> Iterator[Parcel]:
    """Yield as a flow does, but not for ever: an item that is lost is a failure and no hang."""
    patience = 10
    while (parcels := flow.collect(1.0)) is not None:
        patience = 10 if parcels else patience - 1
        assert patience > 0, f"an item is lost: {flow!r}"
        for parcel in parcels:
            yield parcel
            flow.release(len(parcel))


@settings(max_examples=150, phases=[Phase.generate])  # a hang would be tried again and again
@given(
    plans(), st.integers(0, 80), st.sets(st.integers(0, 80), max_size=9), st.integers(1, 40), st.booleans(), st.data()
)
def test_any_plan_gives_what_a_loop_gives(
    plan: list[tuple[list[Spy], int]], n: int, settled: set[int], room: int, ordered: bool, data: st.DataObject
) -> None:
    spies = [spy for group, _ in plan for spy in group]
    stages = [Stage(f"stage {i}", tuple(spy.step() for spy in group), k) for i, (group, k) in enumerate(plan)]
    linger_s = data.draw(st.sampled_from([None, None, 0.0]))
    take = positional(((i, i * 10) for i in range(n)), sorted(settled))
    positions: list[int] = []
    values: list[Any] = []
    with (
        Pipeline(stages) as pipeline,
        pipeline.flow(take, Window(room, room), ordered=ordered, linger_s=linger_s) as flow,
    ):
        for parcel in coming_from(flow):
            assert parcel.failed == sum(type(value) is Failure for value in parcel.values)
            positions.extend(parcel.items)
            values.extend(parcel.values)
        statistics = pipeline.statistics()
    live = [i for i in range(n) if i not in settled]
    assert positions == live if ordered else sorted(positions) == live
    answers = [value.stage if type(value) is Failure else value for value in values]
    assert answers == [expected_of(position, spies) for position in positions]
    check_calls(spies, live, by_position=linger_s is None)
    (counts,) = statistics.flows
    assert counts.most_in_flight <= max(room, pipeline.block)
    assert (counts.admitted, counts.delivered) == (len(live), len(live))
    assert [sum(s.worker_items) for s in statistics.stages] == [len(live)] * len(stages)
    steps = [step for s in statistics.stages for step in s.steps]
    assert [step.items for step in steps] == [len({p for c in spy.calls for p in c}) for spy in spies]
    failed = [len({p for c in spy.calls for p in c} & spy.culprits) for spy in spies]
    assert [step.failed for step in steps] == failed


@pytest.mark.parametrize("pairs", [[(1, "b"), (3, "d"), (4, "e"), (9, "j")]])
def test_batches_of_a_list_with_holes_are_blocks_by_position(pairs: list[tuple[int, str]]) -> None:
    calls = []

    def model(batch: list[str]) -> list[str]:
        calls.append(batch)
        return [x.upper() for x in batch]

    with (
        Pipeline([stage(lambda x: x, 2, name="load"), stage(model, 1, block=4)]) as pipeline,
        pipeline.flow(listed(pairs), Window()) as flow,
    ):
        assert [v for parcel in flow for v in parcel.values] == ["B", "D", "E", "J"]
    assert sorted(calls) == [["b", "d"], ["e"], ["j"]]


# ---- workers


class Costs:
    """A clock for each thread that moves by what the test's functions say they cost."""

    def __init__(self) -> None:
        self._local = threading.local()

    def perf_counter(self) -> float:
        return getattr(self._local, "now", 0.0)

    def thread_time(self) -> float:
        return self.perf_counter() / 2  # others have the CPU as often

    def spend(self, seconds: float) -> None:
        self._local.now = self.perf_counter() + seconds


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    clock = Costs()
    monkeypatch.setattr(work_module, "time", clock)
    return clock


def test_31_equal_items_over_16_workers_take_two_rounds(costs: Costs) -> None:
    """No worker gets three: each round can only end when as many workers hold an item each as it has items."""
    rounds = threading.Barrier(16), threading.Barrier(15)

    def equal(x: int) -> int:
        costs.spend(0.002)  # two fit into a parcel, if nobody else is idle
        rounds[x // 16].wait(WAIT_S)
        return x

    with Pipeline([stage(equal, 16)]) as pipeline:
        assert values_of(pipeline, range(31), Window(1000, 1000)) == list(range(31))
        (statistics,) = pipeline.statistics().stages
        assert max(statistics.worker_items) == 2


def test_an_expensive_parcel_is_shared_out(costs: Costs) -> None:
    """Four batches that came as one parcel go to four workers."""
    together = threading.Barrier(4)

    def load(batch: list[int]) -> list[int]:
        return batch

    def model(batch: list[int]) -> list[int]:
        costs.spend(0.1)
        together.wait(WAIT_S)
        return batch

    stages = [stage(load, 1, block=16, name="load"), stage(model, 4, block=4)]
    with Pipeline(stages) as pipeline:
        assert values_of(pipeline, range(64)) == list(range(64))


def test_busy_seconds_are_what_the_steps_took(costs: Costs) -> None:
    def slow(x: int) -> int:
        costs.spend(0.25)
        return x

    with Pipeline([stage(slow, 3)]) as pipeline:
        values_of(pipeline, range(40))
        (statistics,) = pipeline.statistics().stages
    (step,) = statistics.steps
    assert step.busy_s == pytest.approx(10.0)
    assert statistics.busy_s == step.busy_s
    assert step.cost_s == pytest.approx(0.25)
    assert step.cpu_s == pytest.approx(5.0)


def test_workers_live_as_long_as_the_pipeline_and_are_bound_once() -> None:
    """Rule 4: none is made per item or per flow."""
    bound: list[str] = []
    left: list[str] = []
    used: set[str] = set()

    @contextmanager
    def bind() -> Iterator[Callable[[int], int]]:
        name = threading.current_thread().name
        bound.append(name)
        yield lambda x: (used.add(threading.current_thread().name), x)[1]  # type: ignore[func-returns-value]
        left.append(name)

    with Pipeline([Stage("work", (Step("work", bind),), 3)]) as pipeline:
        before = {t for t in threading.enumerate() if t.name.startswith("penstock")}
        for _ in range(5):
            assert values_of(pipeline, range(50)) == list(range(50))
        assert {t for t in threading.enumerate() if t.name.startswith("penstock")} == before
        assert left == []
    names = ["penstock-work-0", "penstock-work-1", "penstock-work-2"]
    assert sorted(bound) == sorted(left) == names
    assert used <= set(names)
    assert [t for t in threading.enumerate() if t.name.startswith("penstock")] == []


def test_an_idle_worker_holds_no_items() -> None:
    class Big:
        pass

    gc.disable()
    try:
        with Pipeline([stage(lambda x: Big()), stage(lambda x: x)]) as pipeline:
            with pipeline.flow(one_by_one([1]), Window()) as flow:
                (kept,) = [weakref.ref(value) for parcel in flow for value in parcel.values]
            assert kept() is None
    finally:
        gc.enable()


def test_repr_shows_stages_workers_and_queues() -> None:
    with Pipeline([stage(len, 2, name="decode"), stage(len, 1, name="model")]) as pipeline:
        assert repr(pipeline) == "<Pipeline running [decode: 2 workers, 0 queued | model: 1 workers, 0 queued]>"
    assert repr(pipeline).startswith("<Pipeline closed [")
    assert not pipeline.statistics().running


# ---- errors


class Broken(Exception):
    """The test's own."""


def binding(error: BaseException, gate: threading.Event | None = None) -> Stage:
    def bind() -> AbstractContextManager[Any]:
        if gate is not None:
            gate_of(gate)
        raise error

    return Stage("model", (Step("model", bind),), 2)


def test_a_bind_that_fails_before_there_is_a_flow_is_raised_to_the_first() -> None:
    with Pipeline([binding(Broken("no model"))]) as pipeline:
        for worker in pipeline.workers:
            worker.thread.join(WAIT_S)
        for _ in range(2):
            with pytest.raises(Broken, match="no model"):
                pipeline.flow(one_by_one([1]), Window())


def test_a_bind_that_fails_between_a_flow_and_its_start_is_raised() -> None:
    gate = threading.Event()
    with Pipeline([binding(Broken("no model"), gate)]) as pipeline:
        flow = pipeline.flow(one_by_one([1]), Window())
        gate.set()
        for worker in pipeline.workers:
            worker.thread.join(WAIT_S)
        with pytest.raises(Broken, match="no model"):
            flow.__enter__()


def test_a_bind_that_fails_later_ends_the_flow() -> None:
    gate = threading.Event()
    with Pipeline([binding(Broken("no model"), gate)]) as pipeline, pipeline.flow(one_by_one([1]), Window()) as flow:
        gate.set()
        with pytest.raises(Broken, match="no model"):
            list(flow)


def test_an_error_of_a_worker_that_no_flow_heard_of_is_raised_at_the_end() -> None:
    @contextmanager
    def bind() -> Iterator[Any]:
        yield lambda x: x
        raise Broken("cannot let go")

    pipeline = Pipeline([Stage("model", (Step("model", bind),), 1)])
    with pytest.raises(Broken, match="cannot let go"), pipeline:
        assert values_of(pipeline, [1]) == [1]


@pytest.mark.parametrize("error", [SinkError("disk full"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("block", [None, 4])
def test_what_is_no_items_fault_ends_every_flow(error: BaseException, block: int | None) -> None:
    def fatal(x: Any) -> Any:
        raise error

    with Pipeline([stage(lambda x: x, 2, name="load"), stage(fatal, 2, block=block)]) as pipeline:
        for _ in range(2):  # the second finds the pipeline ended
            with pytest.raises(type(error)) as caught:
                values_of(pipeline, range(1000))
            assert caught.value is error


def test_a_closed_pipeline_takes_no_flow() -> None:
    with Pipeline([stage(len)]) as pipeline:
        early = pipeline.flow(one_by_one([1]), Window())
    with pytest.raises(Closed):
        pipeline.flow(one_by_one([1]), Window())
    with pytest.raises(Closed):
        early.__enter__()


def test_threads_that_cannot_be_had_leave_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def third_fails(thread: threading.Thread) -> None:
        if thread.name in {"penstock-work-2", "penstock-source"}:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", third_fails)
    with pytest.raises(RuntimeError, match="can't start"):
        Pipeline([stage(len, 3)]).__enter__()
    with Pipeline([stage(len, 2)]) as pipeline:
        with pytest.raises(RuntimeError, match="can't start"):
            pipeline.flow(one_by_one([1]), Window()).__enter__()
        assert pipeline.statistics().flows == ()

"""Stages of worker threads between a flow's source and its consumer. All state moves here, under one lock.

A worker hands over what it has finished and takes the next parcel in one exchange; that is the only place it waits.
Workers live as long as the pipeline: none is made per item or per flow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from penstock._engine.flow import RECHECK_S, Flow, Take
from penstock._engine.parcel import Parcel, estimate_nbytes, join, whole_blocks
from penstock._engine.sizing import PARCEL_S, SLICE, Window, share, smooth
from penstock._engine.statistics import PipelineStatistics, StageStatistics, StepStatistics
from penstock._engine.step import Rows, Stage, Step, run_step
from penstock._engine.watch import Watch
from penstock.errors import Closed

OVERTIME_S = 2 * PARCEL_S
"""A parcel that takes longer than this is handed on in pieces, so that other workers can share the rest."""


@dataclass(slots=True)
class Clock:
    """Seconds, items and failures of one step, counted by one worker since it last reported."""

    busy_s: float = 0.0
    items: int = 0
    failed: int = 0


@dataclass(slots=True)
class Lease:
    """What a worker holds: read by the watch from another thread, which bears a torn view."""

    parcel: Parcel
    offset: int
    step: Step
    out: list[Any]
    begun: float


@dataclass(slots=True)
class Worker:
    """One thread of a stage, and what it is doing."""

    stage: int
    index: int
    thread: threading.Thread
    items: int = 0
    lease: Lease | None = None


@dataclass(slots=True)
class Post:
    """A stage at work: parcels before it, pieces waiting to be gathered, its measurements. Guarded by the lock."""

    stage: Stage
    ready: threading.Condition
    queue: deque[Parcel] = field(default_factory=deque)
    pieces: dict[tuple[int, int], list[Parcel]] = field(default_factory=dict)
    clocks: list[Clock] = field(default_factory=list)
    cost_s: float = 0.0
    idle: int = 0

    def queued(self) -> int:
        """Return how many items wait."""
        return sum(map(len, self.queue))


class Pipeline:
    """Stages with their workers; a context manager that starts them and joins them.

    Args:
        stages: what is done, in order; a stage of several steps is fused: one worker does them in a row.
        item_timeout_s: longest time for one item (one batch) in one step; then the flows fail with `Stalled`.
    """

    def __init__(self, stages: Sequence[Stage], *, item_timeout_s: float | None = None) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.lock = threading.Lock()
        self.posts = [Post(stage, threading.Condition(self.lock)) for stage in stages]
        for post in self.posts:
            post.clocks = [Clock() for _ in post.stage.steps]
        self.block = max((stage.block or 1 for stage in stages), default=1)
        self.worker_count = sum(stage.workers for stage in stages)
        self._flows: list[Flow] = []
        self._closing = False
        self._error: BaseException | None = None
        self._watch = Watch(item_timeout_s)
        self.workers = [
            Worker(s, i, threading.Thread(target=self._run, name=f"penstock-{post.stage.name}-{i}", daemon=True))
            for s, post in enumerate(self.posts)
            for i in range(post.stage.workers)
        ]
        self._by_thread = {worker.thread: worker for worker in self.workers}

    def __enter__(self) -> Pipeline:
        """Start the workers."""
        for worker in self.workers:
            worker.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and join the workers."""
        self.close()

    def __repr__(self) -> str:
        """Show the stages, their workers and queues."""
        s = self.statistics()
        stages = " | ".join(f"{t.name}: {t.workers} workers, {t.queued} queued" for t in s.stages)
        return f"<Pipeline {'running' if s.running else 'closed'} [{stages}]>"

    def flow(self, take: Take, window: Window, *, ordered: bool = True, linger_s: float | None = None) -> Flow:
        """Return a flow of the items that `take` gives; enter it to begin."""
        if self._closing:
            raise Closed("The pipeline is closed: no more items can enter it.")
        return Flow(self, take, window, ordered=ordered, linger_s=linger_s)

    def close(self, timeout_s: float = 2.0) -> list[str]:
        """Stop: workers finish the slice in hand, the rest is dropped. Return the names of threads left behind."""
        with self.lock:
            self._closing = True
            flows = list(self._flows)
            for post in self.posts:
                post.queue.clear()
                post.ready.notify_all()
        for flow in flows:
            flow.close(timeout_s)
        deadline = time.monotonic() + timeout_s
        for worker in self.workers:
            if worker.thread.ident is not None:
                worker.thread.join(max(0.0, deadline - time.monotonic()))
        return [worker.thread.name for worker in self.workers if worker.thread.is_alive()]

    def statistics(self) -> PipelineStatistics:
        """Return a snapshot of all stages and flows."""
        with self.lock:
            stages = tuple(self._stage_statistics(s, post) for s, post in enumerate(self.posts))
            flows = list(self._flows)
            running = not self._closing
        return PipelineStatistics(stages, tuple(flow.statistics() for flow in flows), running)

    def _stage_statistics(self, s: int, post: Post) -> StageStatistics:
        counts = tuple(worker.items for worker in self.workers if worker.stage == s)
        steps = tuple(
            StepStatistics(step.name, clock.busy_s, clock.items, clock.failed)
            for step, clock in zip(post.stage.steps, post.clocks, strict=True)
        )
        return StageStatistics(post.stage.name, post.stage.workers, post.queued(), counts, steps)

    def watch(self) -> None:
        """Look whether the workers live and move; called by whoever has waited in vain. Fails the flows if not."""
        problem = self._watch.look(self.workers, self._closing)
        if problem is not None:
            with self.lock:
                self._fail(problem)

    # ---- for flows, lock held

    def cost_s(self) -> float:
        """Return the measured seconds an item of the most expensive stage, 0.0 before there are any."""
        costs = [post.cost_s for post in self.posts]
        return max(costs) if all(costs) else 0.0

    def rate(self) -> float:
        """Return the items per second that the slowest stage can do, as measured so far; 0.0 = unknown."""
        rates = [post.stage.workers / post.cost_s for post in self.posts if post.cost_s > 0.0]
        return min(rates) if len(rates) == len(self.posts) and rates else 0.0

    def last_waiting(self) -> Parcel | None:
        """Return the newest parcel that waits before the first stage."""
        return self.posts[0].queue[-1] if self.posts[0].queue else None

    def wake_first(self) -> None:
        """Let an idle worker of the first stage look at its queue again."""
        self.posts[0].ready.notify()

    def push(self, s: int, parcel: Parcel) -> None:
        """Put a parcel before stage `s`, or hand it back to its flow behind the last one."""
        if s == len(self.posts):
            parcel.flow.arrive(parcel)
            return
        post = self.posts[s]
        if post.stage.block and len(parcel) != parcel.origin[1]:
            gathered = self._gather(post, parcel)
            if gathered is None:
                return
            parcel = gathered
        post.queue.append(parcel)
        if post.idle:
            post.ready.notify()

    def attach(self, flow: Flow) -> None:
        """Begin to serve a flow."""
        with self.lock:
            self._flows.append(flow)

    def detach(self, flow: Flow) -> None:
        """Forget a flow and drop what of it still waits; idempotent."""
        with self.lock:
            if flow in self._flows:
                self._flows.remove(flow)
            for post in self.posts:
                post.queue = deque(parcel for parcel in post.queue if parcel.flow is not flow)
                post.pieces = {key: pieces for key, pieces in post.pieces.items() if pieces[0].flow is not flow}

    # ---- the workers

    def _run(self) -> None:
        """Body of a worker thread."""
        worker = self._by_thread[threading.current_thread()]
        post = self.posts[worker.stage]
        try:
            with ExitStack() as stack:
                bound = [(step, stack.enter_context(step.bind())) for step in post.stage.steps]
                done: tuple[Parcel, Parcel | None, list[Clock]] | None = None
                while (parcel := self._exchange(worker, post, done)) is not None:
                    done = self._work(worker, post, bound, parcel)
        except BaseException as error:  # noqa: BLE001 - nothing may end a worker in silence
            with self.lock:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End all flows, now and later, with `error`. Lock held."""
        self._error = self._error or error
        self._closing = True
        for flow in self._flows:
            flow.fail(self._error)
        for post in self.posts:
            post.ready.notify_all()

    def _exchange(
        self, worker: Worker, post: Post, done: tuple[Parcel, Parcel | None, list[Clock]] | None
    ) -> Parcel | None:
        """Hand over what is done and take the next parcel; None when the pipeline closes. The one place to wait."""
        with self.lock:
            worker.lease = None
            if done is not None:
                self._hand_over(worker, post, *done)
            while not self._closing:
                wait_s = self._until_ready(post)
                if wait_s is None:
                    return self._next(post)
                post.idle += 1
                post.ready.wait(wait_s)
                post.idle -= 1
        return None

    def _until_ready(self, post: Post) -> float | None:
        """Return None if a parcel can be taken, else how long to wait before looking again."""
        if not post.queue:
            return RECHECK_S
        head = post.queue[0]
        if head.open_until is None or len(head) >= self.block > 1:
            return None
        remaining = head.open_until - time.monotonic()
        return remaining if remaining > 0 else None

    def _next(self, post: Post) -> Parcel:
        """Take as much of the first parcel as this worker should, and leave the rest to the others."""
        parcel = post.queue.popleft()
        parcel.open_until = None
        n = share(post.cost_s, len(parcel), len(parcel) + post.queued(), post.stage.workers)
        if post.stage.block:
            n = whole_blocks(parcel.positions, post.stage.block, n)
        if n < len(parcel):
            parcel, rest = parcel.split(n)
            post.queue.appendleft(rest)
        if post.queue and post.idle:
            post.ready.notify()
        return parcel

    def _hand_over(self, worker: Worker, post: Post, parcel: Parcel, rest: Parcel | None, clocks: list[Clock]) -> None:
        worker.items += len(parcel)
        for total, clock in zip(post.clocks, clocks, strict=True):
            total.busy_s += clock.busy_s
            total.items += clock.items
            total.failed += clock.failed
        post.cost_s = smooth(post.cost_s, max(1e-9, sum(clock.busy_s for clock in clocks) / len(parcel)))
        if rest is not None:
            post.queue.appendleft(rest)
            if post.idle:
                post.ready.notify()
        if not parcel.flow.closed:
            parcel.flow.measured(parcel.nbytes, len(parcel))
            self.push(worker.stage + 1, parcel)

    def _gather(self, post: Post, piece: Parcel) -> Parcel | None:
        """Keep `piece` until all pieces of its parcel are here, then return them as one."""
        key = (id(piece.flow), piece.origin[0])
        pieces = post.pieces.setdefault(key, [])
        pieces.append(piece)
        if sum(map(len, pieces)) < piece.origin[1]:
            return None
        del post.pieces[key]
        return join(pieces)

    def _work(
        self, worker: Worker, post: Post, bound: list[tuple[Step, Callable[..., Any]]], parcel: Parcel
    ) -> tuple[Parcel, Parcel | None, list[Clock]]:
        """Run the stage's steps over `parcel`, slice by slice; what is left after OVERTIME_S goes back."""
        clocks = [Clock() for _ in bound]
        values: list[Any] = []
        failed = offset = 0
        deadline = time.perf_counter() + OVERTIME_S
        while offset < len(parcel):
            end = self._slice_end(post, parcel, offset)
            part = parcel if end - offset == len(parcel) else parcel.part(offset, end)
            rows = self._run_slice(worker, bound, part, clocks)
            values.extend(rows.values)
            failed += rows.failed
            offset = end
            if self._closing or time.perf_counter() > deadline:
                break
        head, rest = (parcel, None) if offset == len(parcel) else parcel.split(offset)
        head.values, head.failed, head.nbytes = values, failed, estimate_nbytes(values)
        return head, rest, clocks

    def _slice_end(self, post: Post, parcel: Parcel, offset: int) -> int:
        if len(parcel) - offset <= SLICE:
            return len(parcel)
        if not post.stage.block:
            return offset + SLICE
        return offset + whole_blocks(parcel.positions[offset:], post.stage.block, SLICE)

    def _run_slice(
        self, worker: Worker, bound: list[tuple[Step, Callable[..., Any]]], part: Parcel, clocks: list[Clock]
    ) -> Rows:
        rows = Rows(part.positions, part.items, part.values, part.failed)
        begun = time.perf_counter()
        for (step, fn), clock in zip(bound, clocks, strict=True):
            out: list[Any] = []
            worker.lease = Lease(part, 0, step, out, begun)
            before = rows.failed
            rows = Rows(part.positions, part.items, out, run_step(step, fn, rows, out))
            now = time.perf_counter()
            clock.busy_s += now - begun
            clock.items += len(out) - before
            clock.failed += rows.failed - before
            begun = now
        return rows

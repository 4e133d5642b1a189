"""Stages of worker threads between a flow's source and its consumer. All state moves here, under one lock.

A worker hands over what it has finished and takes the next parcel in one exchange; that is the only place it waits.
Workers live as long as the pipeline: none is made per item or per flow.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from penstock._engine.flow import RECHECK_S, SOURCE_STOP_S, Flow, Take
from penstock._engine.gate import Gate
from penstock._engine.inlet import Inlet
from penstock._engine.parcel import Parcel, join, whole_blocks
from penstock._engine.sizing import TURNS, Window, first_slice, share, smooth
from penstock._engine.statistics import PipelineStatistics, StageStatistics, StepStatistics
from penstock._engine.step import Stage, routes
from penstock._engine.watch import Watch
from penstock._engine.work import HERE, Clock, Worker, work
from penstock.errors import Closed

STOP_S = 1.5
"""How long a close waits for workers; with the source's share (SOURCE_STOP_S) a stop takes at most 2 s."""
CUT_S = 0.05
"""How often a close cuts short what a worker may have begun in the meantime."""


@dataclass(slots=True)
class Post:
    """A stage at work: parcels before it, pieces waiting to be gathered, its measurements. Guarded by the lock."""

    stage: Stage
    ready: threading.Condition
    block: int | None
    """Of the stage, which works it out each time it is asked."""
    queue: deque[Parcel] = field(default_factory=deque)
    branches: int = 1
    """How many stages end at this one; it waits for the parcel from each."""
    pieces: dict[tuple[Flow | Inlet, int], list[tuple[int, Parcel]]] = field(default_factory=dict)
    """By the parcel they were cut from: pieces, with the stage each came from."""
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
        self.lock = threading.RLock()  # the collector may close a forgotten flow in a thread that holds it
        self.posts = [Post(stage, threading.Condition(self.lock), stage.block) for stage in stages]
        self._routes = routes(stages)
        for post in self.posts:
            post.clocks = [Clock() for _ in post.stage.steps]
        for s, post in enumerate(self.posts):
            post.branches = max(1, sum(s in targets for targets in self._routes))
        self.block = math.lcm(*(stage.block or 1 for stage in stages))
        self.worker_count = sum(stage.workers for stage in stages)
        self._flows: list[Flow | Inlet] = []
        self._precedent: Gate | None = None
        self._closing = False
        self._error: BaseException | None = None
        self._told = False
        self._watch = Watch(item_timeout_s)
        self._look_at = 0.0
        self.workers = [
            Worker(s, i, threading.Thread(target=self._run, name=f"penstock-{post.stage.name}-{i}", daemon=True))
            for s, post in enumerate(self.posts)
            for i in range(post.stage.workers)
        ]
        for worker in self.workers:
            worker.last = worker.stage == len(self.posts) - 1
            worker.item_timeout_s = item_timeout_s
        self._by_thread = {worker.thread: worker for worker in self.workers}

    def __enter__(self) -> Self:
        """Start the workers."""
        try:
            for worker in self.workers:
                worker.thread.start()
        except BaseException:  # no more threads may be had
            self.close()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop and join the workers. Raises an error of theirs that no flow was there to hear of."""
        self.close()
        if kind is None and self._error is not None and not self._told:
            raise self._error

    def __repr__(self) -> str:
        """Show the stages, their workers and queues."""
        s = self.statistics()
        stages = " | ".join(f"{t.name}: {t.workers} workers, {t.queued} queued" for t in s.stages)
        return f"<Pipeline {'running' if s.running else 'closed'} [{stages}]>"

    def flow(self, take: Take, window: Window, *, ordered: bool = True, linger_s: float | None = None) -> Flow:
        """Return a flow of the items that `take` gives; enter it to begin. Raises what has ended the pipeline."""
        self._raise_if_closed()
        return Flow(self, take, window, ordered=ordered, linger_s=linger_s)

    def inlet(self, window: Window, linger_s: float) -> Inlet:
        """Return an inlet, for items put in one by one, that wait at most `linger_s` for others to share a batch.

        Enter it to begin. Raises what has ended the pipeline.
        """
        self._raise_if_closed()
        inlet = Inlet(self, window, linger_s)
        if self._precedent is not None:  # callers may not wait for a slow start, as a source does
            inlet.gate.learn(self._precedent)
        return inlet

    def is_worker(self) -> bool:
        """Tell whether the calling thread is one of the workers."""
        return threading.current_thread() in self._by_thread

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error
        if self._closing:
            raise Closed("The pipeline is closed: no more items can enter it.")

    def close(self, timeout_s: float = STOP_S) -> list[str]:
        """Stop: workers end behind the item in hand, the rest is dropped. Return the names of threads left behind."""
        deadline = time.monotonic() + timeout_s
        with self.lock:
            self._closing = True
            flows = list(self._flows)
            for post in self.posts:
                post.ready.notify_all()
        for flow in flows:
            flow.close(min(SOURCE_STOP_S, max(0.0, deadline - time.monotonic())))
        return [worker.thread.name for worker in self.workers if not self._joined(worker, deadline)]

    def _joined(self, worker: Worker, deadline: float) -> bool:
        """Wait for a worker to end. It is cut short again and again: it may just have begun another slice."""
        thread = worker.thread
        if thread.ident is None or thread is threading.current_thread():
            return True
        while thread.is_alive() and (remaining_s := deadline - time.monotonic()) > 0:
            worker.cut()
            thread.join(min(CUT_S, remaining_s))
        return not thread.is_alive()

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

    @property
    def watch_period_s(self) -> float:
        """How often a consumer should call `watch`, at least."""
        return self._watch.period_s

    def watch(self) -> None:
        """Look, now and then, whether the workers live and move; called by consumers. Fails the flows if not."""
        now = time.monotonic()
        if now < self._look_at:
            return
        with self.lock:
            self._look_at = now + self._watch.period_s
            problem = None if self._closing else self._watch.look(self.workers)
        if problem is not None:
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

    def wake_first(self) -> None:
        """Let an idle worker of the first stage look at its queue again."""
        self.posts[0].ready.notify()

    def enter(self, parcel: Parcel) -> None:
        """Put a parcel before the first stage."""
        self._push(0, parcel, -1)

    def _pass_on(self, s: int, parcel: Parcel) -> None:
        """Put a parcel that stage `s` has done before the stages behind it, or hand it back to its flow."""
        targets = self._routes[s]
        if not targets:
            parcel.flow.arrive(parcel)
        for target in targets:
            self._push(target, parcel if len(targets) == 1 else parcel.part(0, len(parcel)), s)

    def _push(self, s: int, parcel: Parcel, origin: int) -> None:
        post = self.posts[s]
        if post.branches > 1 or (post.block and len(parcel) != parcel.origin[1]):
            gathered = self._gather(post, parcel, origin)
            if gathered is None:
                return
            parcel = gathered
        post.queue.append(parcel)
        if post.idle:
            post.ready.notify()

    def attach(self, flow: Flow | Inlet) -> None:
        """Begin to serve a flow. Raises what has ended the pipeline."""
        with self.lock:
            self._raise_if_closed()
            self._flows.append(flow)

    def detach(self, flow: Flow | Inlet) -> None:
        """Forget a closed flow; idempotent. What of it still waits is dropped when its turn comes. Lock held."""
        if flow in self._flows:
            self._flows.remove(flow)
            self._precedent = flow.gate
        for post in self.posts:
            post.pieces = {key: pieces for key, pieces in post.pieces.items() if key[0] is not flow}
            post.ready.notify()
        for worker in self.workers:
            if (lease := worker.lease) is not None and lease.part.flow is flow:
                lease.values.clear()

    # ---- the workers

    def _run(self) -> None:
        """Body of a worker thread."""
        worker = HERE.worker = self._by_thread[threading.current_thread()]
        post = self.posts[worker.stage]
        try:
            with ExitStack() as stack:
                bound = [(step, stack.enter_context(step.bind())) for step in post.stage.steps]
                while (parcel := self._exchange(worker, post)) is not None:
                    worker.done = work(worker, bound, parcel, post.block)
                    del parcel  # a worker that waits holds no items
        except BaseException as error:  # noqa: BLE001 - nothing may end a worker in silence
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End all flows, now and later, with `error`."""
        with self.lock:
            error = self._error = self._error or error
            self._closing = True
            flows = list(self._flows)
            for flow in flows:
                flow.fail(error)
                self._told = True
            for post in self.posts:
                post.ready.notify_all()
            for worker in self.workers:
                worker.cut()
        for flow in flows:
            if flow.tickets is not None:
                flow.tickets.drop(error)

    def _exchange(self, worker: Worker, post: Post) -> Parcel | None:
        """Hand over what is done and take the next parcel; None when the pipeline closes. The one place to wait."""
        with self.lock:
            worker.lease = None
            self._hand_over(worker, post)
            other = post.queue and post.idle and not self._closing  # who could take what waits
            if other and worker.turns >= TURNS:
                worker.turns = 0
                post.ready.notify()
                self._wait(post, RECHECK_S)
            while not self._closing:
                taken = self._next(post)
                if isinstance(taken, Parcel):
                    worker.first_slice = first_slice(post.cost_s)
                    worker.turns += 1
                    return taken
                self._wait(post, taken)
        return None

    def _wait(self, post: Post, timeout_s: float) -> None:
        post.idle += 1
        post.ready.wait(timeout_s)
        post.idle -= 1

    def _next(self, post: Post) -> Parcel | float:
        """Take the first parcel that need not wait for more items; else return for how long to wait."""
        queue, wait_s = post.queue, RECHECK_S
        while queue and queue[0].flow.closed:
            queue.popleft()
        for i, parcel in enumerate(queue):
            remaining_s = self._lingers_s(parcel)
            if remaining_s <= 0.0:
                del queue[i]
                return self._share(post, parcel)
            wait_s = min(wait_s, remaining_s)
        return wait_s

    def _lingers_s(self, parcel: Parcel) -> float:
        """Return how long `parcel` may still wait for more items to join it."""
        if parcel.open_until is None or len(parcel) >= self.block > 1:
            return 0.0
        return parcel.open_until - time.monotonic()

    def _share(self, post: Post, parcel: Parcel) -> Parcel:
        """Return as much of `parcel` as one worker should take, and leave the rest to the others."""
        if parcel.open_until is not None:
            parcel.flow.gate.seal()
        workers = post.stage.workers
        # The fair share matters only where few parcels wait, and a long queue costs too much to be counted each time.
        length = len(parcel)
        waiting = sum(map(len, islice(post.queue, 2 * workers))) if post.queue else 0
        n = share(post.cost_s, length, length + waiting, workers)
        if n < length and post.block:
            n = whole_blocks(parcel.positions, post.block, n)
        if n < length:
            parcel, rest = parcel.split(n)
            post.queue.appendleft(rest)
        if post.queue and post.idle:
            post.ready.notify()
        return parcel

    def _hand_over(self, worker: Worker, post: Post) -> None:
        """Account for what the worker has done, and send it on unless its flow is gone."""
        if worker.done is None:
            return
        (parcel, rest, clocks), worker.done = worker.done, None
        worker.items += len(parcel)
        for total, clock in zip(post.clocks, clocks, strict=True):
            total.busy_s += clock.busy_s
            total.items += clock.items
            total.failed += clock.failed
        if parcel.flow.closed:
            return
        if not post.cost_s or any(clock.items for clock in clocks):  # a parcel of failures alone says nothing
            post.cost_s = smooth(post.cost_s, max(1e-9, sum(clock.busy_s for clock in clocks) / len(parcel)))
        if rest is not None:
            post.queue.appendleft(rest)
            if post.idle:
                post.ready.notify()
        parcel.flow.gate.measured(parcel.nbytes, len(parcel))
        self._pass_on(worker.stage, parcel)

    def _gather(self, post: Post, piece: Parcel, origin: int) -> Parcel | None:
        """Keep `piece` until all pieces of its parcel are here from each branch, then return them as one."""
        key = (piece.flow, piece.origin[0])
        pieces = post.pieces.setdefault(key, [])
        pieces.append((origin, piece))
        if sum(len(there) for _, there in pieces) < post.branches * piece.origin[1]:
            return None
        del post.pieces[key]
        return join([there for s, there in pieces if s == origin])

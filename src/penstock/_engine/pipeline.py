"""Stages of worker threads between a flow's source and its consumer. All state moves here, under one lock.

A worker hands over what it has finished and takes the next parcel in one exchange; that is the only place it waits.
Workers live as long as the pipeline: none is made per item or per flow.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from penstock._engine.crew import Crew
from penstock._engine.flow import SOURCE_STOP_S, Flow, Take
from penstock._engine.gate import Gate
from penstock._engine.histogram import Histogram
from penstock._engine.inlet import Inlet
from penstock._engine.parcel import Parcel
from penstock._engine.patience import RECHECK_S
from penstock._engine.post import Post
from penstock._engine.relief import Relief
from penstock._engine.rescue import Rescue
from penstock._engine.sizing import TURNS, Window, first_slice
from penstock._engine.statistics import PipelineStatistics, StageStatistics, StepStatistics
from penstock._engine.step import Stage, Step, routes
from penstock._engine.watch import line_of
from penstock._engine.work import Clock, Worker, work
from penstock.errors import Closed

STOP_S = 1.5
"""How long a close waits for workers; with the source's share (SOURCE_STOP_S) a stop takes at most 2 s."""


class Pipeline:
    """Stages with their workers; a context manager that starts them and joins them.

    Args:
        stages: what is done, in order; a stage of several steps is fused: one worker does them in a row.
        item_timeout_s: longest time for one item (one batch) in one step; then the item fails as `Stalled`, and its
            worker is replaced, see `Relief`.
    """

    def __init__(self, stages: Sequence[Stage], *, item_timeout_s: float | None = None) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.lock = threading.RLock()  # the collector may close a forgotten flow in a thread that holds it
        self.posts = [Post(stage, threading.Condition(self.lock), stage.block) for stage in stages]
        self._routes = routes(stages)
        for post in self.posts:
            post.clocks = [Clock() for _ in post.stage.steps]
            post.calls = [Histogram() for _ in post.stage.steps]
        for s, post in enumerate(self.posts):
            post.branches = max(1, sum(s in targets for targets in self._routes))
        self.block = math.lcm(*(stage.block or 1 for stage in stages))
        self.flows: list[Flow | Inlet] = []
        self._precedent: Gate | None = None
        self._closing = False
        self._error: BaseException | None = None
        self._told = False
        self._relief = Relief(self, item_timeout_s)
        self._look_at = 0.0
        self._crew = Crew(self.posts, self._run, item_timeout_s)

    def __enter__(self) -> Self:
        """Start the workers."""
        try:
            self._crew.start()
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
        return self._crew.has(threading.current_thread())

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
            flows = list(self.flows)
            for post in self.posts:
                post.ready.notify_all()
        for flow in flows:
            flow.close(min(SOURCE_STOP_S, max(0.0, deadline - time.monotonic())))
        return self._crew.join(deadline) + [thread.name for thread in self._relief.given_up()]

    @property
    def workers(self) -> list[Worker]:
        """All workers there are now, those that are about to leave too."""
        with self.lock:
            return list(self._crew.workers)

    def delayed_s(self) -> float:
        """Return for how long all workers, those that have left too, could have run and had no CPU."""
        with self.lock:
            return self._crew.delayed_s()

    @property
    def worker_count(self) -> int:
        """How many workers there are to be."""
        return self._crew.wanted

    def statistics(self) -> PipelineStatistics:
        """Return a snapshot of all stages and flows."""
        with self.lock:
            stages = tuple(self._stage_statistics(s, post) for s, post in enumerate(self.posts))
            flows = list(self.flows)
            running = not self._closing
        notes = self._relief.notes.counts()
        for step in (step for post in self.posts for step in post.stage.steps):
            notes |= step.notes.counts()
        return PipelineStatistics(stages, tuple(flow.statistics() for flow in flows), running, notes)

    def _stage_statistics(self, s: int, post: Post) -> StageStatistics:
        counts = tuple(self._crew.items_of(s))
        steps = tuple(
            StepStatistics(step.name, clock.busy_s, clock.items, clock.failed, clock.cpu_s)
            for step, clock in zip(post.stage.steps, post.clocks, strict=True)
        )
        return StageStatistics(post.stage.name, post.stage.workers, post.queued(), counts, steps, post.staffed_s())

    @property
    def watch_period_s(self) -> float:
        """How often a consumer should call `watch`, at least."""
        return self._relief.watch.period_s

    def watch(self) -> None:
        """Look, now and then, whether the workers live and move; called by consumers. Helps, or fails the flows."""
        now = time.monotonic()
        if now < self._look_at:
            return
        with self.lock:
            self._look_at = now + self._relief.watch.period_s
            problem = None if self._closing else self._relief.look()
        self._relief.say()
        if problem is not None:
            self._fail(problem)

    def usual_s(self) -> float:
        """Return what 99 % of the calls of the slowest step take at most, 0.0 before any was measured."""
        with self.lock:
            return max(calls.quantile(0.99) or 0.0 for post in self.posts for calls in post.calls)

    def at_work(self) -> list[str]:
        """Return what each worker is at, and for how long, as a line."""
        with self.lock:
            return [line_of(held) for held in self._relief.watch.look(self.workers)]

    # ---- for the relief, lock held

    def replace(self, worker: Worker, saved: Rescue) -> None:
        """Put another worker in the place of one that was given up, and what was saved back before its stage.

        Raises RuntimeError where no more threads may be had.
        """
        post = self.posts[worker.stage]
        for flow in self.flows:
            flow.account()
        post.count(worker.clocks)
        if saved.done is not None and len(saved.done):
            worker.items += len(saved.done)
            self._pass_on(worker.stage, saved.done)
        post.queue.extendleft(reversed(saved.again))
        if post.idle:
            post.ready.notify(len(saved.again))
        self._crew.replace(worker)

    # ---- while it runs

    def resize(self, stage: int, workers: int, steps: tuple[Step, ...] | None = None) -> None:
        """Have `workers` do a stage from now on; with `steps`, others than now: the same functions, done elsewhere.

        Nothing waits for it: others are started, and where there are more than wanted, or `steps` are new, those there
        were leave behind the parcel in hand, each once another one is ready. Where that one cannot be, they stay, see
        `refusal`.
        """
        with self.lock:
            post = self.posts[stage]
            post.change(replace(post.stage, workers=workers, steps=steps or post.stage.steps))
            post.refusal = None
            self._crew.settle(stage)
            for flow in self.flows:
                flow.gate.hold(items=2 * self.worker_count * self.block)

    def settled(self, stage: int) -> bool:
        """Tell whether the workers of a stage are those that it is to have."""
        with self.lock:
            return self._crew.settled(stage)

    def refusal(self, stage: int) -> Exception | None:
        """Return why a worker could not begin that `resize` called for; asked once."""
        with self.lock:
            found, self.posts[stage].refusal = self.posts[stage].refusal, None
            return found

    def widen(self, times: float) -> None:
        """Let `times` as many items be in flight as were planned, and of bytes twice as many at most."""
        with self.lock:
            for flow in self.flows:
                flow.gate.hold(times=times)

    # ---- for flows, lock held

    def cost_s(self) -> float:
        """Return the measured seconds an item of the most expensive step, 0.0 before there are any."""
        costs = [post.step_s for post in self.posts]
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
            gathered = post.gather(parcel, origin)
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
            self.flows.append(flow)

    def detach(self, flow: Flow | Inlet) -> None:
        """Forget a closed flow; idempotent. What of it still waits is dropped when its turn comes. Lock held."""
        if flow in self.flows:
            self.flows.remove(flow)
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
        worker = self._crew.here()
        post = self.posts[worker.stage]
        try:
            with ExitStack() as stack:
                bound = [(step, stack.enter_context(step.bind())) for step in worker.steps]
                self._enter(worker)
                while (parcel := self._exchange(worker, post)) is not None:
                    worker.done = work(worker, bound, parcel, post.block)
                    del parcel  # a worker that waits holds no items
        except BaseException as error:  # noqa: BLE001 - nothing may end a worker in silence
            if not worker.given_up and not self._dispensed(worker, error):
                self._fail(error)
        finally:
            if worker.given_up:
                self._crew.forget(worker)

    def _enter(self, worker: Worker) -> None:
        with self.lock:
            worker.entered = True
            if worker.extra:
                self._crew.settle(worker.stage)

    def _dispensed(self, worker: Worker, error: BaseException) -> bool:
        """Tell whether the stage can do without a worker that could not begin: one that `resize` called for."""
        with self.lock:
            if not isinstance(error, Exception) or not self._crew.can_spare(worker):
                return False
            self.posts[worker.stage].refusal = error
            self._crew.leave(worker)
            return True

    def _fail(self, error: BaseException) -> None:
        """End all flows, now and later, with `error`."""
        with self.lock:
            error = self._error = self._error or error
            self._closing = True
            flows = list(self.flows)
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
            worker.lease = worker.parcel = None
            if worker.given_up:
                return None
            for flow in self.flows:
                flow.account()
            self._hand_over(worker, post)
            worker.through = []
            self._give_way(worker, post)
            waited = False
            while not self._closing and not worker.leaving:
                taken = post.take(self.block) if waited or len(post.queue) > post.promised else RECHECK_S
                if isinstance(taken, Parcel):
                    worker.first_slice = first_slice(post.cost_s)
                    worker.turns += 1
                    worker.parcel = taken
                    return taken
                post.rest(taken, self.flows)
                waited = True
            if worker.leaving:
                self._crew.leave(worker)
        return None

    def _give_way(self, worker: Worker, post: Post) -> None:
        """After TURNS parcels, put the next one by for the worker that has waited longest."""
        if worker.turns >= TURNS and post.idle > post.promised and post.queue:
            worker.turns = 0
            post.promised += 1
            post.ready.notify()

    def _hand_over(self, worker: Worker, post: Post) -> None:
        """Account for what the worker has done, and send it on unless its flow is gone."""
        if worker.done is None:
            return
        (parcel, rest, clocks), worker.done = worker.done, None
        worker.items += len(parcel)
        post.count(clocks)
        if parcel.flow.closed:
            return
        post.measure(len(parcel), clocks)
        if rest is not None:
            post.queue.appendleft(rest)
            if post.idle:
                post.ready.notify()
        parcel.flow.gate.measured(parcel.nbytes, len(parcel))
        self._pass_on(worker.stage, parcel)

"""The worker threads of a pipeline: started, replaced, called for and let go while it runs, joined at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from penstock._devices import delayed_s
from penstock._engine.post import Post
from penstock._engine.work import HERE, Worker

CUT_S = 0.05
"""How often a close cuts short what a worker may have begun in the meantime."""


class Crew:
    """The workers of all stages. Guarded by the pipeline's lock, but for `here`, `start` and `join`.

    A stage says how many workers it wants, and with which steps (`Post.stage`); `settle` brings that about. Those whose
    steps are others than that are *stale*: they stay until others have entered the new steps in their place.
    """

    def __init__(self, posts: Sequence[Post], run: Callable[[], None], item_timeout_s: float | None) -> None:
        """Make the workers, whose threads will `run`; none is started yet."""
        self._posts = posts
        self._run = run
        self._item_timeout_s = item_timeout_s
        self._by_thread: dict[threading.Thread, Worker] = {}
        self._gone: list[Worker] = []
        self._gone_items = [0] * len(posts)
        self._gone_delayed_s = 0.0
        self._made = [0] * len(posts)
        self.wanted = self._want()
        self.workers = [self._worker(s) for s, post in enumerate(posts) for _ in range(post.stage.workers)]

    def _want(self) -> int:
        return sum(post.stage.workers for post in self._posts)

    def _worker(self, stage: int, name: str = "") -> Worker:
        """Return a worker, not yet started. A daemon: one that is stuck in the user's code must not hold the exit."""
        post, index = self._posts[stage], self._made[stage]
        name = name or f"penstock-{post.stage.name}-{index}"
        worker = Worker(stage, index, threading.Thread(target=self._run, name=name, daemon=True), post.stage.steps)
        self._made[stage] += 1
        worker.last = stage == len(self._posts) - 1
        worker.item_timeout_s = self._item_timeout_s
        self._by_thread[worker.thread] = worker
        return worker

    def start(self) -> None:
        """Start all threads. Raises RuntimeError where no more may be had."""
        for worker in self.workers:
            worker.thread.start()

    def here(self) -> Worker:
        """Return the worker that the calling thread is."""
        worker = HERE.worker = self._by_thread[threading.current_thread()]
        return worker

    def has(self, thread: threading.Thread) -> bool:
        """Tell whether `thread` is one of the workers'."""
        return thread in self._by_thread

    def items_of(self, stage: int) -> Iterator[int]:
        """Yield how many items each worker of a stage has done; one number for all that have left."""
        yield from (worker.items for worker in self.workers if worker.stage == stage)
        if self._gone_items[stage]:
            yield self._gone_items[stage]

    def delayed_s(self) -> float:
        """Return for how long all workers, those that have left too, could have run and had no CPU."""
        return self._gone_delayed_s + sum(delayed_s(worker.thread.native_id) for worker in self.workers)

    def can_spare(self, worker: Worker) -> bool:
        """Tell whether a worker that could not begin was called for while others are at work, and is not needed."""
        others = (one for one in self.workers if one.stage == worker.stage and one is not worker)
        return worker.extra and not worker.entered and any(one.entered and not one.leaving for one in others)

    def replace(self, worker: Worker) -> None:
        """Start another worker in the place of one that was given up. Raises RuntimeError where there can be none."""
        other = self._worker(worker.stage, worker.thread.name + "+")
        other.items, other.extra = worker.items, worker.extra or worker.steps is not other.steps
        self.workers[self.workers.index(worker)] = other
        other.thread.start()
        self.settle(worker.stage)

    def forget(self, worker: Worker) -> None:
        """Forget a thread that was given up and has ended after all."""
        self._by_thread.pop(worker.thread, None)

    # ---- while it runs

    def settle(self, stage: int) -> None:
        """Call for the workers that a stage wants and has not, and let those leave that it has no use for any more."""
        post, self.wanted = self._posts[stage], self._want()
        fresh = self._staying(stage, fresh=True)
        for _ in range(post.stage.workers - len(fresh)):
            if post.refusal is not None or not self._call(stage):
                break
        entered = sum(worker.entered for worker in fresh)
        stale = self._staying(stage, fresh=False)
        for worker in [*stale[max(0, post.stage.workers - entered) :], *fresh[post.stage.workers :]]:
            worker.leaving = True
        post.ready.notify_all()

    def settled(self, stage: int) -> bool:
        """Tell whether the workers of a stage are those that it wants, and have entered its steps."""
        fresh = self._staying(stage, fresh=True)
        there = [worker for worker in self.workers if worker.stage == stage]
        return len(there) == len(fresh) == self._posts[stage].stage.workers and all(one.entered for one in fresh)

    def _staying(self, stage: int, *, fresh: bool) -> list[Worker]:
        steps = self._posts[stage].stage.steps
        there = (worker for worker in self.workers if worker.stage == stage and not worker.leaving)
        return [worker for worker in there if (worker.steps is steps) is fresh]

    def _call(self, stage: int) -> bool:
        """Start another worker; tell whether a thread could be had."""
        worker = self._worker(stage)
        worker.extra = True
        try:
            worker.thread.start()
        except RuntimeError as error:
            self._posts[stage].refusal = error
            self.forget(worker)
            return False
        self.workers.append(worker)
        return True

    def leave(self, worker: Worker) -> None:
        """Let a worker go that holds nothing any more; its thread, which calls this, ends by itself."""
        self.workers.remove(worker)
        self._gone_items[worker.stage] += worker.items
        self._gone_delayed_s += delayed_s()
        self._gone = [*(one for one in self._gone if one.thread.is_alive()), worker]
        self.forget(worker)
        self._posts[worker.stage].ready.notify_all()  # it may have been told of a parcel that waits

    # ---- the end

    def join(self, deadline: float) -> list[str]:
        """Wait for all threads until `deadline` (time.monotonic); return the names of those that go on."""
        return [worker.thread.name for worker in [*self.workers, *self._gone] if not _joined(worker, deadline)]


def _joined(worker: Worker, deadline: float) -> bool:
    """Wait for a worker to end. It is cut short again and again: it may just have begun another slice."""
    thread = worker.thread
    if thread.ident is None or thread is threading.current_thread():
        return True
    while thread.is_alive() and (remaining_s := deadline - time.monotonic()) > 0:
        worker.cut()
        thread.join(min(CUT_S, remaining_s))
    return not thread.is_alive()

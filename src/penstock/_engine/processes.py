"""Steps that are done by processes: one for each worker thread, which asks it, waits, and replaces it when it dies.

The engine stays threads: what is stuck can be killed here, what dies costs the item it had in hand, and nothing that
was answered is done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from penstock._contracts import Failure
from penstock._devices import cpu_budget, memory_budget
from penstock._engine import messages
from penstock._engine.baggage import LEAST_BYTES, Baggage
from penstock._engine.child import Duty
from penstock._engine.leases import MOST_ITEMS
from penstock._engine.messages import Failed
from penstock._engine.process import Ended, Patience, Process, Reply
from penstock._engine.program import Program
from penstock._engine.rounds import Rounds
from penstock._engine.slots import MIB, Array, Purse, purse
from penstock._engine.spawning import environment_of
from penstock._engine.step import Step
from penstock._engine.wanted import wanted
from penstock._engine.work import HERE
from penstock.errors import Stalled, UsageError, WorkerDied

ATTEMPTS = 3
"""Processes that may die of one item before it is left out: two deaths may be chance, as when memory is short."""
STARTS, STARTS_KILLED = 3, 10
"""Processes that may die in a row before they are ready, by themselves or killed from outside; then the run ends."""
PROCESS_BYTES = 32 * MIB
"""What an interpreter with numpy takes at the least, with its first slots."""
Make = Callable[[], AbstractContextManager[Callable[..., Any]]]


@dataclass(frozen=True, slots=True)
class Order:
    """A duty ready to be handed to processes: pickled, with what they find in os.environ."""

    name: str
    data: bytes | Baggage
    environment: Mapping[str, str]
    needs_main: bool = False
    """Whether the program's main module may have to be read there."""

    @classmethod
    def of(cls, duty: Duty, shown: Any, workers: int) -> Order:
        """Check that `workers` processes can have `duty`; `shown` is what the user gave.

        Raises UsageError where it cannot be sent to them, or where so many do not fit in memory.
        """
        need, there = workers * PROCESS_BYTES, memory_budget()
        if need > there:
            raise UsageError(
                f"stage {duty.name!r}: {workers:,} processes take {need:,} bytes at the least, and this one may use "
                f"{there:,}. Use fewer."
            )
        data, buffers = _pickled(duty, shown)
        apart = bool(buffers) or len(data) >= LEAST_BYTES
        given = Baggage(duty.name, data, buffers, purse()) if apart else data
        return cls(duty.name, given, environment_of(cpu_budget().inside(workers)), b"__main__" in data)


def _pickled(duty: Duty, shown: Any) -> tuple[bytes, list[Array]]:
    try:
        data, buffers = messages.dumps_apart(duty)
    except Exception as error:
        raise UsageError(
            f"stage {duty.name!r} is to be done by processes, and {shown!r} cannot be sent to one: {error}. Give "
            "a function at the top of a module (no lambda, none inside another function), or kind='thread'."
        ) from error
    if b"__main__" in data and not Program.this().findable:
        raise UsageError(
            f"stage {duty.name!r} is to be done by processes, and {shown!r} lies in a program without a file (a "
            "notebook, python -c), where they cannot find it. Put it into a module, or use kind='thread'."
        )
    return data, buffers


def stage_step(name: str, fn: Callable[..., Any], *, workers: int, takes_item: bool = False, main: bool = True) -> Step:
    """Return the step that has `fn` called in processes, item by item; `workers`: how many there will be.

    Raises UsageError, see `Order.of`; also where `fn` lies in the main program, unless they may run that again: `main`.
    """
    order = Order.of(Duty(name, plain(fn), "pairs" if takes_item else "each"), fn, workers)
    if order.needs_main and not main:
        raise UsageError(
            f"{name} lies in the main program, which each process would have to run again: put it into a module of its "
            "own, or give kind='process' (and keep what begins the run below `if __name__ == '__main__':`)."
        )
    return Step(name, partial(bound, order, Apart.each), takes_item=takes_item, by_parcel=True)


def plain(fn: Callable[..., Any]) -> Make:
    """Return what makes a function that needs nothing made."""
    return partial(_as_it_is, fn)


def _as_it_is(fn: Callable[..., Any]) -> AbstractContextManager[Callable[..., Any]]:
    return nullcontext(fn)


def model_bind(
    name: str, make: Make, shown: Any, workers: int
) -> Callable[[], AbstractContextManager[Callable[..., Any]]]:
    """Return the `bind` of a step that has batches done by the function that `make()` gives in each of the processes.

    Raises UsageError, see `Order.of`.
    """
    return partial(bound, Order.of(Duty(name, make, "whole"), shown, workers), Apart.whole)


@contextmanager
def bound(order: Order, ask: Callable[[Apart, Sequence[Any]], list[Any]]) -> Iterator[Callable[..., Any]]:
    """Give a function of values that has `ask(apart, values)` done with a process that is there meanwhile."""
    with Apart(order, purse()) as apart:
        yield partial(_guarded, apart, ask)


def _guarded(apart: Apart, ask: Callable[[Apart, Sequence[Any]], list[Any]], values: Sequence[Any]) -> list[Any]:
    """Call `ask`, which keeps the deadline of each item itself: the watch need not look meanwhile."""
    worker = HERE.worker
    if worker is None:
        return ask(apart, values)
    worker.elsewhere, begun = apart.told, time.perf_counter()
    try:
        return ask(apart, values)
    finally:
        worker.elsewhere = None
        worker.elsewhere_s += time.perf_counter() - begun


class Apart:
    """The process of one worker thread, replaced when it dies; a context manager."""

    def __init__(self, order: Order, purse: Purse) -> None:
        """Prepare; the process is started when the context is entered."""
        self._order = order
        self._purse = purse
        self._process: Process | None = None
        self.deaths = 0

    def __enter__(self) -> Self:
        """Start the process and wait until it is ready. Raises UsageError where the code cannot be loaded there."""
        self._running()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __repr__(self) -> str:
        """Show the process and how many died before it."""
        return f"<Apart {self._order.name}: {self._process!r}, {self.deaths} died>"

    def told(self) -> str:
        """Return what its process is at, in a line. Any thread may call it."""
        process = self._process
        return f"no process for {self._order.name!r} just now" if process is None else process.told()

    def each(self, values: Sequence[Any], attempts: int = ATTEMPTS) -> list[Any]:
        """Return what comes of each of `values`, in order: a value or a `Failure`. Cut short, see `Worker.cut`.

        `attempts`: processes that may die of one of them before it is left out.
        """
        results: list[Any] = [None] * len(values)
        rounds = Rounds(len(values), MOST_ITEMS)
        while wanted() and (asked := rounds.next()) is not None:
            reply = self._ask([values[index] for index in asked])
            for index, answer in zip(asked, reply.answers, strict=False):
                results[index] = self._failure(answer) if type(answer) is Failed else answer
            if reply.ended is not None and reply.ended.how == "stopped":
                break
            if reply.ended is not None:
                most = attempts if reply.ended.how == "died" else 1
                given_up = rounds.broken(asked, len(reply.answers), reply.ended.held, most)
                if given_up is not None:
                    results[given_up] = self._given_up(reply.ended, rounds.attempts[given_up])
        return results

    def whole(self, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a batch, or raise what the function raised.

        Raises WorkerDied where the process dies of it (of a batch of one: again and again), Stalled where it was
        killed.
        """
        why = ""
        for _ in range(ATTEMPTS):
            if not wanted():
                return list(values)  # looked at by nobody
            reply = self._ask([list(values)])
            if reply.ended is None and reply.answers:
                answer = reply.answers[0]
                if type(answer) is Failed:
                    raise messages.raised(answer)
                return list(answer)
            if reply.ended is None or reply.ended.how == "stopped":
                return list(values)
            if reply.ended.failed is not None:
                raise messages.raised(reply.ended.failed)
            if reply.ended.how == "stalled":
                raise Stalled(reply.ended.why)
            why = reply.ended.why
            if len(values) > 1:
                break
        raise WorkerDied(f"the process of {self._order.name!r} died with {len(values)} items in hand: {why}.")

    def _ask(self, values: list[Any]) -> Reply:
        reply = self._running().ask(values, _patience())
        if reply.ended is not None and reply.ended.how != "fault":
            if reply.ended.how == "died":
                _note(f"deaths of processes of stage {self._order.name!r}", reply.ended.why)
            self._discard()
        return reply

    def _discard(self) -> None:
        """Let go of the process, which has ended."""
        process, self._process = self._process, None
        self.deaths += 1
        if process is not None:
            process.close()

    def _running(self) -> Process:
        """Return the process; a new one where there is none. Raises WorkerDied where they die before they are ready."""
        if self._process is not None:
            return self._process
        died = killed = 0
        while True:
            self._process = Process(self._order.name, self._order.data, self._order.environment, self._purse)
            try:
                ended = self._process.await_ready(_patience())
            except BaseException:
                self._discard()
                raise
            if ended is None or ended.how == "stopped":
                return self._process
            self._discard()
            died, killed = died + 1, killed + ended.outside
            if died - killed >= STARTS or killed >= STARTS_KILLED:
                error = WorkerDied(
                    f"stage {self._order.name!r}: {died} processes died before they were ready: {ended.why}."
                )
                error.stops_run = True
                raise error

    def _given_up(self, ended: Ended, attempts: int) -> Failure:
        """Return the failure of an item that cannot be done."""
        if ended.failed is not None:
            return self._failure(ended.failed)
        if ended.how == "stalled":
            return Failure(self._order.name, Stalled.__name__, ended.why)
        died = f"the process that had it in hand died {attempts} times, the last time so: {ended.why}."
        return Failure(self._order.name, WorkerDied.__name__, f"{died} Look at the item alone.", attempts=attempts)

    def _failure(self, failed: Failed) -> Failure:
        """Return what a process said about an item as its failure; raises it where it is to end the run."""
        if failed.error is not None:
            raise messages.raised(failed)
        return Failure(self._order.name, failed.type, failed.message)


def _note(what: str, why: str) -> None:
    """Count `what` for the report, with the step that this thread is at."""
    worker = HERE.worker
    if worker is not None and worker.lease is not None:
        worker.lease.step.notes.add(what, why=why)


def _ending() -> bool:
    """Tell whether the pipeline of this thread ends."""
    return HERE.worker is not None and HERE.worker.ending


def _patience() -> Patience:
    worker = HERE.worker
    return Patience(None if worker is None else worker.item_timeout_s, wanted, _ending)

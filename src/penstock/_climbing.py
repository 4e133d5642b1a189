"""Moves the numbers of a running pipeline as its climb says, and watches what comes of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock._climb import Bounds, Climb, Numbers, told
from penstock._devices import cpu_budget, memory_budget, memory_use
from penstock._engine.pipeline import Pipeline
from penstock._engine.step import Step
from penstock._observer import Observer
from penstock._plan import Part
from penstock._telemetry.seen import Seen
from penstock.errors import PenstockError

STRETCH_S, STRETCH_ITEMS = 1.0, 16
"""A stretch of a run that says something: its time, and what comes out in it, at least."""
SETTLE_S = 0.25
"""After a move, before a stretch begins; what was in flight has come out by then, too."""
MOST_TIMES, MOST_WORKERS = 8, 64
"""Workers of a stage at most: so many times the CPUs, but no more than the other number, or than there are CPUs."""
MOST_WINDOW = 8
"""Times the planned one."""
_LOG = logging.getLogger("penstock")


def bounds_of(crews: Sequence[Sequence[Part]], *, threads: bool, window: bool) -> Bounds:
    """Return how far the numbers of a run may be moved: `crews` are its parts by stage.

    What the user has said stays as it is: `threads`, `window`: these are for the climb to move.
    """
    cpus = cpu_budget().threads
    movable = {
        s for s, parts in enumerate(crews) if not any(part.pinned or not (part.workers or threads) for part in parts)
    }
    most = max(cpus, min(MOST_TIMES * cpus, MOST_WORKERS))
    return Bounds(frozenset(movable), most, frozenset(_elsewhere(crews)), MOST_WINDOW if window else 1)


def _elsewhere(crews: Sequence[Sequence[Part]]) -> dict[tuple[int, int], Callable[[], Step]]:
    """Return what makes the steps, by stage and place in it, that may be done by processes."""
    parts = ((s, p, part.elsewhere) for s, crew in enumerate(crews) for p, part in enumerate(crew))
    return {(s, p): make for s, p, make in parts if make is not None}


class Climber:
    """The climb of one run, used by the run loop's thread, which calls `look` a few times a second."""

    def __init__(
        self, pipeline: Pipeline, crews: Sequence[Sequence[Part]], bounds: Bounds, observer: Observer, todo: int | None
    ) -> None:
        """Begin with the numbers that the pipeline has; `todo`: items of the run, None where nobody knows."""
        self._pipeline, self._observer, self._todo = pipeline, observer, todo
        self._elsewhere = _elsewhere(crews)
        self._threads = [post.stage.steps for post in pipeline.posts]
        self._climb = Climb(Numbers(tuple(post.stage.workers for post in pipeline.posts)), bounds)
        self._idle = not bounds.movable and not bounds.sendable and bounds.most_window == 1
        self._set = self._climb.numbers
        self._from: Seen | None = None
        self._flush = 0
        """Items that have to come out before a stretch begins."""
        self._due_s = SETTLE_S

    @property
    def steps(self) -> list[dict[str, object]]:
        """The steps that were tried, with their effect."""
        return self._climb.steps

    def look(self, done: int) -> list[str]:
        """See whether another stretch is over, `done` items after the beginning, and move what is to be moved.

        Returns what has come of steps that were tried, in lines.
        """
        t_s = self._observer.elapsed_s
        if self._idle or t_s < self._due_s or done < self._flush:
            return []
        before = len(self._climb.steps)
        self._step(done, t_s)
        said = [told(step) for step in self._climb.steps[before:]]
        for line in said:
            _LOG.info("%s", line)
        return said

    def _step(self, done: int, t_s: float) -> None:
        if (why := self._refusal()) is not None:
            self._move(self._climb.refused(why, t_s), done, t_s)
        elif not all(self._pipeline.settled(s) for s in range(len(self._threads))):
            self._due_s = t_s + SETTLE_S
        elif self._from is None:
            self._from, self._due_s = self._observer.seen(), t_s + STRETCH_S
        else:
            self._judge(self._observer.seen().since(self._from), done, t_s)

    def _judge(self, stretch: Seen, done: int, t_s: float) -> None:
        if stretch.items < STRETCH_ITEMS:
            self._due_s = t_s + STRETCH_S / 4
            return
        left_s = math.inf if self._todo is None else (self._todo - done) / stretch.rate
        numbers = self._climb.next(_undisturbed(stretch), t_s, left_s, (memory_use(0).resident, memory_budget()))
        self._move(numbers, done, t_s)

    def _move(self, numbers: Numbers, done: int, t_s: float) -> None:
        """Set `numbers`, and have the next stretch begin once they are what the pipeline works with."""
        self._from, self._due_s = None, t_s
        if numbers == self._set:
            return
        before, self._set = self._set, numbers
        self._flush = done + sum(flow.in_flight for flow in self._pipeline.statistics().flows)
        self._due_s = t_s + SETTLE_S
        try:
            for s in range(len(self._threads)):
                steps = self._steps(s, numbers)
                if steps is not self._pipeline.posts[s].stage.steps or numbers.workers[s] != before.workers[s]:
                    self._pipeline.resize(s, numbers.workers[s], steps)
        except PenstockError as error:  # a step that cannot be done by processes
            self._move(self._climb.refused(str(error), t_s), done, t_s)
        if numbers.window != before.window:
            self._pipeline.widen(numbers.window)

    def _steps(self, s: int, numbers: Numbers) -> tuple[Step, ...]:
        """Return the steps of a stage, those done by processes in the place of what threads did. Raises UsageError."""
        there, threads = self._pipeline.posts[s].stage.steps, self._threads[s]
        apart = [p for p in range(len(threads)) if (s, p) in numbers.apart]
        if not apart:
            return threads
        if all((there[p] is not threads[p]) is (p in apart) for p in range(len(threads))):
            return there
        return tuple(self._sent(s, p) if p in apart else step for p, step in enumerate(threads))

    def _sent(self, s: int, p: int) -> Step:
        return replace(self._elsewhere[s, p](), notes=self._threads[s][p].notes)

    def _refusal(self) -> str | None:
        found = [why for s in range(len(self._threads)) if (why := self._pipeline.refusal(s)) is not None]
        return str(found[0]) if found else None


def _undisturbed(stretch: Seen) -> Seen:
    """Return a stretch without the time in which other programs had the CPUs that its workers would have used."""
    workers = sum(stage.workers for stage in stretch.stages)
    return replace(stretch, seconds=max(stretch.seconds - stretch.delayed_s / workers, stretch.seconds / 10))

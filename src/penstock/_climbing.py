"""Moves the numbers of a running pipeline as its climb says, and watches what comes of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from penstock._climb import Bounds, Climb, Numbers, told
from penstock._devices import cpu_budget, family_bytes, memory_available
from penstock._engine.pipeline import Pipeline
from penstock._engine.step import Step
from penstock._observer import Observer
from penstock._plan import Part, spare_of
from penstock._telemetry.seen import FEW, Seen
from penstock.errors import PenstockError

STRETCH_S, FIRST_S = 1.0, 0.5
"""A stretch of a run that says something takes so long at least, and until FEW items have come out; the first one is
shorter, as what is wrong from the beginning on costs most, and a short run most of all."""
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
    spare = {s: spare_of(parts) for s, parts in enumerate(crews)}
    most = max(cpus + max(spare.values(), default=0), min(MOST_TIMES * cpus, MOST_WORKERS))
    return Bounds(frozenset(movable), most, frozenset(_elsewhere(crews)), MOST_WINDOW if window else 1, spare)


def _elsewhere(crews: Sequence[Sequence[Part]]) -> dict[tuple[int, int], Callable[[int], Step]]:
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
        self._in_force = self._climb.numbers
        self._from: Seen | None = None
        self._flush = 0
        """Items that have to come out before a stretch begins."""
        self._due_s, self._stretch_s = SETTLE_S, FIRST_S

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

    def close(self) -> list[dict[str, Any]]:
        """End with the run; return the steps that were tried, with their effect."""
        self._climb.close(self._observer.elapsed_s)
        return self._climb.steps

    def _step(self, done: int, t_s: float) -> None:
        stages = range(len(self._threads))
        if refusals := [why for s in stages if (why := self._pipeline.refusal(s)) is not None]:
            self._move(self._climb.refused(str(refusals[0]), t_s), t_s, anew=True)
        elif not all(self._pipeline.settled(s) for s in stages):
            self._due_s = t_s + SETTLE_S
        elif self._from is None:
            self._from, self._due_s = self._observer.seen(), t_s + self._stretch_s
        else:
            self._judge(self._observer.seen().since(self._from), done, t_s)

    def _judge(self, stretch: Seen, done: int, t_s: float) -> None:
        if stretch.items < FEW:  # of so few, the verdict says nothing
            self._due_s = t_s + STRETCH_S / 4
            return
        rate = stretch.items / stretch.undisturbed_s
        left_s = math.inf if self._todo is None else (self._todo - done) / rate
        memory = (family_bytes(), memory_available())
        self._from, self._due_s, self._stretch_s = None, t_s, STRETCH_S
        self._move(self._climb.next(stretch, rate, t_s, left_s, memory), t_s)

    def _move(self, numbers: Numbers, t_s: float, *, anew: bool = False) -> None:
        """Have the pipeline work with `numbers`, and the next stretch begin once it does.

        `anew`: also where it should work with them already, but a worker could not begin.
        """
        if numbers == self._in_force and not anew:
            return
        try:
            steps = [self._steps(s, numbers) for s in range(len(self._threads))]
        except PenstockError as error:  # a step that cannot be done by processes
            numbers = self._climb.refused(str(error), t_s)
            steps = [self._steps(s, numbers) for s in range(len(self._threads))]
        self._in_force, self._from, self._due_s = numbers, None, t_s + SETTLE_S
        self._flush = self._pipeline.statistics().flows[0].admitted
        for s, (there, wanted) in enumerate(zip(self._pipeline.posts, steps, strict=True)):
            if anew or there.stage.steps is not wanted or there.stage.workers != numbers.workers[s]:
                self._pipeline.resize(s, numbers.workers[s], wanted)
        self._pipeline.widen(numbers.window)

    def _steps(self, s: int, numbers: Numbers) -> tuple[Step, ...]:
        """Return the steps of a stage, those done by processes in the place of what threads did. Raises UsageError."""
        there, threads = self._pipeline.posts[s].stage.steps, self._threads[s]
        apart = {p for p in range(len(threads)) if (s, p) in numbers.apart}
        now = {p for p in range(len(threads)) if there[p] is not threads[p]}
        if apart == now:
            return there
        return tuple(self._sent(s, p, numbers) if p in apart else step for p, step in enumerate(threads))

    def _sent(self, s: int, p: int, numbers: Numbers) -> Step:
        return replace(self._elsewhere[s, p](numbers.workers[s]), notes=self._threads[s][p].notes)

"""Better numbers while a run goes on: what to try next, and whether it was worth it (pure).

Hill climbing with hysteresis: one number is moved at a time, in the direction that the verdict on the last stretch of
the run gives; a gain must be larger than what a look may be wrong by, and what was not worth it is left alone for a
while, twice as long each time. Nothing that is moved can change an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock._engine.statistics import StageStatistics
from penstock._telemetry.seen import Seen
from penstock._telemetry.verdict import BUSY, one_at_a_time, verdict

GAIN, LOSS = 0.05, 0.02
"""What a step up has to give at least, and what a step down may cost at most."""
SURE = 0.25
"""A gain from which one look is enough, the time that others had on the CPUs counted as lost; a smaller one counts only
where going back loses it again."""
IDLE = 1.5
"""Workers that have nothing to do, on average, from which fewer are tried, where there are more than CPUs."""
AGAIN_S = 20.0
"""Before a step that was not worth it is tried again, at first."""
EXPLORE_S = 10.0
"""Into a run, from which a step is tried that nothing speaks for but that it was never tried."""
WORTH_S = 3.0
"""What is left of a run at least for a step that something speaks for to be tried; ten times that for another."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is moved: workers by stage; (stage, step) whose work is done by processes; times the planned window."""

    workers: tuple[int, ...]
    apart: frozenset[tuple[int, int]] = frozenset()
    window: int = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far: stages whose workers may be moved, and up to how many; steps that may go to processes; the window.

    `spare`: by stage, workers beyond the CPUs that fill them: see `spare_of`; 0 where there is none.
    """

    movable: frozenset[int]
    most_workers: int
    sendable: frozenset[tuple[int, int]] = frozenset()
    most_window: int = 1
    spare: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """A step: to which numbers, in words, and whether it takes more (of threads, memory) or gives some back."""

    key: str
    words: str
    numbers: Numbers
    up: bool = True
    explores: bool = False


@dataclass(slots=True)
class _Trial:
    move: Move
    before_per_s: float
    memory: int
    after_per_s: float = 0.0
    """0.0: not known yet."""
    after_memory: int = 0


@dataclass(slots=True)
class Climb:
    """The climb of one run. `next` is told of each stretch and says which numbers hold for the one that follows."""

    numbers: Numbers
    bounds: Bounds
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Those that were tried, with their effect (JSON values)."""
    _trial: _Trial | None = None
    _not_before: dict[str, float] = field(default_factory=dict)
    _patience_s: dict[str, float] = field(default_factory=dict)

    def next(self, seen: Seen, rate: float, t_s: float, left_s: float, memory: tuple[int, int]) -> Numbers:
        """Return the numbers for the next stretch, where the last one was as `seen`, `t_s` after the beginning.

        rate: its items a second, without the time that other programs had. left_s: what is left of the run. memory:
        bytes that are in use, and that are there beyond that.
        """
        trial = self._trial
        if trial is None:
            return self._begin(seen, rate, t_s, left_s, memory[0])
        if trial.after_per_s:  # this was a second look at what there was before
            return self._end(trial, t_s, max(trial.before_per_s, rate), memory[1])
        trial.after_per_s, trial.after_memory = rate, memory[0]
        gain = rate / trial.before_per_s - 1
        sure = seen.rate / trial.before_per_s - 1 >= SURE
        if trial.move.up and gain >= self._needed(trial, memory[1]) and not sure:
            return self.numbers
        return self._end(trial, t_s, trial.before_per_s, memory[1])

    def refused(self, why: str, t_s: float) -> Numbers:
        """Return the numbers to go back to, where a step could not be taken; it is not tried again."""
        if self._trial is not None:
            move, self._trial = self._trial.move, None
            self._not_before[move.key] = math.inf
            self.steps.append({"t_s": round(t_s, 2), "step": move.words, "kept": False, "why": why})
        return self.numbers

    def close(self, t_s: float) -> None:
        """End with the run: a step that was being tried was neither good nor bad."""
        self.refused("the run ended first", t_s)

    def _begin(self, seen: Seen, rate: float, t_s: float, left_s: float, memory: int) -> Numbers:
        for move in moves(seen, self.numbers, self.bounds):
            worth_s, from_s = (10 * WORTH_S, EXPLORE_S) if move.explores else (WORTH_S, 0.0)
            if left_s >= worth_s and t_s >= max(from_s, self._not_before.get(move.key, 0.0)):
                self._trial = _Trial(move, rate, memory)
                return move.numbers
        return self.numbers

    def _needed(self, trial: _Trial, available: int) -> float:
        """Return the gain that a step up has to give: the more of the memory that is left it takes, the more."""
        return GAIN + max(0, trial.after_memory - trial.memory) / max(1, available)

    def _end(self, trial: _Trial, t_s: float, before_per_s: float, available: int) -> Numbers:
        self._trial = None
        move, gain = trial.move, trial.after_per_s / before_per_s - 1
        kept = gain >= (self._needed(trial, available) if move.up else -LOSS)
        self.steps.append(
            {
                "t_s": round(t_s, 2),
                "step": move.words,
                "before_per_s": round(before_per_s, 3),
                "after_per_s": round(trial.after_per_s, 3),
                "gain": round(gain, 4),
                "memory_bytes": trial.after_memory - trial.memory,
                "kept": kept,
            }
        )
        self._wait(move.key, t_s, kept=kept)
        if kept:
            self.numbers = move.numbers
        return self.numbers

    def _wait(self, key: str, t_s: float, *, kept: bool) -> None:
        """Leave a step that was not worth it alone for a while, and the way back from one that was."""
        opposite = key.translate(_OPPOSITE)
        if kept:
            self._not_before[opposite] = t_s + AGAIN_S
        else:
            patience_s = self._patience_s.get(key, AGAIN_S)
            self._not_before[key], self._patience_s[key] = t_s + patience_s, 2 * patience_s


_OPPOSITE = str.maketrans("+-", "-+")


def told(step: dict[str, Any]) -> str:
    """Return a step that was tried, in a line."""
    if "gain" not in step:
        return f"{step['step']}: not kept: {step['why']}"
    taken = step["memory_bytes"]
    memory = f", {taken / 2**20:+,.0f} MiB" if abs(taken) >= 2**20 else ""
    rates = f"{step['before_per_s']:,.1f}/s -> {step['after_per_s']:,.1f}/s ({step['gain']:+.1%}{memory})"
    return f"{step['step']}: {rates}, {'kept' if step['kept'] else 'not worth it'}"


# ---- what to try


def moves(seen: Seen, numbers: Numbers, bounds: Bounds) -> Iterator[Move]:
    """Yield the steps to try after a stretch as `seen`, the most promising first."""
    cause = verdict(seen).bottleneck
    if one_at_a_time(seen):  # be it the interpreter or another lock: the trial tells
        yield from _to_processes(seen, numbers, bounds)
    if cause in ("order", "window") and numbers.window < bounds.most_window:
        yield _widened(numbers)
    for s, stage in enumerate(seen.stages):
        if s in bounds.movable and not any(place[0] == s for place in numbers.apart):
            yield from _of_stage(seen, s, stage, numbers, bounds)


def _to_processes(seen: Seen, numbers: Numbers, bounds: Bounds) -> Iterator[Move]:
    steps = {place: seen.stages[place[0]].steps[place[1]] for place in bounds.sendable - numbers.apart}
    for place in sorted(steps, key=lambda place: -steps[place].busy_s):
        words = f"{steps[place].name} in processes in the place of threads"
        n = numbers.workers[place[0]]
        workers = _with(numbers, place[0], min(n, seen.cpus) if place[0] in bounds.movable else n)
        yield Move(f"apart {place}", words, replace(numbers, apart=numbers.apart | {place}, workers=workers))


def _widened(numbers: Numbers) -> Move:
    times = 2 * numbers.window
    return Move("window +", f"window x {times}", replace(numbers, window=times))


def _of_stage(seen: Seen, s: int, stage: StageStatistics, numbers: Numbers, bounds: Bounds) -> Iterator[Move]:
    n, most, enough = numbers.workers[s], bounds.most_workers, seen.cpus + bounds.spare.get(s, 0)
    busiest = max(seen.stages, key=seen.busy)
    main = max(stage.steps, key=lambda step: step.busy_s)
    if stage is busiest and seen.busy(stage) >= BUSY and n < most:
        if seen.waiting(main):
            yield _of_workers(stage, s, min(most, 2 * n), numbers)
        else:
            yield _of_workers(stage, s, n + 1, numbers, explores=seen.is_full or n >= enough)
    elif n > enough and n - seen.at_work(stage) >= IDLE:
        yield _of_workers(stage, s, max(1, math.ceil(seen.at_work(stage) + 0.5)), numbers)
    if n > enough and seen.is_full:
        yield _of_workers(stage, s, max(enough, n - max(1, n // 4)), numbers)


def _of_workers(stage: StageStatistics, s: int, n: int, numbers: Numbers, *, explores: bool = False) -> Move:
    before, up = numbers.workers[s], n > numbers.workers[s]
    workers = _with(numbers, s, n)
    words = f"workers of {stage.name}: {before} -> {n}"
    return Move(f"workers {s} {'+' if up else '-'}", words, replace(numbers, workers=workers), up, explores)


def _with(numbers: Numbers, s: int, n: int) -> tuple[int, ...]:
    """Return the workers by stage, `n` of stage `s`."""
    return (*numbers.workers[:s], n, *numbers.workers[s + 1 :])

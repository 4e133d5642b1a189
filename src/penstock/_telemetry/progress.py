"""What a run shows while it works: a panel on a terminal or in a notebook, lines in a log, or JSON lines; on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO, TypeVar

from penstock._engine.statistics import PipelineStatistics
from penstock._telemetry.lines import Lines
from penstock._telemetry.notebook import Notebook, is_notebook
from penstock._telemetry.pace import Mark, add_mark, burst_s, eta_s, item_cost_s
from penstock._telemetry.record import with_memory
from penstock._telemetry.report import steps_of
from penstock._telemetry.screen import Diversion, Screen
from penstock._telemetry.state import State, step_states
from penstock._telemetry.timeline import Reading, add_recent, reading_of

T = TypeVar("T")
Mode = Literal["auto", "plain", "json", "quiet"]
PERIOD_S = 0.25
"""Between two states that are shown, at least."""
LATELY_S, LATELY_BURSTS = 5.0, 4
"""How far back the shares of busy workers look: so many seconds, or waits between items where those are longer."""
NOTHING = PipelineStatistics()


class Display(Protocol):
    """Shows states somewhere."""

    def show(self, state: State) -> None:
        """Show `state`, or leave it out if another was shown just before."""
        ...

    def say(self, text: str) -> None:
        """Show a line of words, once."""
        ...

    def close(self, state: State) -> None:
        """Show the last state and give the terminal back."""
        ...


def display_of(mode: Mode, stream: TextIO, clock: Callable[[], float]) -> Display | None:
    """Return where to show progress: `auto` is a panel where it can be drawn anew in place, and lines elsewhere.

    Those of a run beside another one that has the terminal appear above that one's panel.
    """
    if mode == "quiet":
        return None
    if mode == "auto" and find_spec("rich") is not None:
        if is_notebook():
            return Notebook()
        if stream.isatty() and os.environ.get("TERM") != "dumb" and not isinstance(stream, Diversion):
            return Screen(stream)
    return Lines(stream, clock, as_json=mode == "json")


class Progress:
    """Shows how far a run is. A context manager, used by one thread, which may call `update` as often as it likes.

    `total`: items planned, or None (may be set when it becomes known). `already`: how many of them were finished by
    earlier runs, and tell nothing about this one's rate. A stream that breaks ends the showing and never the run:
    `error` then has the reason.
    """

    def __init__(
        self,
        total: int | None,
        mode: Mode = "auto",
        *,
        already: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.error: Exception | None = None
        self._mode, self._stream, self._clock = mode, stream or sys.stderr, clock
        self._already = already
        self._began_s = clock()
        self._shown_s = float("-inf")
        self._marks: list[Mark] = []
        self._readings = [Reading(0.0)]
        self._seen = (already, 0, 0, NOTHING)
        self._display: Display | None = None

    def __enter__(self) -> Self:
        """Take the terminal; returns itself."""
        self._began_s = self._clock()
        self._display = display_of(self._mode, self._stream, self._clock)
        return self

    def update(self, done: int, failed: int, skipped: int = 0, statistics: PipelineStatistics = NOTHING) -> None:
        """Show these counts of the whole job (earlier runs included) and what its pipeline is at, if it is time."""
        if self._display is None or self.error is not None:
            return
        now_s = self._clock()
        add_mark(self._marks, now_s, done + failed - self._already)  # what is skipped takes no time
        self._seen = done, failed, skipped, statistics
        if now_s - self._shown_s >= PERIOD_S:
            self._shown_s = now_s
            self._guarded(self._display.show, self._state(now_s))

    def say(self, text: str) -> None:
        """Show a line of words."""
        if self._display is not None and self.error is None:
            self._guarded(self._display.say, text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Show the last state and give the terminal back."""
        display, self._display = self._display, None
        if display is not None:
            self._guarded(display.close, self._last(self._clock()))

    def _state(self, now_s: float) -> State:
        """Return what the run is at, with what it did lately."""
        now = self._reading(now_s)
        bursts_s = LATELY_BURSTS * burst_s(self._marks) if len(self._marks) > 1 else float("inf")
        add_recent(self._readings, now, max(LATELY_S, bursts_s))
        cost_s = item_cost_s(self._marks, now_s)
        state = self._state_since(self._readings[0], now)
        left_s = None if state.remaining is None else eta_s(self._marks, state.remaining, now_s)
        return replace(state, rate_per_s=1 / cost_s if cost_s else None, eta_s=left_s)

    def _last(self, now_s: float) -> State:
        """Return what the whole run did."""
        state = self._state_since(Reading(0.0), self._reading(now_s))
        finished = state.done + state.failed - self._already
        per_s = finished / state.elapsed_s if finished and state.elapsed_s else None
        return replace(state, rate_per_s=per_s, ended=True)

    def _reading(self, now_s: float) -> Reading:
        done, failed, _, statistics = self._seen
        return with_memory(reading_of(now_s - self._began_s, statistics, (done, failed)))

    def _state_since(self, before: Reading, now: Reading) -> State:
        done, failed, skipped, statistics = self._seen
        steps = steps_of(statistics)
        return State(
            done,
            failed,
            skipped,
            self.total,
            elapsed_s=now.t_s,
            slowest=max(steps, key=lambda step: step.busy_s).name if steps else "",
            steps=step_states(statistics, before, now),
            in_flight=now.in_flight,
            window=now.window,
            rss_bytes=now.rss_bytes,
            device_bytes=now.device_bytes,
        )

    def _guarded(self, show: Callable[[T], None], shown: T) -> None:
        try:
            show(shown)
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self.error = self.error or error

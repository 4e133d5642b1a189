"""What a run shows while it works: one line on a terminal, plain lines in a log, or JSON lines; on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO, TypeVar

from penstock._printable import printable
from penstock._telemetry.pace import Mark, add_mark, eta_s, item_cost_s

T = TypeVar("T")
Mode = Literal["auto", "plain", "json", "quiet"]
JSON_S = 1.0
LINE_S, LONGEST_LINE_S = 5.0, 60.0
STEP_S, LINE_SHARE = 1.0, 0.05
LOOK_S = 0.1
"""Between two looks at what the marks tell: it takes as long as 100 items of a cheap stage."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a run is: counts of items, items per second, seconds left (None: not known yet)."""

    done: int
    failed: int
    skipped: int
    total: int | None
    rate_per_s: float | None
    eta_s: float | None
    slowest: str

    @property
    def remaining(self) -> int | None:
        """Items that are still to come; None where nobody knows how many there are."""
        return None if self.total is None else self.total - self.done - self.failed - self.skipped


def duration(seconds: float) -> str:
    """Return `0:35`, `1:02:03` or `2 d 03:04:05`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def rate(per_s: float) -> str:
    """Return `1,234/s`, `7.3/s` or `0.04/s`: never more digits than are known."""
    digits = 0 if per_s >= 10 else 1 if per_s >= 1 else 2
    return f"{per_s:,.{digits}f}/s"


def numbers(state: State) -> list[str]:
    """Return the parts of a line, the most important first."""
    total = "" if state.total is None else f"/{state.total:,}"
    parts = [f"{state.done:,}{total}"]
    parts += [] if state.rate_per_s is None else [rate(state.rate_per_s)]
    parts += [f"{duration(state.eta_s)} left"] if state.eta_s is not None and state.remaining else []
    parts += [f"{state.failed:,} failed"]
    parts += [f"{state.skipped:,} skipped"] if state.skipped else []
    parts += [f"slowest: {printable(state.slowest)}"] if state.slowest else []
    return parts


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


class Lines:
    """Writes a line now and then, for a log: words, or one JSON object each."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], as_json: bool) -> None:
        self._stream, self._clock, self._as_json = stream, clock, as_json
        self._began_s = self._written_s = clock()
        self._written: State | None = None

    def show(self, state: State) -> None:
        """Write the state if it is due."""
        if self._due(state, self._clock()):
            self._write(state)

    def say(self, text: str) -> None:
        """Write a line."""
        self._stream.write((json.dumps({"event": "plan", "text": text}) if self._as_json else printable(text)) + "\n")
        self._stream.flush()

    def close(self, state: State) -> None:
        """Write the last state unless it stands there already; the stream is not ours to close."""
        if state != self._written:
            self._write(state)

    def _write(self, state: State) -> None:
        line = json.dumps({"event": "progress", **asdict(state)}) if self._as_json else ", ".join(numbers(state))
        self._stream.write(line + "\n")
        self._stream.flush()
        self._written, self._written_s = state, self._clock()

    def _due(self, state: State, now_s: float) -> bool:
        waited_s = now_s - self._written_s
        if self._as_json:
            return waited_s >= JSON_S
        # Every 5 s at first, every minute in the end: a log of a day is read, too.
        pause_s = min(max(LINE_S, (now_s - self._began_s) * LINE_SHARE), LONGEST_LINE_S)
        before = self._written.done if self._written else 0
        a_step = state.total is not None and state.done - before >= state.total * LINE_SHARE
        return waited_s >= pause_s or (a_step and waited_s >= STEP_S)


class TerminalLine:
    """One line that is drawn anew, by rich, without a thread of its own."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._rich = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=Console(file=stream),
            auto_refresh=False,
            get_time=clock,
            # What the user's code prints appears above the line; but a stdout that goes to a file must go there.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._rich.add_task("", total=None, numbers="")
        self._rich.start()

    def show(self, state: State) -> None:
        """Draw the line; the caller decides how often."""
        text = "  ".join(numbers(state))
        finished = state.done + state.failed + state.skipped
        self._rich.update(self._task, total=state.total, completed=finished, numbers=text)
        self._rich.refresh()

    def say(self, text: str) -> None:
        """Write a line above the one that is drawn."""
        self._rich.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def close(self, state: State) -> None:
        """Draw the line for the last time, leave it where it is, and give the cursor back."""
        try:
            self.show(state)
        finally:
            self._rich.stop()


def display_of(mode: Mode, stream: TextIO, clock: Callable[[], float]) -> Display | None:
    """Return where to show progress: `auto` is one line on a terminal that can move its cursor, lines elsewhere."""
    if mode == "quiet":
        return None
    moves = stream.isatty() and os.environ.get("TERM") != "dumb"
    if mode == "auto" and moves and find_spec("rich") is not None:
        return TerminalLine(stream, clock)
    return Lines(stream, clock, as_json=mode == "json")


class Progress:
    """Shows how far a run is. A context manager, used by one thread, which calls `update` a few times a second.

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
        self._marks: list[Mark] = []
        self._counts = (already, 0, 0, "")
        self._updated_s, self._looked_s = clock(), -math.inf
        self._state = State(already, 0, 0, total, None, None, "")
        self._display: Display | None = None

    def __enter__(self) -> Self:
        """Take the terminal; returns itself."""
        self._display = display_of(self._mode, self._stream, self._clock)
        return self

    def update(self, done: int, failed: int, skipped: int = 0, slowest: str = "") -> None:
        """Show these counts of the whole job (earlier runs included) and the slowest stage's name, a while apart."""
        now_s = self._updated_s = self._clock()
        add_mark(self._marks, now_s, done + failed - self._already)  # what is skipped takes no time
        self._counts = (done, failed, skipped, slowest)
        if now_s - self._looked_s < LOOK_S:
            return
        self._look()
        if self._display is not None and self.error is None:
            self._guarded(self._display.show, self._state)

    def _look(self) -> None:
        """Work out the state as of the last update."""
        done, failed, skipped, slowest = self._counts
        now_s = self._looked_s = self._updated_s
        cost_s = item_cost_s(self._marks, now_s)
        state = State(done, failed, skipped, self.total, 1 / cost_s if cost_s else None, None, slowest)
        left_s = None if state.remaining is None else eta_s(self._marks, state.remaining, now_s)
        self._state = replace(state, eta_s=left_s)

    def say(self, text: str) -> None:
        """Show a line of words."""
        if self._display is not None and self.error is None:
            self._guarded(self._display.say, text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Show the last state and give the terminal back."""
        display, self._display = self._display, None
        if display is not None:
            self._look()
            self._guarded(display.close, self._state)

    def _guarded(self, show: Callable[[T], None], shown: T) -> None:
        try:
            show(shown)
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self.error = self.error or error

"""Progress in a log: a line of words now and then, or one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TextIO

from penstock._printable import printable
from penstock._telemetry.state import State, numbers

JSON_S = 1.0
LINE_S, LONGEST_LINE_S = 5.0, 60.0
STEP_S, LINE_SHARE = 1.0, 0.05


class Lines:
    """Writes a line now and then: words, or JSON."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], as_json: bool) -> None:
        self._stream, self._clock, self._as_json = stream, clock, as_json
        self._began_s = self._written_s = clock()
        self._written_done = 0

    def show(self, state: State) -> None:
        """Write the state if it is due."""
        if self._due(state, self._clock()):
            self._write(state)

    def say(self, text: str) -> None:
        """Write a line."""
        self._stream.write((json.dumps({"event": "plan", "text": text}) if self._as_json else printable(text)) + "\n")
        self._stream.flush()

    def close(self, state: State) -> None:
        """Write the last state; the stream is not ours to close."""
        self._write(state)

    def _write(self, state: State) -> None:
        line = json.dumps({"event": "progress", **asdict(state)}) if self._as_json else ", ".join(numbers(state))
        self._stream.write(line + "\n")
        self._stream.flush()
        self._written_done, self._written_s = state.done, self._clock()

    def _due(self, state: State, now_s: float) -> bool:
        waited_s = now_s - self._written_s
        if self._as_json:
            return waited_s >= JSON_S
        # Every 5 s at first, every minute in the end: a log of a day is read, too.
        pause_s = min(max(LINE_S, (now_s - self._began_s) * LINE_SHARE), LONGEST_LINE_S)
        a_step = state.total is not None and state.done - self._written_done >= state.total * LINE_SHARE
        return waited_s >= pause_s or (a_step and waited_s >= STEP_S)

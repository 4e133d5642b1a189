"""The panel at the lower end of a terminal: drawn anew in place, with what is printed meanwhile above it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

from penstock._printable import printable
from penstock._telemetry.panel import Line, panel
from penstock._telemetry.state import State

CLEAR_LINE, CLEAR_BELOW, PLAIN = "\x1b[K", "\x1b[J", "\x1b[m"


class Screen:
    """A `Display`: the panel of a run, without a thread of its own; rich knows the terminal's size and colours.

    Between two drawings the cursor is on an empty line above the panel. So what gets to the terminal past us (from a C
    library or another process) is not drawn over, and a terminal that breaks lines anew when it is made narrower leaves
    nothing behind: all that is below the cursor is ours. What threads print through `sys.stdout` and `sys.stderr`, or
    handlers of `logging` that were set up with them, is put above the panel line by line.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._stream = stream
        self._console = Console(file=stream)
        self._state: State | None = None
        self._frame, self._frame_size = "", (0, 0)
        self.lock = threading.RLock()  # a handler of signals may print while its thread draws
        self.is_open = True
        self._diversions = [Diversion(name, self) for name in ("stdout", "stderr") if _is_same(name, stream)]

    def show(self, state: State) -> None:
        """Draw the panel; the caller decides how often."""
        with self.lock:
            self._state, self._frame_size = state, (0, 0)
            self._put(self._drawn())

    def say(self, text: str) -> None:
        """Write a line above the panel."""
        self.put_above(printable(text) + "\n")

    def put_above(self, text: str) -> None:
        """Write whole lines above the panel, as they are."""
        with self.lock:
            self._put(f"\r{CLEAR_BELOW}{text}{PLAIN}{self._drawn()}")

    def close(self, state: State) -> None:
        """Draw the panel for the last time, leave it where it is, and give back what was taken."""
        try:
            with self.lock:
                for diversion in self._diversions:
                    diversion.flush()
                self._state, self._frame_size = state, (0, 0)
                self._put(self._drawn() + "\n" * self._frame.count("\n") + "\r\n")
        finally:
            self.is_open = False
            for diversion in self._diversions:  # without our lock: a handler of `logging` may wait for it
                diversion.end()

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _drawn(self) -> str:
        """Return what draws the panel below the cursor's line and brings the cursor back to that line."""
        if self._state is None:
            return ""
        size = self._console.size
        if size != self._frame_size:
            # One cell is left free, as terminals differ in what they do behind the last one; so are the cursor's line
            # and one more.
            plain = self._console.options.ascii_only
            lines = panel(self._state, size.width - 1, size.height - 2, plain=plain)
            self._frame, self._frame_size = self._coded(lines), size
        return self._frame

    def _coded(self, lines: list[Line]) -> str:
        from rich.text import Text

        self._console.begin_capture()
        for line in lines:
            self._console.print(Text.assemble(*line), soft_wrap=True)
        rows = self._console.end_capture().split("\n")[:-1]
        # Each line is written over the old one and then cleared to its end: nothing is blank for a moment.
        below = "".join(f"\r\n{row}{CLEAR_LINE}" for row in rows)
        return f"\r{CLEAR_LINE}{below}{CLEAR_BELOW}\x1b[{len(rows)}A\r"


class Diversion:
    """Stands for `sys.stdout` or `sys.stderr` while a panel is on the screen: hands it whole lines."""

    def __init__(self, name: str, screen: Screen) -> None:
        self._name, self._screen, self._process = name, screen, os.getpid()
        self._file = cast("TextIO", getattr(sys, name))
        self._part = ""
        setattr(sys, name, self)
        _swap(self._file, cast("TextIO", self))

    def write(self, text: str) -> int:
        """Put whole lines above the panel, and keep the rest until it is a line."""
        if not self._screen.is_open or os.getpid() != self._process:  # a fork has no panel
            return self._file.write(text)
        with self._screen.lock:
            lines, end, self._part = (self._part + text).rpartition("\n")
            self._hand_on(lines + end)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Put what is no whole line above the panel, too: it is a question, perhaps."""
        with self._screen.lock:
            part, self._part = self._part, ""
            self._hand_on(part and part + "\n")
        self._file.flush()

    def end(self) -> None:
        """Give the stream back to all who have it from us; who kept this object can go on with it."""
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._file)
        _swap(cast("TextIO", self), self._file)
        if self._part:
            self._file.write(self._part)

    def _hand_on(self, lines: str) -> None:
        if not lines:
            return
        try:
            self._screen.put_above(lines)
        except (OSError, ValueError):  # the panel's stream broke, which is no reason to lose what is printed to another
            self._file.write(lines)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _is_same(name: str, stream: TextIO) -> bool:
    """Tell whether `sys.stdout` or `sys.stderr` is the terminal that `stream` is."""
    file = getattr(sys, name)
    try:
        return file is stream or (file.isatty() and os.ttyname(file.fileno()) == os.ttyname(stream.fileno()))
    except (OSError, ValueError, AttributeError):  # closed; no file of the system; None
        return False


def _swap(old: TextIO, new: TextIO) -> None:
    """Let handlers of `logging` that write to `old` write to `new`."""
    for handler in _stream_handlers():
        if handler.stream is old:
            handler.setStream(new)


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from (handler for handler in logger.handlers if isinstance(handler, logging.StreamHandler))

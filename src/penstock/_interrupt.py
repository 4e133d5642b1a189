"""Ctrl-C and SIGTERM as a request to stop cleanly: noted by the handler, acted on by the run loop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered (in the main thread), the first signal is noted in `signal`; a second one interrupts at once."""

    def __init__(self) -> None:
        """Prepare; handlers are set on entering."""
        self.signal: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Set the handlers; elsewhere than in the main thread signals are not ours to handle."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Put the former handlers back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def raise_noted(self) -> None:
        """Raise what the noted signal means to a program: KeyboardInterrupt, or SystemExit(143) for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)

"""Ctrl-C and SIGTERM: at once while nothing runs, at the next safe point while models are loaded, cleanly in a run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


_entered: list[Interrupts] = []
"""Those in force, the innermost last; changed by the main thread alone."""


class Interrupts:
    """While entered (in the main thread) it has the two signals; inside `deferred` the first one is only noted.

    A second signal interrupts at once: what is committed is safe either way.
    """

    def __init__(self) -> None:
        """Prepare; handlers are set on entering."""
        self.signal: int | None = None
        self._deferring = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Set the handlers; elsewhere than in the main thread signals are not ours to handle."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
            _entered.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the former handlers back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self in _entered:
            _entered.remove(self)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note a first signal in `signal` instead of raising, for whoever can stop cleanly."""
        before, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = before

    def _handle(self, number: int, _: FrameType | None) -> None:
        again = self.signal is not None
        self.signal = number
        if again or not self._deferring:
            self.raise_noted()

    def raise_noted(self) -> None:
        """Raise what a noted signal means to a program: KeyboardInterrupt, or SystemExit(143) for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)


def checkpoint() -> None:
    """Raise a signal that was only noted, where it does no harm: no library is half imported, no thread is inside one.

    In other threads than the main one, and where nobody notes signals, it does nothing.
    """
    if _entered and threading.current_thread() is threading.main_thread():
        _entered[-1].raise_noted()

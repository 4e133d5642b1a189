"""The last word on a run whose main thread does not move: the interpreter lock is held for good, or a disk hangs.

No Python code runs then, so nothing in Python can say so: `faulthandler` has a thread of its own, without the lock,
that writes the stacks of all threads to stderr unless it is put off in time. There is one of it in a process, so only
the command `penstock` uses it, for the process is its own.
"""

from __future__ import annotations

import faulthandler
import time

SILENT_S = 60.0
"""Without a sign of life of the run loop, which gives one a few times a second."""

_beaten_at: float | None = None
"""When it was put off last; None: it is not armed."""


def arm() -> None:
    """Begin to watch at the next `beat`."""
    global _beaten_at  # noqa: PLW0603 - there is one faulthandler in a process
    _beaten_at = 0.0


def beat() -> None:
    """Give a sign of life. Costs nothing where it is not armed, and little where it is: a new thread now and then."""
    global _beaten_at  # noqa: PLW0603 - there is one faulthandler in a process
    now = time.monotonic()
    if _beaten_at is not None and now - _beaten_at > SILENT_S / 8:
        _beaten_at = now
        faulthandler.dump_traceback_later(SILENT_S, repeat=True)


def rest() -> None:
    """Stop watching until the next `beat`: what comes may take as long as it takes."""
    global _beaten_at  # noqa: PLW0603 - there is one faulthandler in a process
    if _beaten_at:
        _beaten_at = 0.0
        faulthandler.cancel_dump_traceback_later()

"""Signals: at once outside `deferred`, noted inside it, at once again the second time.

In a process of its own: pytest gives the main thread a signal stack (faulthandler), on which any signal crashes
the interpreter once OpenVINO has run there (seen with 2026.4.1 on AVX-512). A plain process has no such stack.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SETUP = """
import signal
from penstock._interrupt import Interrupts, checkpoint
before = signal.getsignal(signal.SIGINT)
"""
PROGRAMS = {
    "SIGINT is at once outside deferred": """
try:
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("right")
""",
    "SIGTERM is at once outside deferred": """
try:
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
except SystemExit as stop:
    print("right" if stop.code == 143 else stop.code)
""",
    "the first is noted, the second interrupts": """
with Interrupts() as interrupts, interrupts.deferred():
    signal.raise_signal(signal.SIGINT)
    assert interrupts.signal == signal.SIGINT
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("right")
""",
    "what was noted is raised at a checkpoint, and elsewhere a checkpoint does nothing": """
import threading
checkpoint()
with Interrupts() as interrupts:
    with interrupts.deferred():
        with interrupts.deferred():
            pass
        signal.raise_signal(signal.SIGTERM)
        beside = threading.Thread(target=checkpoint)
        beside.start()
        beside.join(20)
        try:
            checkpoint()
        except SystemExit as stop:
            print("right" if stop.code == 143 else stop.code)
checkpoint()
""",
    "former handlers are put back": """
with Interrupts():
    assert signal.getsignal(signal.SIGINT) != before
assert signal.getsignal(signal.SIGINT) == before
print("right")
""",
}


@pytest.mark.parametrize("promise", PROGRAMS)
def test_signals(promise: str) -> None:
    command = [sys.executable, "-c", SETUP + PROGRAMS[promise]]
    process = subprocess.run(command, timeout=30, check=False, capture_output=True, text=True)
    assert process.stdout.strip() == "right", process.stderr

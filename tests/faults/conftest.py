"""How often each fault is injected, and the table of what came of it.

`PENSTOCK_FAULTS=long` (make faults) takes the long counts; `PENSTOCK_FAULTS_TABLE=FILE` collects the outcomes as JSON
lines there, of which `table.py` makes the table in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest

Times = Callable[[int, int], int]


@dataclass
class Outcome:
    """What came of one kind of fault, all its injections together."""

    fault: str
    times: int
    ended: str
    """How the runs ended, in words."""
    lost: int = 0
    """Items that are neither done nor failed by name at the end, when the same command was run again."""
    doubled: int = 0
    left_over: int = 0
    """Threads, processes, temporary files."""
    report_s: float | None = None
    """The longest time from the fault to the word about it."""


@pytest.fixture
def times() -> Times:
    """Return times(short, long): how often to inject a fault."""
    return lambda short, long: long if os.environ.get("PENSTOCK_FAULTS") == "long" else short


@pytest.fixture
def record() -> Callable[[Outcome], None]:
    """Return what puts an outcome into the table; it fails the test where anything was lost."""

    def add(outcome: Outcome) -> None:
        if path := os.environ.get("PENSTOCK_FAULTS_TABLE"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        assert (outcome.lost, outcome.doubled, outcome.left_over) == (0, 0, 0), outcome

    return add


@pytest.fixture
def outcome() -> type[Outcome]:
    """Return the class, for test modules cannot import from here."""
    return Outcome


@pytest.fixture
def gone() -> Callable[[int, float], bool]:
    """Return gone(pid, timeout_s): whether a process has ended, in that time at most."""

    def ended(pid: int, timeout_s: float) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)

    return ended

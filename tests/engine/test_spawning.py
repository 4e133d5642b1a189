"""Processes as the system has them: why one ended, what it finds, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from penstock._engine import spawning
from penstock._engine.spawning import Spawned, cause_of, environment_of

pytestmark = pytest.mark.usefixtures("no_child_left")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "it ended itself with exit code 0"),
        (-signal.SIGSEGV, "SIGSEGV (a crash in native code)"),
        (-signal.SIGKILL, "SIGKILL (killed from outside, as the kernel does for want of memory)"),
        (-signal.SIGALRM, "SIGALRM (a signal)"),
    ],
)
def test_the_cause_of_an_end_in_words(code: int, said: str) -> None:
    assert cause_of(code) == said


def test_libraries_get_their_threads_unless_the_user_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in spawning.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = environment_of(3)
    assert {name: found[name] for name in spawning.THREADS} == {
        **dict.fromkeys(spawning.THREADS, "3"),
        "OMP_NUM_THREADS": "7",
    }


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_process_ends_when_it_is_told_to_and_leaves_nothing(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:  # as on systems without it
        monkeypatch.delattr(os, "pidfd_open")
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    process = Spawned(os.environ)
    assert process.note(0.001) == (None, True)
    assert process.end(20.0) == "it ended itself with exit code 0"
    assert process.end(0.0) == "it ended itself with exit code 0"
    process.close(0.0)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_process_that_does_not_end_is_killed() -> None:
    process = Spawned(os.environ)
    os.kill(process.pid, signal.SIGSTOP)
    assert process.end(0.05) == "it was killed"
    process.close(0.0)


def test_where_no_process_can_be_started_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        Spawned(os.environ)
    assert len(os.listdir("/proc/self/fd")) == before

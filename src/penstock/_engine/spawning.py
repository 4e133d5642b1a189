"""A worker process as the operating system has it: started, heard, killed with all it has started, and why it ended."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from penstock._engine import wire
from penstock._engine.leases import PAGE_BYTES, Leases
from penstock._engine.slots import memory_file, unnamed
from penstock._engine.wire import Note

# -P: a file in the current folder that is named like a module must not take its place.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from penstock._engine.child import main; "
    "main(*map(int, sys.argv[2:]))"
)
GRACE_S = 0.5
"""How long a process has to end by itself once it was told to."""
REAP_S = 5.0
"""How long a killed process may take to be gone."""
STACKS_S = 0.3
LIKELY = {
    signal.SIGKILL: "killed from outside, as the kernel does for want of memory",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGBUS: "a crash in native code",
    signal.SIGILL: "a crash in native code, built for another CPU",
    signal.SIGFPE: "a crash in native code",
    signal.SIGABRT: "native code gave up: a failed check, or no memory",
    signal.SIGTERM: "somebody ended it",
}
_FRAME = re.compile(r'File "(.+?)", line (\d+) in (.+)')
THREADS = (
    "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS "
    "OPENCV_FOR_THREADS_NUM"
).split()
"""What tells libraries how many threads to use; what the user has set stays."""


class Spawned:
    """A child process with its socket, its page of leases, and the file that its stacks are written to.

    It leads a process group of its own: Ctrl-C in the terminal does not reach it, and what it starts dies with it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it. Raises OSError where no process, memory or descriptor may be had."""
        self._why: str | None = None
        with ExitStack() as stack:
            self.connection, theirs = socket.socketpair()
            stack.callback(self.connection.close)
            with theirs:
                self._begin(stack, theirs, environment)
            self._poller = select.poll()
            self._poller.register(self.connection, select.POLLIN)
            self._descriptor = _pidfd(self._process.pid)
            if self._descriptor is not None:
                stack.callback(os.close, self._descriptor)
                self._poller.register(self._descriptor, select.POLLIN)
            self._stack = stack.pop_all()

    def _begin(self, stack: ExitStack, theirs: socket.socket, environment: Mapping[str, str]) -> None:
        page = _closing(stack, unnamed(PAGE_BYTES))
        self.leases = Leases(os.dup(page))
        stack.callback(self.leases.close)
        self._stacks = _closing(stack, memory_file())
        life, ours = os.pipe()
        _closing(stack, ours)
        given = (theirs.fileno(), life, page, self._stacks)
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), "-P", "-c", _BOOT, _root(), *map(str, (os.getpid(), *given))],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                env=dict(environment),
                process_group=0,
            )
        finally:
            os.close(life)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def note(self, timeout_s: float) -> tuple[Note | None, bool]:
        """Return (its next note, whether it lives): no note after `timeout_s`, or because it is gone."""
        ready = dict(self._poller.poll(max(1, int(timeout_s * 1000))))
        if self.connection.fileno() in ready:
            received = wire.receive(self.connection)
            return (None, False) if received is None else (received[0], True)
        # `poll` reaps it: only where nothing else tells, see `end`.
        return None, not ready and (self._descriptor is not None or self._process.poll() is None)

    def stacks(self) -> str:
        """Return what all its threads are at: function and line, the innermost first; "" where it does not tell."""
        before = os.fstat(self._stacks).st_size
        self._process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + STACKS_S
        while os.fstat(self._stacks).st_size == before and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        return self._frames(before)

    def _frames(self, start: int) -> str:
        """Return the innermost frames outside of penstock that were written from `start` on."""
        text = os.pread(self._stacks, 1 << 16, start).decode(errors="replace")
        current = text.partition("Current thread")[2] or text
        frames = [frame for frame in map(_FRAME.search, current.splitlines()) if frame is not None]
        theirs = [frame for frame in frames if not frame[1].startswith((_root(), "<"))]
        return ", called from ".join(f"{frame[3]} ({Path(frame[1]).name}:{frame[2]})" for frame in theirs[:3])

    def end(self, grace_s: float) -> str:
        """End it, at the latest after `grace_s`, with all it has started; return why it ended. Idempotent."""
        if self._why is None:
            self.connection.close()
            ended = self._gone(grace_s)
            _kill_group(self.pid)  # before it is reaped: its number cannot be another's yet
            try:
                code = self._process.wait(REAP_S)
                self._why = cause_of(code) if ended else "it was killed"
            except subprocess.TimeoutExpired:
                self._why = f"process {self.pid} cannot be killed: it waits inside the kernel"
            if where := self._frames(0):
                self._why += f", in {where}"
        return self._why

    @property
    def killed(self) -> bool:
        """Whether it was killed from outside, as far as the signal tells."""
        return self._process.returncode in (-signal.SIGKILL, -signal.SIGTERM)

    def close(self, grace_s: float) -> None:
        """End it, and let go of what was shared with it; idempotent."""
        self.end(grace_s)
        self._stack.close()

    def _gone(self, timeout_s: float) -> bool:
        """Wait for it to end by itself; tell whether it has."""
        if self._descriptor is not None:
            poller = select.poll()
            poller.register(self._descriptor, select.POLLIN)
            return bool(poller.poll(int(timeout_s * 1000)))
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def cause_of(code: int) -> str:
    """Return in words why a process ended that has this exit code (negative: a signal)."""
    if code >= 0:
        return f"it ended itself with exit code {code}"
    number = signal.Signals(-code)
    return f"{number.name} ({LIKELY.get(number, 'a signal')})"


def environment_of(threads: int) -> dict[str, str]:
    """Return the environment of a process that may keep `threads` CPUs busy."""
    return {**dict.fromkeys(THREADS, str(threads)), **os.environ}


def _flags() -> list[str]:
    """Return the options of this interpreter that change what code does."""
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimised, *(f"-W{option}" for option in sys.warnoptions)]


def _closing(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _pidfd(pid: int) -> int | None:
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left; macOS says "not permitted" of a group that only has a zombie


def _root() -> str:
    """Return the folder that the package penstock lies in."""
    return str(Path(__file__).resolve().parents[2])

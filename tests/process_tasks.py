"""What the tests have done in worker processes: functions at the top of a module that such a process can import."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.errors import SinkError

KEPT: list[Any] = []
FOR_EVER_S = 600.0


def double(value: Any) -> Any:
    return value * 2


def for_a_while(value: int) -> tuple[int, int]:
    """Take a few milliseconds, as Python code that computes; tell who did."""
    threading.Event().wait(0.003)
    return os.getpid(), value


def unlocked_after_a_while(value: tuple[int, Any]) -> int:
    threading.Event().wait(0.003)
    return value[0]


class Holding:
    """A function with an array and bytes of its own, which it reads and writes."""

    def __init__(self, array: Any, data: bytes) -> None:
        self.array = array
        self.data = data

    def __call__(self, order: Any) -> tuple[int, int]:
        if order == ("die",):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(order, tuple):
            _, order, value = order
            self.array[order] = value
        return int(self.array[order]), len(self.data)


def pid_of(value: Any) -> int:
    return os.getpid()


def total(item: Any, output: Any) -> tuple[Any, float]:
    return item.id, float(np.sum(output))


def do(order: tuple[Any, ...]) -> Any:
    """Do what the first word of `order` says."""
    what, *given = order
    return ORDERS[what](*given)


def do_all(batch: Sequence[Any]) -> list[Any]:
    """Do every tuple of a batch, and return the rest as it is."""
    return [do(value) if isinstance(value, tuple) else value for value in batch]


def logged(log: str, order: tuple[Any, ...]) -> Any:
    """Write the last word of `order` into a file, then do the rest of it."""
    with open(log, "ab", buffering=0) as file:
        file.write(f"{order[-1]}\n".encode())
    return do(order[:-1])


def _once(mark: str) -> str:
    """Die when the mark is not there yet."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second time"


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    threading.Event().wait(FOR_EVER_S)


def hang_with_the_lock() -> None:
    """Wait in native code that does not give the interpreter lock away."""
    ctypes.PyDLL(None).pause()


def _raise(kind: type[Exception], text: str) -> None:
    raise kind(text)


def _keep(array: Any) -> list[float]:
    """Keep what was given, and return what it and everything kept before holds now."""
    KEPT.append(array)
    return [float(kept.ravel()[0]) for kept in KEPT]


def _alarmed() -> str:
    """Handle a signal in Python, amid wide arithmetic."""
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    for _ in range(50):
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            np.dot(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32))
    return f"heard {len(heard)}"


def _in_place(n: int, number: float, keep: bool = False) -> Any:
    array = penstock.empty(n, "float64")
    array[:] = number
    if keep:
        KEPT.append(array)
    return array


def _start_another() -> int:
    """Start a process that would outlive this one, and die."""
    other = subprocess.Popen([sys.executable, "-c", "import signal; print(flush=True); signal.pause()"], stdout=-1)
    assert other.stdout is not None
    other.stdout.readline()
    Path(os.environ["PENSTOCK_TEST_MARK"]).write_text(str(other.pid))
    os._exit(9)


class Unreadable:
    """A value that cannot be read where it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (ValueError, "unreadable")


ORDERS: dict[str, Any] = {
    "value": lambda value: value,
    "pid": os.getpid,
    "crash": crash,
    "exit": os._exit,
    "kill": lambda number: os.kill(os.getpid(), number),
    "once": _once,
    "hang": hang,
    "wait": lambda seconds: (threading.Event().wait(seconds), "waited")[1],
    "raise": _raise,
    "stop the run": lambda: _raise(SinkError, "the disk is full"),
    "lambda": lambda: lambda: 1,
    "full": np.full,
    "keep": _keep,
    "in place": _in_place,
    "print": print,
    "alarmed": _alarmed,
    "unreadable": Unreadable,
    "environment": os.environ.get,
    "start another": _start_another,
    "gigabytes": lambda n: np.ones(n << 30, np.uint8),
}


class DiesWhenMade:
    """A function whose process dies when it is read there."""

    def __call__(self, value: Any) -> Any:
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (5,)


class Negative:
    """A model that lives in a process of its own."""

    concurrency = "process"
    version = "1"

    def load(self, device: str) -> None:
        self.pid = os.getpid()

    def predict(self, batch: Sequence[Any]) -> list[Any]:
        for value in batch:
            if value == "crash":
                crash()
            if value == "raise":
                raise KeyError("raise")
        return [(self.pid, -value) for value in batch]


class Unloadable(Negative):
    def load(self, device: str) -> None:
        raise OSError("no weights")


def decode_or_crash(poison: tuple[str, ...], path: str) -> Any:
    """Decode a photo; crash in native code on some."""
    if os.path.basename(path) in poison:
        crash()
    return penstock.decode(path)


def nap(value: int) -> int:
    """Take 2 ms."""
    threading.Event().wait(0.002)
    return value


def main() -> None:
    """The program of tests that kill it: print the pids of its workers, which then hang as is said."""
    how = sys.argv[1]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored, where the tests run in the background of a shell
    task = {"idle": pid_and_wait_for_more, "hang": pid_and_hang, "lock": pid_and_hold}[how]
    with penstock.Session(shown, stages=[penstock.Workers(task, 2, kind="process")], batch=1) as session:
        futures = [session.submit(i) for i in range(2)]
        for future in futures:
            future.result(FOR_EVER_S)
        threading.Event().wait(FOR_EVER_S)


def shown(batch: Sequence[Any]) -> Sequence[Any]:
    return batch


def say_pid() -> None:
    os.write(1, f"pid {os.getpid()}\n".encode())  # at once: two processes write into one pipe


def pid_and_wait_for_more(value: int) -> int:
    say_pid()
    threading.Event().wait(0.1)  # so that the other worker gets the other item
    return value


def pid_and_hang(value: int) -> None:
    say_pid()
    hang()


def pid_and_hold(value: int) -> None:
    say_pid()
    hang_with_the_lock()


if __name__ == "__main__":
    main()

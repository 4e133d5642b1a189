"""What runs in a worker process: receive values, work on them one by one, say before each which one it is.

It ends when its parent does, whatever it is doing: by EOF on a pipe that nobody
writes to, and by the kernel where that can.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock._engine import messages, wire
from penstock._engine.answers import Answers, NoMemory
from penstock._engine.leases import ANSWERING, IDLE, Leases
from penstock._engine.program import Program
from penstock._engine.room import ROOM
from penstock._engine.slots import Slot
from penstock._engine.wire import Note

FATAL = 1
SIGNAL_STACK_BYTES = 1 << 18
PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What a process is for. It travels to the child.

    `make`: gives a context manager that is entered once and gives the function. `call`: how it is called: with "each"
    value, with "pairs" of (item, value), or with a "whole" batch, for which it gives as many rows.
    """

    name: str
    make: Callable[[], AbstractContextManager[Callable[..., Any]]]
    call: str = "each"


def main(parent: int, notes: int, life: int, page: int, stacks: int) -> None:
    """Run until the parent closes the socket `notes`; the other descriptors: see `Process`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, which then ends this one
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGUSR2, stacks)
    _widen_signal_stack()
    _die_with(parent, life)
    code = 0
    with socket.socket(fileno=notes) as connection:
        child = Child(connection, Leases(page))
        try:
            code = child.run()
        except ConnectionError:
            code = FATAL  # the parent does not listen any more
        finally:
            flush()
    os._exit(code)  # as multiprocessing does: what the libraries do at an exit may take long, or hang


class _SignalStack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("nbytes", ctypes.c_size_t))


_SIGNAL_STACK = ctypes.create_string_buffer(SIGNAL_STACK_BYTES)


def _widen_signal_stack() -> None:
    """Let signals be handled on a stack that is large enough.

    That of faulthandler is too small where AVX-512 registers are saved on it: there any signal for which the user's
    code has a handler of its own could end the process.
    """
    if sys.platform == "linux":
        stack = _SignalStack(ctypes.addressof(_SIGNAL_STACK), 0, SIGNAL_STACK_BYTES)
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)


def _die_with(parent: int, life: int) -> None:
    """See to it that nothing of this process group is left when the parent is gone."""
    threading.Thread(target=_await_end, args=(life,), name="penstock-life", daemon=True).start()
    if sys.platform == "linux":  # ends it also while native code holds the interpreter lock
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FATAL)


def _await_end(life: int) -> None:
    os.read(life, 1)  # nobody writes: it returns when the last one who could is gone
    os.killpg(0, signal.SIGKILL)


class Child:
    """The loop of a worker process, with what it has mapped."""

    def __init__(self, connection: socket.socket, leases: Leases) -> None:
        """Begin with nothing mapped."""
        self._connection = connection
        self._leases = leases
        self._slots: dict[int, Slot] = {}
        self._answers = Answers(connection, leases, self._slots)
        self._duty = Duty("", _nothing)
        self._program: Program | None = None
        self._unmapped = ""

    def run(self) -> int:
        """Do what the notes say until there are no more; return the exit code."""
        note = self._next()
        if note is None:
            return 0
        with ExitStack() as stack:
            try:
                fn = stack.enter_context(self._begin(note))
            except Exception as error:  # noqa: BLE001 - whatever the user's module raises when it is imported
                self._fault(note.a, messages.failed(error, whole=True))
                return FATAL
            ROOM.make = self._answers.room
            wire.send(self._connection, Note(wire.READY))
            while (note := self._next()) is not None:
                self._work(fn, note)
        return 0

    def _next(self) -> Note | None:
        """Return the next note that asks for something; slots come and go on the way."""
        while (received := wire.receive(self._connection)) is not None:
            note, descriptor = received
            if note.kind == wire.SLOT and descriptor is not None:
                self._map(note, descriptor)
            elif note.kind == wire.DROP:
                if (slot := self._slots.pop(note.a, None)) is not None:
                    slot.close()
            else:
                return note
        return None

    def _map(self, note: Note, descriptor: int) -> None:
        try:
            self._slots[note.a] = Slot(descriptor, note.b, private=bool(note.c))
        except OSError as error:
            self._unmapped = f"{note.b:,} bytes cannot be mapped: {error.strerror}"

    def _begin(self, note: Note) -> AbstractContextManager[Callable[..., Any]]:
        """Read what the parent's program is and what this process is for."""
        self._leases.begin_request(note.a)
        self._answers.begin(note.c)
        self._program, data, buffers = messages.read(self._slots, messages.place_of(note.b, 0), note.a)
        self._program.enter()
        gc.disable()  # what is read lives as long as the process: to look through it while it grows takes long
        try:
            self._duty = messages.loads(data, self._program.enter_main, buffers)
        finally:
            gc.freeze()
            gc.enable()
        return self._duty.make()

    def _fault(self, request: int, failed: messages.Failed) -> None:
        """Say why a request cannot be carried out."""
        self._answers.put(failed, request)
        wire.send(self._connection, Note(wire.FAULT, request, 0, self._answers.last))

    def _work(self, fn: Callable[..., Any], note: Note) -> None:
        """Carry out one request: note.a its number, note.b the slot it lies in, note.c where answers go."""
        request, slot = note.a, note.b
        self._leases.begin_request(request)
        ROOM.cancelled = partial(self._leases.cancelled, request)
        self._answers.begin(note.c)
        try:
            if slot not in self._slots:
                raise NoMemory(f"what it was given takes more memory than it may have: {self._unmapped}.")
            assert self._program is not None
            find_main = self._program.enter_main
            values = messages.read(self._slots, messages.place_of(slot, 0), request, find_main=find_main)
        except Exception as error:  # noqa: BLE001 - whatever unpickling a value of the user's raises
            self._fault(request, messages.failed(error, whole=self._duty.call == "whole"))
            return
        pairs = self._duty.call == "pairs"
        for index in range(len(values)):
            if self._leases.cancelled(request):
                break
            value, values[index] = values[index], None  # what is done with is not held
            self._one(index, request, fn, value if pairs else (value,))
            del value
        del values
        flush()
        kept = self._slots[slot].lent  # the function keeps what it was given: it must not be written over
        if kept:
            self._slots.pop(slot).close()
        self._leases.enter(IDLE)
        wire.send(self._connection, Note(wire.DONE, request, int(kept), self._answers.last))

    def _one(self, index: int, request: int, fn: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Do one value, and put down what came of it."""
        self._leases.begin_item(index)
        whole = self._duty.call == "whole"
        try:
            value: Any = fn(*arguments)
            value = list(value) if whole and type(value) is not list else value
        except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
            value = messages.failed(error, whole=whole)
        self._leases.enter(ANSWERING)
        try:
            self._answers.put(value, request)
        except NoMemory as error:
            self._answers.put(messages.failed(error, whole=whole), request)
        except Exception as error:  # noqa: BLE001 - what a class of the user's raises when it is pickled
            self._answers.put(unpicklable(value, error), request)


def unpicklable(value: Any, error: Exception) -> messages.Failed:
    """Return why `value` cannot travel from one process to another."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return messages.Failed(
        "ItemError",
        f"what it returned ({kind}) cannot be sent to another process: {type(error).__name__}: {error}. Return plain "
        "values, arrays, or objects of classes at the top of a module.",
    )


def flush() -> None:
    """Bring out what was printed: a process that is killed would take it along."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass  # nobody reads it any more


def _nothing() -> AbstractContextManager[Callable[..., Any]]:
    raise AssertionError("a process was given nothing to do")

"""One worker process, seen from its parent: what it is asked, what it answers, and how that may end early."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from penstock._engine import messages, wire
from penstock._engine.baggage import Baggage
from penstock._engine.leases import IDLE, PHASES
from penstock._engine.messages import Failed, Packed
from penstock._engine.program import READING, Program
from penstock._engine.slots import MIB, TAG_BYTES, Purse, Slot, roomy
from penstock._engine.spawning import GRACE_S, Spawned
from penstock._engine.vigil import Vigil
from penstock._engine.wire import Note
from penstock.errors import ItemError, ModelError, PenstockError, Stalled, UsageError

START_S = 300.0
"""How long a process may take to import the user's code and to load a model."""
RECHECK_S = 0.1
"""Longest wait before looking whether the process lives and is still wanted."""
SILENT = "it does not tell: it is stopped, or busy in native code"


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a request was not answered in full.

    "died": the process is gone; "stalled": it was killed, as one value took too long; "fault": it lives, and cannot
    do this; "stopped": nobody wants the rest. `held`: which value was in hand, where that is known.
    """

    how: Literal["died", "stalled", "fault", "stopped"]
    why: str
    held: int | None = None
    failed: Failed | None = None
    outside: bool = False
    """It was killed by somebody else, as far as the signal tells."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: answers to its first values (values, or `Failed`), and why there are no more."""

    answers: list[Any]
    ended: Ended | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: `item_timeout_s` for one value (None: for ever).

    What is not `wanted()` any more ends behind the value in hand; where everything is `ending()`, soon, whatever it is.
    """

    item_timeout_s: float | None
    wanted: Callable[[], bool]
    ending: Callable[[], bool]


class Process:
    """A worker process at work; its owner calls `close`.

    Args:
        data: its `Duty`, pickled, or in `baggage` with its arrays; `name`: the stage it belongs to.
        environment: what it finds in os.environ.
        purse: bounds the memory it shares.
    """

    def __init__(self, name: str, data: bytes | Baggage, environment: Mapping[str, str], purse: Purse) -> None:
        """Start it; `await_ready` waits until it can be asked."""
        if READING:
            raise UsageError(
                "the main program is being read for what it defines, and begins its work over again: put what it does "
                "under `if __name__ == '__main__':`."
            )
        self._name = name
        self._purse = purse
        self._slots: dict[int, Slot] = {}
        self._numbers = self._request = 0
        try:
            self._child = Spawned(environment)
        except OSError as error:
            raise UsageError(
                f"stage {name!r}: no process can be started: {error}. Use fewer processes, or kind='thread'."
            ) from error
        try:
            self._questions, self._current = self._shared(MIB), self._shared(MIB)
            slot = self._put(self._first(data), 0)
            wire.send(self._child.connection, Note(wire.START, 0, slot, self._current))
        except BaseException:
            self.close()
            raise

    def _first(self, data: bytes | Baggage) -> Packed:
        """Return what the child is given first: its program, the pickle of its duty, and arrays that belong to it."""
        if isinstance(data, bytes):
            return messages.pack((Program.this(), data, []))
        number, self._numbers = self._numbers, self._numbers + 1
        nbytes = data.slot.nbytes + TAG_BYTES
        wire.send(self._child.connection, Note(wire.SLOT, number, nbytes, 1), data.descriptor)
        first, *others = data.parts()
        return messages.pack((Program.this(), first, others), data.located(number))

    def __repr__(self) -> str:
        """Show what it does and what it is at."""
        held = self._child.leases.held()
        return f"<Process {self._child.pid} of {self._name}: {held.phase}, request {held.request}, value {held.index}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def told(self) -> str:
        """Return what it is at, in a line, by its own word where it still gives one. Any thread may call it."""
        try:
            return f"{self!r} at {self._child.stacks() or SILENT}"
        except (OSError, ValueError):  # it ends just now, and what is shared with it is gone
            return f"process {self.pid} of {self._name}: it has ended"

    def await_ready(self, patience: Patience) -> Ended | None:
        """Wait until it has loaded the code; return why it has not, where it died or is not wanted any more.

        Raises UsageError where the code cannot be loaded there, Stalled where that takes minutes.
        """
        deadline = time.monotonic() + START_S
        while not patience.ending():
            note, alive = self._child.note(RECHECK_S)
            if note is not None and note.kind == wire.FAULT:
                raise self._unloadable()
            if note is not None:
                return None
            if not alive:
                return self._dead()
            if time.monotonic() > deadline:
                raise Stalled(f"stage {self._name!r}: its process was not ready after {START_S:.0f} s.")
        return Ended("stopped", "it is not wanted any more")

    def _unloadable(self) -> PenstockError:
        failed = self._read(self._child.leases.answers(0)[0])
        error = messages.raised(failed)
        if isinstance(error, ModelError):  # a model says itself what is wrong
            return error
        return UsageError(
            f"stage {self._name!r}: its process cannot load the code: {failed.type}: {failed.message}. Functions have "
            "to lie at the top of a module; those of the main program need `if __name__ == '__main__':` around what "
            "it does."
        )

    def ask(self, values: list[Any], patience: Patience) -> Reply:
        """Have `values` worked on, one after another; return the answers in order."""
        self._request += 1
        try:
            slot = self._put(messages.pack(values), self._request)
        except OSError:  # it has ended between two requests
            return Reply([], self._dead())
        except Exception as error:  # noqa: BLE001 - a value that does not pickle costs its item, whatever it raises
            return Reply([], Ended("fault", "", failed=_unsendable(error)))
        try:
            self._ask(slot)
            ended = self._await(patience)
        except OSError:
            ended = self._dead()
        if ended is not None and ended.failed is not None:
            return Reply([], ended)
        return Reply(self._answers(), ended)

    def close(self, grace_s: float = GRACE_S) -> None:
        """End it, with all it has started, and let go of what it shared; idempotent."""
        self._child.close(grace_s)
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()

    # ---- memory

    def _shared(self, nbytes: int) -> int:
        """Make a slot that the child has too. Raises NoMemory where there is not as much."""
        made = Slot.made(nbytes, self._purse)
        if made is None:
            raise NoMemory(
                f"stage {self._name!r}: {nbytes:,} bytes cannot be shared with its process: {self._purse.used_bytes:,} "
                f"of {self._purse.limit_bytes:,} are in use. Send less at once, or let go of earlier results."
            )
        slot, descriptor = made
        number = self._numbers
        try:
            wire.send(self._child.connection, Note(wire.SLOT, number, nbytes), descriptor)
        finally:
            os.close(descriptor)
        self._numbers += 1
        self._slots[number] = slot
        return number

    def _drop(self, number: int) -> None:
        """Let go of a slot, here and there."""
        self._slots.pop(number).close()
        wire.send(self._child.connection, Note(wire.DROP, number))

    def _put(self, packed: Packed, request: int) -> int:
        """Write what is asked into the slot for it, in a larger one where it does not fit; return its number."""
        slot = self._slots.get(self._questions)
        if slot is None or packed.nbytes > slot.nbytes:
            old, self._questions = self._questions, self._shared(roomy(packed.nbytes))
            if slot is not None:
                self._drop(old)
        messages.write(packed, self._slots[self._questions], self._questions, 0, request)
        return self._questions

    def _trim(self) -> None:
        """Let go of slots that nobody uses: of those too small for the answers of late; of all, if memory is short."""
        current, tight = self._slots.get(self._current), self._purse.tight
        least = 0 if current is None else current.nbytes // 2
        for number in [number for number in self._slots if self._free(number)]:
            if tight or self._slots[number].nbytes < least:
                self._drop(number)

    def _free(self, number: int) -> bool:
        return number not in (self._questions, self._current) and not self._slots[number].lent

    def _retire(self, numbers: Sequence[int]) -> None:
        """Let go of slots that the child cannot use any more; what was answered in them stays with who has it."""
        for number in numbers:
            if number in self._slots:
                self._slots.pop(number).close()

    def _grant(self, nbytes: int) -> None:
        """See to it that the child, which waits, finds a slot with room for `nbytes` among those offered."""
        try:
            if not any(self._slots[number].offer() for number in self._answering() if self._fits(number, nbytes)):
                self._offer([self._shared(roomy(nbytes))])
        except NoMemory:
            wire.send(self._child.connection, Note(wire.REFUSE, self._purse.used_bytes, self._purse.limit_bytes))
        else:
            wire.send(self._child.connection, Note(wire.GRANT))

    def _fits(self, number: int, nbytes: int) -> bool:
        return self._slots[number].nbytes >= nbytes

    def _answering(self) -> list[int]:
        """Return the slots that answers may be written into, but for the one that the last answer lies in."""
        return [number for number in self._slots if number not in (self._questions, self._current)]

    def _offer(self, numbers: Sequence[int]) -> None:
        """Let the child have slots that it does not write into now, each as soon as nobody reads what lies there."""
        for number in numbers:
            self._slots[number].reclaim()
            self._slots[number].offer()

    # ---- the conversation

    def _ask(self, slot: int) -> None:
        """Tell the child to begin. It writes over earlier answers where nobody reads them any more."""
        fresh = self._current in self._slots and not self._slots[self._current].lent
        self._trim()
        self._offer(self._answering())
        wire.send(self._child.connection, Note(wire.WORK, self._request, slot, self._current if fresh else -1))

    def _await(self, patience: Patience) -> Ended | None:
        """Wait for the child to be done; return why it is not."""
        period_s = min(RECHECK_S, (patience.item_timeout_s or 1.0) / 4)
        vigil = Vigil(period_s)
        ending_s: float | None = None
        while True:
            note, alive = self._child.note(period_s)
            if note is not None and note.kind == wire.NEED:
                self._retire(note[2:])
                self._grant(note.a)
            elif note is not None:
                return self._finished(note)
            elif not alive:
                return self._dead()
            elif (ended := self._overdue(vigil, patience)) is not None:
                return ended
            elif not patience.wanted():
                self._child.leases.cancel(self._request)
            if patience.ending():
                ending_s = ending_s or time.monotonic()
                if time.monotonic() - ending_s > GRACE_S:
                    self._child.end(0)
                    return Ended("stopped", "it is not wanted any more")

    def _finished(self, note: Note) -> Ended | None:
        if note.a != self._request:
            raise PenstockError(f"{self!r} says {note} while it is asked request {self._request}: a bug in penstock.")
        self._current = note.c
        if note.kind == wire.FAULT:
            failed = self._read(self._child.leases.answers(self._request)[0])
            return Ended("fault", "", failed=failed)
        if note.b:  # its function keeps what it was given, and so the memory that lies in
            self._slots.pop(self._questions).close()
        return None

    def _dead(self) -> Ended:
        why = self._child.end(GRACE_S)
        held = self._child.leases.held()
        index = held.index if held.request == self._request else None
        return Ended("died", why, index, outside=self._child.killed)

    def _overdue(self, vigil: Vigil, patience: Patience) -> Ended | None:
        """Kill the child where it has been at one value for longer than it may."""
        held = self._child.leases.held()
        waited_s = vigil.waited_s(held)
        if patience.item_timeout_s is None or waited_s <= patience.item_timeout_s:
            return None
        mine = held.request == self._request and held.phase != PHASES[IDLE]
        stacks = self._child.stacks() or SILENT
        self._child.end(0)
        why = (
            f"no answer after {waited_s:.1f} s (limit {patience.item_timeout_s} s), {held.phase}; its process was "
            f"killed at: {stacks}. Raise Limits(item_timeout_s=) if this is right for such items."
        )
        return Ended("stalled", why, held.index if mine else None)

    # ---- answers

    def _answers(self) -> list[Any]:
        """Return the answers that are there: views of slots, or copies where memory is short."""
        copied = self._purse.tight
        places = self._child.leases.answers(self._request)
        return [self._answer(place, copied) for place in places]

    def _answer(self, place: int, copied: bool) -> Any:
        try:
            return self._read(place, copied)
        except Exception as error:  # noqa: BLE001 - what a class of the user's raises when it is unpickled
            return messages.failed(error, whole=False)

    def _read(self, place: int, copied: bool = False) -> Any:
        return messages.read(self._slots, place, self._request, copied=copied)


class NoMemory(ItemError):
    """Raised where no more memory can be shared with a process."""


def _unsendable(error: Exception) -> Failed:
    """Return why values cannot be sent to a process."""
    if isinstance(error, NoMemory):
        return messages.failed(error, whole=False)
    return Failed(
        "ItemError",
        f"it cannot be sent to another process: {type(error).__name__}: {error}. Pass plain values, arrays, or objects "
        "of classes at the top of a module.",
    )

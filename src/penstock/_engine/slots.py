"""Memory that two processes share by descriptor alone: it has no name, so nothing of it can be left behind.

A slot's pages are there before it is used (no SIGBUS when memory is short, no page faults later). What lies in it is
read in place: an array over a slot holds a lease on it, and a slot with a lease is never written again. So a view of
a slot cannot become stale, however long its reader keeps it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from functools import cache
from typing import Any

import numpy as np

from penstock._devices import memory_available, memory_budget
from penstock._engine.room import ALIGN

MIB = 1 << 20
TAG_BYTES = ALIGN
"""The end of a slot, where both sides say whose it is: a line of the cache of its own."""
_OFFERED, _TAKEN = range(2)
SHARE = 2
"""Slots may take one part in so many of the memory that this process may use."""
Array = np.ndarray[Any, np.dtype[Any]]


class Purse:
    """Bytes that the slots of this process may take, and take; shared by threads."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin with nothing taken."""
        self.limit_bytes = limit_bytes
        self._used = 0
        self._given: deque[int] = deque()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        """Show how much is taken."""
        return f"<Purse: {self.used_bytes:,} of {self.limit_bytes:,} bytes>"

    @property
    def used_bytes(self) -> int:
        """Bytes taken now."""
        with self._lock:
            while self._given:
                self._used -= self._given.popleft()
            return self._used

    @property
    def tight(self) -> bool:
        """Whether so much is taken that what can be copied out of a slot should be."""
        return self.used_bytes * 4 > self.limit_bytes * 3

    def take(self, nbytes: int) -> bool:
        """Take `nbytes`; False where they are not there."""
        with self._lock:
            if self.used_bytes + nbytes > self.limit_bytes:
                return False
            self._used += nbytes
            return True

    def give(self, nbytes: int) -> None:
        """Give `nbytes` back. Takes no lock: the collector calls it, in whichever thread it runs."""
        self._given.append(nbytes)


@cache
def purse() -> Purse:
    """Return the one purse of this process: a half of what it may use (physical memory, cgroup, RLIMIT_AS)."""
    return Purse(memory_budget() // SHARE)


class Slot:
    """A stretch of shared memory, mapped here; `lend` gives arrays over it.

    The memory goes back to the system when it is closed and the last array over it is gone, whichever comes last.

    Whose it is to write into, two numbers in it tell, each written by one side. The one that reads it numbers its
    offers, of which each may be taken once; so one that is written late, by whichever thread let go of the last
    array, offers nothing that was taken meanwhile.
    """

    def __init__(self, descriptor: int, nbytes: int, *, private: bool = False) -> None:
        """Map the memory behind `descriptor`, which is closed. `private`: what is written here nobody else sees."""
        try:
            self.address = _mapped(descriptor, nbytes, private)
        finally:
            os.close(descriptor)
        self.nbytes = nbytes - TAG_BYTES
        self._memory: Any = (ctypes.c_ubyte * nbytes).from_address(self.address)
        weakref.finalize(self._memory, _unmap, self.address, nbytes).atexit = False
        self.view = memoryview(self._memory).cast("B")[: self.nbytes]
        self._lent = _Lent(memoryview(self._memory).cast("B")[self.nbytes :].cast("q"))

    @classmethod
    def made(cls, nbytes: int, purse: Purse) -> tuple[Slot, int] | None:
        """Return a slot of `nbytes`, its tag among them, with a descriptor of it; None where the memory is not there.

        The caller closes the descriptor. What the slot takes of `purse` is given back when its memory is.
        """
        if nbytes > memory_available() or not purse.take(nbytes):
            return None
        try:
            descriptor = unnamed(nbytes)
            try:
                slot = cls(os.dup(descriptor), nbytes)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError:  # the limit is not one that could be known before
            purse.give(nbytes)
            return None
        weakref.finalize(slot._memory, purse.give, nbytes).atexit = False
        return slot, descriptor

    def __repr__(self) -> str:
        """Show size and leases."""
        return f"<Slot of {self.nbytes:,} bytes, {len(self._lent.leases)} leases>"

    @property
    def lent(self) -> bool:
        """Whether an array over it is still held by anybody."""
        return bool(self._lent.leases)

    def lend(self, start: int, nbytes: int) -> Array:
        """Return bytes of it as a writable array; the slot is lent until this one and every view of it are gone."""
        array: Array = np.ndarray((nbytes,), np.uint8, self._memory, start)
        lease = weakref.ref(array, self._lent.ended)
        self._lent.leases[id(lease)] = lease
        return array

    def reclaim(self) -> None:
        """Take it back from the other side, which writes into nothing just now: what it had taken is to be offered."""
        if self.taken:
            self._lent.ticket += 1

    @property
    def taken(self) -> bool:
        """Whether the other side has it."""
        return bool(self._lent.tag[_TAKEN] == self._lent.ticket)

    def offer(self) -> bool:
        """Offer it to the other side, unless that has it, or somebody here reads it: then when nobody does any more."""
        if self.taken or self.lent:
            return False
        self._lent.tag[_OFFERED] = self._lent.ticket
        return True

    def take(self) -> bool:
        """Take it from the other side, where that offers it."""
        tag = self._lent.tag
        if tag[_OFFERED] <= tag[_TAKEN]:
            return False
        tag[_TAKEN] = tag[_OFFERED]
        return True

    def offset_of(self, array: Array) -> int | None:
        """Return where in it the bytes of `array` begin; None where they lie elsewhere."""
        offset = array.ctypes.data - self.address
        return offset if offset >= 0 and offset + array.nbytes <= self.nbytes else None

    def close(self) -> None:
        """Let go of the memory; idempotent. Arrays over it stay as they are."""
        self.view.release()
        self._memory = _NOTHING
        self._lent = _Lent(_NO_TAG)


class _Lent:
    """The leases on a slot, and what is written when the last one ends. It holds the memory, but not the slot."""

    def __init__(self, tag: memoryview) -> None:
        """Begin without leases; nothing is offered on this side."""
        self.tag = tag
        self.leases: dict[int, weakref.ref[Array]] = {}
        self.ticket = 0
        """Number of the last offer, made or to be made; 0: this side offers nothing."""

    def ended(self, lease: weakref.ref[Array]) -> None:
        """Note that the array of a lease is gone; any thread may come here at any time, so without a lock."""
        ticket = self.ticket  # read before the look at the leases: a later offer is none for which they were looked at
        self.leases.pop(id(lease), None)
        if ticket and not self.leases:
            self.tag[_OFFERED] = ticket


_NOTHING = (ctypes.c_ubyte * 0)()
_NO_TAG = memoryview(bytearray(2 * 8)).cast("q")


@cache
def _system() -> ctypes.CDLL:
    """Return mmap and munmap themselves: Python's keep a descriptor open for each mapping, and those are few."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


def _mapped(descriptor: int, nbytes: int, private: bool) -> int:
    """Return the address of the memory behind `descriptor`. Raises OSError where it cannot be mapped."""
    flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    address = _system().mmap(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address)


def _unmap(address: int, nbytes: int) -> None:
    _system().munmap(address, nbytes)


def unnamed(nbytes: int) -> int:
    """Return a descriptor of `nbytes` of memory that has no name. Raises OSError where they are not there.

    Not for more than `memory_available`: instead of refusing it the kernel would kill some process.
    """
    descriptor = memory_file()
    try:
        os.ftruncate(descriptor, nbytes)
        if hasattr(os, "posix_fallocate"):  # the pages are taken here, where that can fail, and not at the first write
            os.posix_fallocate(descriptor, 0, nbytes)
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def memory_file() -> int:
    """Return a descriptor of an empty file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("penstock", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # it has no name either, once it is open
        return os.dup(file.fileno())


def aligned(offset: int) -> int:
    """Return the first place from `offset` on where an array may begin."""
    return -(-offset // ALIGN) * ALIGN


def roomy(nbytes: int) -> int:
    """Return the size of a slot for `nbytes`: a quarter more, as the next one may be larger; whole MiB."""
    return max(MIB, -(-(nbytes + nbytes // 4 + TAG_BYTES) // MIB) * MIB)

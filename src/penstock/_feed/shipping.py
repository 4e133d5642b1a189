"""Batches onto a GPU, two ahead of the loop: through pinned memory that is used again, on a stream of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from penstock._engine.patience import RECHECK_S
from penstock._feed.collate import in_place
from penstock.errors import Cancelled, MissingDependency, UsageError

AHEAD = 2
"""Batches on the device before the loop asks for them."""


class Cuda(Protocol):
    """What is needed of torch.cuda; a fake of it checks in tests that nothing is read or written too early."""

    def pinned(self, like: Any) -> Any:
        """Return pinned memory for a tensor like this."""
        ...

    def send(self, staged: Any) -> Any:
        """Begin to copy pinned memory to the device, on the side stream; return what will be there."""
        ...

    def event(self) -> Any:
        """Return an event that is over when all that was sent so far is there."""
        ...

    def await_copy(self, event: Any) -> None:
        """Wait, in this thread, until an event is over."""
        ...

    def follow(self, event: Any, sent: list[Any]) -> None:
        """Let the loop's stream wait for an event, and keep the memory of `sent` until the loop is done with it."""
        ...


@dataclass(slots=True)
class Berth:
    """Pinned memory for one batch, and the event after which it may be written again."""

    tensors: list[Any]
    event: Any = None


@dataclass(frozen=True, slots=True)
class Shipment:
    """A batch on its way: its tensors on the device, the event after which they may be read."""

    batch: Any
    tensors: list[Any]
    event: Any


class Ship:
    """Takes batches of tensors to the device. One thread sends; the loop receives."""

    def __init__(self, cuda: Cuda) -> None:
        """Begin without pinned memory; it is made with the first batches, and kept."""
        self._cuda = cuda
        self._berths = deque(Berth([]) for _ in range(AHEAD + 1))

    def send(self, batch: Any) -> Shipment:
        """Begin to copy a batch; its own memory is free when this returns."""
        berth = self._berths[0]
        self._berths.rotate(-1)
        if berth.event is not None:
            self._cuda.await_copy(berth.event)
        sent: list[Any] = []

        def one(tensor: Any) -> Any:
            i = len(sent)
            if i == len(berth.tensors):
                berth.tensors.append(self._cuda.pinned(tensor))
            elif _unlike(berth.tensors[i], tensor):
                berth.tensors[i] = self._cuda.pinned(tensor)
            berth.tensors[i].copy_(tensor)
            sent.append(self._cuda.send(berth.tensors[i]))
            return sent[-1]

        there = mapped(batch, one)
        berth.event = self._cuda.event()
        return Shipment(there, sent, berth.event)

    def receive(self, shipment: Shipment) -> Any:
        """Return a batch that the loop may use at once: its stream waits, the loop does not."""
        self._cuda.follow(shipment.event, shipment.tensors)
        return shipment.batch


def _unlike(a: Any, b: Any) -> bool:
    return bool(a.shape != b.shape or a.dtype != b.dtype)


def mapped(batch: Any, fn: Callable[[Any], Any]) -> Any:
    """Return `batch` with `fn` of each tensor in its place."""
    return fn(batch) if hasattr(batch, "copy_") else in_place(batch, partial(mapped, fn=fn))


class TorchCuda:
    """The real thing."""

    def __init__(self, device: str) -> None:
        """Take a stream of the device. Raises UsageError where there is none."""
        try:
            import torch
        except ImportError as error:
            raise MissingDependency.of("torch", "torch", f"device={device!r}") from error
        if not torch.cuda.is_available():
            raise UsageError(f"device={device!r}: torch {torch.__version__} sees no CUDA device here.")
        self._torch = torch
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)

    def pinned(self, like: Any) -> Any:
        """Return pinned memory for a tensor like this."""
        return self._torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def send(self, staged: Any) -> Any:
        """Begin to copy pinned memory to the device, on the side stream; return what will be there."""
        with self._torch.cuda.stream(self._stream):
            return staged.to(self._device, non_blocking=True)

    def event(self) -> Any:
        """Return an event that is over when all that was sent so far is there."""
        event = self._torch.cuda.Event()
        event.record(self._stream)
        return event

    def await_copy(self, event: Any) -> None:
        """Wait, in this thread, until an event is over."""
        event.synchronize()

    def follow(self, event: Any, sent: list[Any]) -> None:
        """Let the loop's stream wait for an event, and keep the memory of `sent` until the loop is done with it."""
        stream = self._torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for tensor in sent:
            tensor.record_stream(stream)


@contextmanager
def forwarded(batches: Iterator[Any], prepare: Callable[[Any], Any], most: int = AHEAD) -> Iterator[Iterator[Any]]:
    """Give what `prepare` makes of each of `batches`, in order, `most` of them ahead, by a thread of its own."""
    forwarder = _Forwarder(batches, prepare, most)
    forwarder.thread.start()
    try:
        yield iter(forwarder)
    finally:
        forwarder.close()


class _Forwarder:
    def __init__(self, batches: Iterator[Any], prepare: Callable[[Any], Any], most: int) -> None:
        self._batches = batches
        self._prepare = prepare
        self._most = most
        self._changed = threading.Condition()
        self._ready: deque[Any] = deque()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._forward, name="penstock-ship", daemon=True)

    def _forward(self) -> None:
        try:
            for batch in self._batches:
                if self._closed:
                    break
                self._put(self._prepare(batch))
                del batch
        except BaseException as error:  # noqa: BLE001 - it belongs to the loop
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, made: Any) -> None:
        with self._changed:
            while len(self._ready) >= self._most and not self._closed:
                self._changed.wait(RECHECK_S)
            if not self._closed:
                self._ready.append(made)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                while not self._ready and not self._ended and not self._closed:
                    self._changed.wait(RECHECK_S)
                if self._closed:
                    raise Cancelled("It was closed while batches were on their way to the device.")
                if not self._ready:
                    break
                made = self._ready.popleft()
                self._changed.notify_all()
            yield made
            del made
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self.thread.ident is not None:
            self.thread.join(RECHECK_S + 1.0)

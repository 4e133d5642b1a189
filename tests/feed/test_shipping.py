"""Batches onto a device: a fake whose misuse fails: memory that is read or written before its event is over."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from penstock import Feed
from penstock._feed import feed as feed_module
from penstock._feed.shipping import AHEAD, Ship, forwarded
from penstock.errors import UsageError


class Pinned:
    """Pinned memory: it may not be written while a copy from it is under way."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.array = np.zeros(shape, dtype)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.under_way: list[Event] = []

    def copy_(self, tensor: Any) -> None:
        assert all(event.over for event in self.under_way), "pinned memory is written while it is copied"
        self.under_way = []
        self.array[...] = np.asarray(tensor)


class OnDevice:
    """What was sent: it has its numbers only when the copy is done, and may be read only behind its event."""

    def __init__(self, source: Pinned) -> None:
        self.source = source
        self.array: Any = None
        self.followed: Event | None = None

    def read(self) -> Any:
        assert self.followed is not None, "a batch is read before its event"
        self.followed.finish()  # the loop's stream has waited for it
        return self.array


class Event:
    def __init__(self, cuda: FakeCuda, copies: list[OnDevice]) -> None:
        self.cuda = cuda
        self.copies = copies
        self.over = False

    def finish(self) -> None:
        for copy in self.copies:
            if copy.array is None:
                copy.array = copy.source.array.copy()
        self.over = True


class FakeCuda:
    """Copies are done when somebody waits for them, and not before: as late as may be."""

    def __init__(self) -> None:
        self.sent: list[OnDevice] = []
        self.pinned_made = 0
        self.waits = 0
        self.events: deque[Event] = deque()

    def pinned(self, like: Any) -> Pinned:
        self.pinned_made += 1
        return Pinned(tuple(like.shape), np.asarray(like).dtype)

    def send(self, staged: Pinned) -> OnDevice:
        self.sent.append(OnDevice(staged))
        return self.sent[-1]

    def event(self) -> Event:
        event = Event(self, self.sent)
        for copy in self.sent:
            copy.source.under_way.append(event)
        self.sent = []
        self.events.append(event)
        return event

    def await_copy(self, event: Event) -> None:
        self.waits += 1
        event.finish()

    def follow(self, event: Event, sent: list[OnDevice]) -> None:
        assert sent == event.copies, "memory of the batch is not kept for the loop's stream"
        for copy in sent:
            copy.followed = event


class Tensor(np.ndarray[Any, Any]):
    """An array that counts as a tensor."""

    copy_ = None


def tensor(values: Any) -> Any:
    return np.asarray(values).view(Tensor)


def batches(n: int) -> list[Any]:
    return [{"x": tensor(np.full((2, 3), k, np.float32)), "y": [tensor([k, k + 1]), "name"]} for k in range(n)]


def test_batches_arrive_as_they_were_and_pinned_memory_is_used_again() -> None:
    cuda = FakeCuda()
    ship, waiting, got = Ship(cuda), deque[Any](), []
    for batch in batches(10):
        waiting.append(ship.send(batch))
        if len(waiting) > AHEAD:
            got.append(ship.receive(waiting.popleft()))
    got += [ship.receive(shipment) for shipment in waiting]
    assert [found["x"].read()[0, 0] for found in got] == list(range(10))
    assert [found["y"][0].read().tolist() for found in got] == [[k, k + 1] for k in range(10)]
    assert all(found["y"][1] == "name" for found in got)
    assert cuda.pinned_made == 2 * (AHEAD + 1)


def test_a_batch_of_another_shape_gets_other_pinned_memory() -> None:
    cuda = FakeCuda()
    ship = Ship(cuda)
    for n in (4, 4, 4, 2, 4):
        assert ship.receive(ship.send([tensor(np.ones(n))]))[0].read().shape == (n,)
    assert cuda.pinned_made == 3 + 1


def test_a_fake_notices_a_slot_that_is_used_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: without waiting for the event, or without following it."""
    cuda = FakeCuda()
    ship = Ship(cuda)
    cuda.await_copy = lambda event: None  # type: ignore[method-assign]
    shipments = [ship.send([tensor(np.ones(2))]) for _ in range(AHEAD + 1)]
    with pytest.raises(AssertionError, match="written while it is copied"):
        ship.send([tensor(np.ones(2))])
    with pytest.raises(AssertionError, match="read before its event"):
        shipments[0].batch[0].read()


def test_a_feed_to_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    cuda = FakeCuda()
    monkeypatch.setattr(feed_module, "TorchCuda", lambda device: cuda)
    with Feed([np.full(3, k) for k in range(40)], 4, device="cuda:1", workers=2, kind="thread") as feed:
        got = [batch.read()[:, 0].tolist() for batch in feed]
        stream = iter(feed)
        next(stream).read()
    with Feed([np.full(3, k) for k in range(40)], 4, workers=0) as feed:
        assert got == [batch[:, 0].tolist() for batch in feed]


def test_a_device_that_is_not_there_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with Feed(range(4), 2, device="cuda", workers=1) as feed, pytest.raises(UsageError, match="sees no CUDA device"):
        next(iter(feed))


def test_forwarded_goes_ahead_so_far_and_no_further() -> None:
    made: list[int] = []
    enough = threading.Semaphore(0)

    def prepare(value: int) -> int:
        made.append(value)
        enough.release()
        return -value

    with forwarded(iter(range(100)), prepare) as ready:
        for _ in range(AHEAD + 1):
            assert enough.acquire(timeout=20)
        assert not enough.acquire(timeout=0.05)
        assert [next(ready), next(ready)] == [0, -1]
        assert next(ready) == -2
    assert len(made) <= 3 + AHEAD + 1
    with forwarded(iter(range(3)), prepare) as ready:
        assert list(ready) == [0, -1, -2]


def test_what_goes_wrong_ahead_is_raised_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with forwarded(broken(), lambda value: value) as ready:
        assert next(ready) == 1
        with pytest.raises(OSError, match="gone"):
            next(ready)

"""Session.submit: every future is resolved exactly once, batches form across callers, the queue is bounded."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock import errors
from penstock._engine import inlet as inlet_module
from penstock._engine.sizing import Window

WAIT_S = 20.0
AT_ONCE = penstock.Batching(max_size=8, max_wait_s=0.0)


def doubled(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


@contextmanager
def windows_of(n: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock._session._window", lambda pipeline: Window(n, n))
        yield


class Gated:
    """A model that stands still until its gate is opened; says when it is in, and what it has seen."""

    def __init__(self) -> None:
        self.gate, self.inside = threading.Event(), threading.Event()
        self.seen: list[int] = []

    def warm(self, session: penstock.Session) -> None:
        """Let one item through, after which the session takes more than one batch at once."""
        self.gate.set()
        session.submit(-1).result(WAIT_S)
        self.gate.clear()
        self.inside.clear()
        self.seen.clear()

    def __call__(self, batch: list[int]) -> list[int]:
        self.inside.set()
        assert self.gate.wait(WAIT_S), "the test never opened the gate"
        self.seen.extend(batch)
        return doubled(batch)


@pytest.fixture
def gated() -> Iterator[Gated]:
    model = Gated()
    yield model
    model.gate.set()


def in_threads(n: int, work: Callable[[int], None]) -> None:
    """Run work(0) to work(n - 1), each in a thread; raise what one of them raised."""
    broken: list[BaseException] = []

    def guarded(k: int) -> None:
        try:
            work(k)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            broken.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    if broken:
        raise broken[0]
    assert not any(thread.is_alive() for thread in threads)


# ---- results


@settings(max_examples=25)
@given(n=st.integers(0, 80), batch=st.integers(1, 20), window=st.integers(1, 70), own=st.booleans())
def test_submit_and_map_equal_a_plain_loop(n: int, batch: int, window: int, own: bool) -> None:
    stage = penstock.Workers(abs, 2) if own else abs
    batching = penstock.Batching(max_size=batch, max_wait_s=0.0)
    with windows_of(window), penstock.Session(doubled, stages=[stage], batch=batching, threads=2) as session:
        futures = [session.submit(-x, WAIT_S) for x in range(n)]
        assert list(session.map(range(0, -n, -1))) == [2 * x for x in range(n)]
        assert [future.result(WAIT_S) for future in futures] == [2 * x for x in range(n)]
        flows = session.statistics().flows
        assert all(flow.most_in_flight <= max(window, 1) for flow in flows)


def test_map_and_submit_at_once_keep_apart() -> None:
    with penstock.Session(doubled, batch=AT_ONCE, threads=2) as session:
        results = session.map(iter(range(500)))
        futures = [session.submit(x, WAIT_S) for x in range(1000, 1500)]
        assert list(results) == [2 * x for x in range(500)]
        assert [future.result(WAIT_S) for future in futures] == [2 * x for x in range(1000, 1500)]


def test_post_is_given_the_number_of_the_request() -> None:
    with penstock.Session(doubled, post=lambda item, output: (item.id, output), batch=AT_ONCE) as session:
        assert [session.submit(x).result(WAIT_S) for x in (5, 6)] == [(0, 10), (1, 12)]


def test_model_file_on_paths_bytes_and_arrays(shared_data: Path) -> None:
    path = min((shared_data / "photos" / "flowers").rglob("*.jpg"))
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    items = [str(path), path, path.read_bytes(), penstock.decode(path)]
    with penstock.Session(model, preset="inception", runtime="onnxruntime") as session:
        futures = [session.submit(item) for item in items]
        assert [future.result(WAIT_S) for future in futures] == list(session.map(items))


# ---- batches


def test_batches_form_across_callers() -> None:
    sizes: list[int] = []
    start = threading.Barrier(8)

    def model(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return doubled(batch)

    with penstock.Session(model, batch=penstock.Batching(max_size=8, max_wait_s=60.0)) as session:

        def call(k: int) -> None:
            for turn in range(5):
                start.wait(WAIT_S)
                assert session.submit(8 * turn + k).result(WAIT_S) == 2 * (8 * turn + k)

        in_threads(8, call)
    assert sizes == [8] * 5  # and none waited the 60 s that a batch may wait for the eighth


@pytest.mark.parametrize("batching", [penstock.Batching(1, 60.0), penstock.Batching(8, 0.0)])
def test_a_single_request_does_not_wait_where_nothing_can_join_it(batching: penstock.Batching) -> None:
    with penstock.Session(doubled, batch=batching) as session:
        assert [session.submit(x).result(WAIT_S) for x in range(5)] == [0, 2, 4, 6, 8]


# ---- the bounded queue


def test_a_full_queue_is_overloaded(gated: Gated) -> None:
    with windows_of(8), penstock.Session(gated, batch=4) as session:
        futures = [session.submit(x) for x in range(4)]  # one batch: a slow start
        with pytest.raises(errors.Overloaded, match=r"after \S+ s: 4 are in flight, the limit is 4.*timeout_s="):
            session.submit(4, timeout_s=0.0)
        with pytest.raises(errors.Overloaded, match=r"after 0\.\d+ s"):
            session.submit(4, timeout_s=0.01)
        assert session.statistics().requests.overloaded == 2
        gated.gate.set()
        futures += [session.submit(x, WAIT_S) for x in range(4, 40)]
        assert [future.result(WAIT_S) for future in futures] == doubled(list(range(40)))
        assert session.statistics().requests.admitted == 40
        assert max(flow.most_in_flight for flow in session.statistics().flows) <= 8


def test_who_waits_for_room_gets_it_when_there_is_some(gated: Gated) -> None:
    with windows_of(1), penstock.Session(gated, batch=1) as session:
        first = session.submit(0)
        assert gated.inside.wait(WAIT_S)
        got: dict[int, int] = {}

        def call(k: int) -> None:
            if k == 8:
                gated.gate.set()
            got[k] = session.submit(k).result(WAIT_S)

        in_threads(9, call)
        assert first.result(WAIT_S) == 0
        assert got == {k: 2 * k for k in range(9)}


def test_a_callback_that_finds_the_queue_full_does_not_wait_for_itself(gated: Gated) -> None:
    caught: Future[BaseException] = Future()
    with windows_of(1), penstock.Session(gated, batch=1) as session:

        def again(_: Future[int]) -> None:
            try:
                session.submit(2)
            except errors.Overloaded as error:
                caught.set_result(error)

        session.submit(1).add_done_callback(again)
        gated.gate.set()
        assert isinstance(caught.result(WAIT_S), errors.Overloaded)
        assert session.submit(3).result(WAIT_S) == 6


# ---- cancelling


def test_a_cancelled_item_is_not_seen_by_the_model(gated: Gated) -> None:
    with penstock.Session(gated, batch=penstock.Batching(4, 0.0)) as session:
        gated.warm(session)
        futures = [session.submit(0)]
        assert gated.inside.wait(WAIT_S)
        futures += [session.submit(x) for x in range(1, 8)]
        assert not futures[0].cancel()  # a worker has begun with it
        assert futures[5].cancel()
        gated.gate.set()
        done, waiting = wait(futures, WAIT_S)
        assert (len(done), len(waiting)) == (8, 0)
        assert [f.result(0) for f in futures if not f.cancelled()] == [0, 2, 4, 6, 8, 12, 14]
        assert sorted(gated.seen) == [0, 1, 2, 3, 4, 6, 7]
    requests = session.statistics().requests
    assert (requests.admitted, requests.done, requests.cancelled, requests.failed) == (9, 8, 1, 0)


def test_every_future_of_many_is_resolved_exactly_once() -> None:
    """10,000 from 64 threads, cancelled at random."""
    heard: Counter[int] = Counter()
    futures: dict[int, Future[int]] = {}
    lock, each = threading.Lock(), 10_000 // 64 + 1

    def hear(x: int) -> None:
        with lock:
            heard[x] += 1

    with penstock.Session(doubled, batch=AT_ONCE, threads=2) as session:

        def call(k: int) -> None:
            rng = random.Random(k)
            for x in range(k * each, (k + 1) * each):
                future = futures[x] = session.submit(x, WAIT_S)
                future.add_done_callback(lambda _, x=x: hear(x))  # type: ignore[misc]
                if rng.random() < 0.3:
                    futures[rng.randrange(k * each, x + 1)].cancel()

        in_threads(64, call)
        assert not wait(futures.values(), WAIT_S).not_done
    requests = session.statistics().requests
    assert heard == dict.fromkeys(range(64 * each), 1)
    assert all(future.cancelled() or future.result(0) == 2 * x for x, future in futures.items())
    cancelled = sum(future.cancelled() for future in futures.values())
    assert (requests.admitted, requests.done, requests.cancelled) == (64 * each, 64 * each - cancelled, cancelled)


# ---- failures


def test_an_item_that_fails_is_named_and_the_rest_goes_on() -> None:
    def model(batch: list[int]) -> list[int]:
        if 137 in batch:
            raise ValueError("no 137")
        return doubled(batch)

    with penstock.Session(model, batch=AT_ONCE) as session:
        futures = [session.submit(x, WAIT_S) for x in range(300)]
        with pytest.raises(errors.ItemError, match=r"item 137 failed in stage 'model': ValueError: no 137"):
            futures[137].result(WAIT_S)
        assert [f.result(WAIT_S) for x, f in enumerate(futures) if x != 137] == [2 * x for x in range(300) if x != 137]
        requests = session.statistics().requests
        assert (requests.done, requests.failed) == (299, 1)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_callback_that_raises_harms_nobody(gated: Gated, error: type[BaseException]) -> None:
    def broken(_: Future[int]) -> None:
        raise error("from a callback")

    with penstock.Session(gated, batch=AT_ONCE) as session:
        futures = [session.submit(x) for x in range(8)]
        for future in futures:
            future.add_done_callback(broken)
        gated.gate.set()
        assert [future.result(WAIT_S) for future in futures] == [2 * x for x in range(8)]
        assert session.submit(8).result(WAIT_S) == 16


def test_a_model_that_cannot_be_loaded_fails_every_request() -> None:
    class Broken:
        def load(self, device: str) -> None:
            raise OSError("no weights")

        def predict(self, batch: list[int]) -> list[int]:
            return batch

    def call(session: penstock.Session, x: int) -> int:
        return int(session.submit(x).result(WAIT_S))

    with penstock.Session(Broken()) as session:
        for x in range(3):
            with pytest.raises(errors.ModelError, match="no weights"):
                call(session, x)


# ---- closing


def test_what_was_submitted_is_done_when_the_session_is_left() -> None:
    with penstock.Session(doubled, batch=penstock.Batching(8, 60.0)) as session:
        futures = [session.submit(x) for x in range(13)]
    assert [future.result(0) for future in futures] == doubled(list(range(13)))


def test_futures_that_wait_when_the_session_is_closed_hear_of_it(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inlet_module, "DRAIN_S", 0.05)
    refused: list[BaseException] = []
    with windows_of(6), penstock.Session(gated, batch=6) as session:
        futures = [session.submit(x) for x in range(6)]
        assert gated.inside.wait(WAIT_S)

        def one_more(_: int) -> None:
            with pytest.raises(errors.Closed) as caught:
                session.submit(6)
            refused.append(caught.value)

        caller = threading.Thread(target=one_more, args=(0,))
        caller.start()
        futures[2].cancel()
        futures[-1].add_done_callback(lambda _: gated.gate.set())
        session.close()
        caller.join(WAIT_S)
    assert len(refused) == 1
    for x, future in enumerate(futures):
        with pytest.raises(errors.Cancelled, match=f"before item {x} was done"):
            future.result(0)
    assert session.statistics().requests.cancelled == 6
    assert not session.statistics().running


def test_a_callback_may_close_the_session(gated: Gated) -> None:
    closed = threading.Event()
    session = penstock.Session(gated, batch=1)

    def close(_: Future[int]) -> None:
        session.close()
        closed.set()

    future = session.submit(1)
    future.add_done_callback(close)
    gated.gate.set()
    assert closed.wait(WAIT_S)
    session.close()
    assert future.result(0) == 2


def test_closed_session_refuses() -> None:
    session = penstock.Session(doubled)
    session.submit(1).result(WAIT_S)
    session.close()
    with pytest.raises(errors.Closed, match="session is closed"):
        session.submit(1)
    with pytest.raises(errors.UsageError, match="timeout_s=-1"):
        session.submit(1, timeout_s=-1)


# ---- statistics


def test_statistics_have_latencies_and_counts() -> None:
    with penstock.Session(doubled, batch=AT_ONCE) as session:
        empty: Any = session.statistics()
        assert (empty.running, empty.requests.admitted, empty.requests.p99_s) == (False, 0, None)
        for x in range(100):
            session.submit(x).result(WAIT_S)
        requests = session.statistics().requests
        assert (requests.admitted, requests.done) == (100, 100)
        assert requests.p50_s is not None
        assert requests.p95_s is not None
        assert requests.p99_s is not None
        assert 0 < requests.p50_s <= requests.p95_s <= requests.p99_s < WAIT_S
        assert session.statistics().stages[0].steps[0].items == 100

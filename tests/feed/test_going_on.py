"""A feed goes on where its loop was, whatever interrupted it: nothing skipped, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from penstock import Feed
from penstock._feed.shipping import forwarded
from penstock.errors import Cancelled, Closed, ItemError, StageError, UsageError

pytestmark = pytest.mark.usefixtures("no_child_left")


class Once:
    """Fails the first time that it meets an item."""

    def __init__(self, item: int, error: type[BaseException]) -> None:
        self.item = item
        self.error: type[BaseException] | None = error

    def __call__(self, k: int) -> int:
        if k == self.item and self.error is not None:
            error, self.error = self.error, None
            raise error
        return k


def test_an_interrupted_loop_goes_on_with_the_batch_it_was_at() -> None:
    with Feed(range(10), 2, shuffle=False, transform=Once(5, KeyboardInterrupt), workers=0) as feed:
        seen: list[list[int]] = []
        with pytest.raises(KeyboardInterrupt):
            seen.extend(batch.tolist() for batch in feed)
        assert (feed.state_dict()["epoch"], feed.state_dict()["mark"]) == (0, 2)
        seen += [batch.tolist() for batch in feed]
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_what_collate_raises_does_not_end_the_epoch() -> None:
    failing = [True]

    def collate(samples: list[int]) -> list[int]:
        if 4 in samples and failing.pop():
            failing.append(False)
            raise ValueError("once")
        return samples

    with Feed(range(10), 2, shuffle=False, collate=collate, workers=0) as feed:
        stream = iter(feed)
        assert [next(stream), next(stream)] == [[0, 1], [2, 3]]
        with pytest.raises(StageError, match="once"):
            next(stream)
        assert list(feed) == [[4, 5], [6, 7], [8, 9]]


def test_a_state_after_a_bad_item_has_the_batch_that_the_loop_did_not_get(sets: Any) -> None:
    with Feed(sets.Faulty(10, {3: "raise"}), 2, shuffle=False, workers=0, on_error="raise") as feed:
        stream = iter(feed)
        next(stream)
        with pytest.raises(ItemError):
            next(stream)
        state = feed.state_dict()
        assert (state["mark"], state["beyond"]) == (1, [])
        next(stream)
        assert feed.state_dict()["beyond"] == [[2, 3]]


def test_steps_go_on_from_a_state_without_order() -> None:
    with Feed(range(16), 2, shuffle=False, workers=0, order=False) as feed:
        state = {**feed.state_dict(), "mark": 1, "beyond": [[2, 4]]}
        feed.load_state_dict(state)
        assert [batch.tolist()[0] // 2 for batch in feed.steps(3, 8)] == [1, 4, 5, 6, 7]


def test_steps_that_are_left_amid_do_not_bound_the_next_loop() -> None:
    with Feed(range(20), 2, workers=1, kind="thread") as feed:
        steps = feed.steps(0, 3)
        next(steps)
        assert [len(list(feed)) for _ in range(3)] == [9, 10, 10]
        stream = iter(feed)
        next(stream)
        with pytest.raises(Closed, match="Another loop"):
            next(steps)
        assert len(list(stream)) == 9


def test_failures_are_those_of_one_pass(sets: Any) -> None:
    with Feed(sets.Faulty(100, {7: "raise"}), 10, workers=0, max_failures=1) as feed:
        for _ in range(3):
            assert len(list(feed.epoch(0))) == 10
            assert len(feed.failures) == 1


def test_a_library_that_a_sample_imports_is_seeded_too(sets: Any) -> None:
    pytest.importorskip("torch")
    with Feed(range(8), 4, transform=sets.with_torch, workers=1, kind="process") as feed:
        first = [batch.tolist() for batch in feed.epoch(0)]
        assert [batch.tolist() for batch in feed.epoch(0)] == first


def test_a_data_set_that_opens_its_file_late_can_be_sent(sets: Any, tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(20)))
    with Feed(sets.Lazy(str(path)), 4, shuffle=False, kind="process") as feed:
        assert [batch.tolist() for batch in feed][-1] == [16, 17, 18, 19]
        assert feed.plan["kind"] == "process"


# ---- iterables


def test_samples_of_an_iterable_are_looked_at_where_it_can_be_read_again(sets: Any) -> None:
    with (
        Feed(sets.Numbers(20), 4, shuffle=False, transform=sets.shaken, workers=2, kind="thread") as feed,
        pytest.raises(UsageError, match="draw from random"),
    ):
        next(iter(feed))
    found = []
    for workers in (1, 2):
        with Feed(sets.Numbers(20), 4, shuffle=False, transform=sets.shaken, workers=workers) as feed:
            found.append([batch.tolist() for batch in feed])
            assert feed.plan["kind"] == "process"
    assert found[0] == found[1]
    with Feed(iter(range(8)), 4, shuffle=False) as feed:
        next(iter(feed))
        assert "can be read once only" in feed.plan["why"]


def test_a_rank_without_a_batch_and_an_epoch_at_its_end_are_empty(sets: Any) -> None:
    with Feed(sets.Numbers(4), 4, shuffle=False, rank=1, world_size=2, workers=0) as feed:
        assert [list(feed) for _ in range(3)] == [[], [], []]
    with Feed(sets.Numbers(4), 4, shuffle=False, workers=0) as feed:
        list(feed)
        stream = iter(feed)
        next(stream)
        state = feed.state_dict()
    with Feed(sets.Numbers(4), 4, shuffle=False, workers=0) as feed:
        feed.load_state_dict(state)
        assert list(feed) == []


def test_an_iterator_is_not_begun_twice() -> None:
    with Feed(iter(range(20)), 2, shuffle=False, workers=0) as feed:
        stream = iter(feed)
        next(stream)
        list(feed.replay(1))
        with pytest.raises(UsageError, match="read once only"):
            next(stream)


# ---- devices


def test_a_loop_that_waits_for_the_device_ends_when_it_is_closed() -> None:
    release, ended = threading.Event(), []

    def source() -> Iterator[int]:
        yield 1
        release.wait(20)
        yield 2

    def read(ready: Iterator[int]) -> None:
        try:
            list(ready)
        except Cancelled as error:
            ended.append(error)

    with forwarded(source(), lambda value: value) as ready:
        reading = threading.Thread(target=read, args=(ready,))
        reading.start()
        threading.Timer(0.1, release.set).start()
    reading.join(20)
    assert not reading.is_alive()
    release.set()

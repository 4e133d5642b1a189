"""States as torchdata promises them: in mid-epoch, at its end, after the last batch, over several epochs."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Feed
from penstock.errors import UsageError

N, SIZE = 22, 4
BATCHES = 6


def make(shuffle: bool, workers: int, **options: Any) -> Feed:
    return Feed(list(range(N)), SIZE, shuffle=shuffle, workers=workers, kind="thread" if workers else "auto", **options)


@pytest.fixture(params=[False, True], ids=["in order", "shuffled"])
def shuffle(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[0, 2], ids=["0 workers", "2 workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def epochs(shuffle: bool, workers: int, n: int) -> list[list[list[int]]]:
    with make(shuffle, workers) as feed:
        return [[batch.tolist() for batch in feed] for _ in range(n)]


@pytest.mark.parametrize("stop", range(1, BATCHES))
def test_mid_epoch(shuffle: bool, workers: int, stop: int) -> None:
    first, second = epochs(shuffle, workers, 2)
    with make(shuffle, workers) as feed:
        for _, _batch in zip(range(stop), feed, strict=False):
            pass
        state = feed.state_dict()
    with make(shuffle, workers) as feed:
        feed.load_state_dict(state)
        assert [batch.tolist() for batch in feed] == first[stop:]
        assert [batch.tolist() for batch in feed] == second


def test_a_state_stays_small_however_far_it_is(shuffle: bool, workers: int) -> None:
    with make(shuffle, workers) as feed:
        for i, _ in enumerate(feed, start=1):
            state = feed.state_dict()
            assert (state["mark"], state["beyond"], state["done"]) == (i, [], [])


def test_after_the_last_batch_the_rest_of_the_epoch_is_empty(shuffle: bool, workers: int) -> None:
    _, second = epochs(shuffle, workers, 2)
    state: dict[str, Any] = {}
    with make(shuffle, workers) as feed:
        for _ in feed:
            state = feed.state_dict()
    with make(shuffle, workers) as feed:
        feed.load_state_dict(state)
        assert list(feed) == []
        assert [batch.tolist() for batch in feed] == second


def test_at_the_end_of_an_epoch_the_next_one_follows(shuffle: bool, workers: int) -> None:
    _, second, third = epochs(shuffle, workers, 3)
    with make(shuffle, workers) as feed:
        list(feed)
        state = feed.state_dict()
    with make(shuffle, workers) as feed:
        feed.load_state_dict(state)
        assert [batch.tolist() for batch in feed] == second
        assert [batch.tolist() for batch in feed] == third


def test_several_epochs_with_a_stop_in_each(shuffle: bool, workers: int) -> None:
    """A resume of a resume stays exact."""
    whole = [batch for epoch in epochs(shuffle, workers, 4) for batch in epoch]
    got: list[list[int]] = []
    state = None
    while len(got) < len(whole):
        with make(shuffle, workers) as feed:
            if state is not None:
                feed.load_state_dict(state)
            for _, batch in zip(range(5), feed, strict=False):
                got.append(batch.tolist())
            state = feed.state_dict()
    assert got == whole


def test_before_the_first_batch(shuffle: bool, workers: int) -> None:
    (first,) = epochs(shuffle, workers, 1)
    with make(shuffle, workers) as feed:
        state = feed.state_dict()
    with make(shuffle, workers) as feed:
        feed.load_state_dict(state)
        assert [batch.tolist() for batch in feed] == first


def test_loading_again_goes_back(shuffle: bool, workers: int) -> None:
    """The state of the same feed, while it is at work."""
    (first,) = epochs(shuffle, workers, 1)
    with make(shuffle, workers) as feed:
        stream = iter(feed)
        next(stream)
        state = feed.state_dict()
        assert [batch.tolist() for batch in feed] == first[1:]
        feed.load_state_dict(state)
        assert [batch.tolist() for batch in feed] == first[1:]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"seed": 5}, "seed: 0, here 5"), ({"drop_last": True}, "drop_last: False, here True")],
)
def test_a_state_of_another_feed_is_refused(options: dict[str, Any], why: str) -> None:
    state = make(True, 0).state_dict()
    with pytest.raises(UsageError, match=why):
        make(True, 0, **options).load_state_dict(state)
    with pytest.raises(UsageError, match="items: 22, here 21"):
        Feed(list(range(21)), SIZE, workers=0).load_state_dict(state)
    with pytest.raises(UsageError, match="version"):
        make(True, 0).load_state_dict({**state, "version": 9})
    for wrong in ({"mark": "x"}, {"mark": -1}, {"beyond": [None]}, {"rank": 1}, {"done": [[0, 1.5]]}, {"epoch": None}):
        with pytest.raises(UsageError, match="This is no state of a feed"):
            make(True, 0).load_state_dict({**state, **wrong})
    with pytest.raises(UsageError, match="no state"):
        make(True, 0).load_state_dict([])

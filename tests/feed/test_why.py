"""What is said about where the time went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock import Feed
from penstock._feed.why import FeedStatistics, verdict
from penstock.errors import UsageError

BASE = FeedStatistics(
    epoch=3, batches=100, samples=1000, waited_s=6.0, loop_s=4.0, sample_s=19.0, workers=2, kind="thread", cpus=2
)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "Epoch 3: the loop waited 60% of the time for data (6 s of 10 s, 100 batches)."),
        ({}, "Slowest: samples, 19 ms an item in 2 thread workers on 2 CPUs."),
        ({}, "To gain at most: 2.50 times (the loop's own time"),
        ({"replay_s": 0.02}, "To gain at most: 5.00 times (replayed batches)"),
        ({}, "busy all the time: make samples cheaper, or try kind='process'"),
        ({"kind": "process"}, "busy all the time: make samples cheaper, or give them more CPUs"),
        ({"workers": 1, "sample_s": 9.0}, "Raise workers to 2."),
        ({"workers": 0}, "Give it workers"),
        ({"sample_s": 2.0}, "not busy all the time"),
        ({"sample_s": 1.0, "collate_s": 5.0}, "Slowest: collate, 5 ms an item"),
        ({"waited_s": 0.1}, "The feed keeps up"),
        ({"batches": 0}, "Nothing is known yet"),
    ],
)
def test_verdicts(changes: dict[str, Any], says: str) -> None:
    assert says in verdict(replace(BASE, **changes))


def test_a_feed_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "penstock")
    with Feed(range(40), 4, workers=0) as feed:
        assert "Nothing is known" in feed.why()
        list(feed)
        assert "the loop waited" in feed.why()
        s = feed.statistics()
        assert (s.epoch, s.batches, s.samples, s.failed, s.workers) == (0, 10, 40, 0, 0)
        assert s.sample_s > 0
    assert sum("Epoch 0: the loop waited" in record.getMessage() for record in caplog.records) == 1


def test_replayed_batches_give_the_ceiling() -> None:
    with Feed(range(40), 4, workers=1, kind="thread") as feed:
        with pytest.raises(UsageError, match="there was none yet"):
            next(feed.replay(3))
        stream = iter(feed)
        first, second = next(stream), next(stream)
        again = list(feed.replay(3))
        assert all(batch is second for batch in again)
        assert feed.statistics().replay_s > 0
        rest = list(stream)  # the epoch goes on where it was
    assert sorted(x for batch in [first, second, *rest] for x in batch.tolist()) == list(range(40))

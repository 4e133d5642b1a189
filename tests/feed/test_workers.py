"""What fails costs its item: an exception, a shape, a process that dies of it."""

from __future__ import annotations

import logging
from itertools import chain
from typing import Any

import pytest

from penstock import Feed
from penstock.errors import ItemError, StageError, UsageError

WAYS = [(0, "auto"), (2, "thread"), (2, "process")]
pytestmark = pytest.mark.usefixtures("no_child_left")


@pytest.mark.parametrize(("workers", "kind"), WAYS)
def test_an_item_that_raises_is_named_and_left_out(sets: Any, workers: int, kind: Any, caplog: Any) -> None:
    data = sets.Faulty(30, {7: "raise", 8: "raise", 12: "shape"})
    with Feed(data, 5, shuffle=False, workers=workers, kind=kind, max_failures=3) as feed:
        batches = [batch[1].tolist() for batch in feed]
        bad = feed.failures
        seen = feed.statistics()
        assert [batch[1].tolist() for batch in feed] == batches  # the next epoch
    assert batches[1:3] == [[5, 6, 9], [10, 11, 13, 14]]
    assert sorted(item for batch in batches for item in batch) == [k for k in range(30) if k not in (7, 8, 12)]
    assert [(one.item, one.type) for one in bad] == [(7, "ValueError"), (8, "ValueError"), (12, "ItemError")]
    assert "no sample 7" in bad[0].message
    assert "feed_sets.py" in bad[0].traceback
    assert "(3,) float64" in bad[2].message
    assert (seen.samples, seen.failed, seen.batches) == (27, 3, 6)
    assert any(
        record.levelno == logging.WARNING and "item 7: ValueError" in record.getMessage() for record in caplog.records
    )


@pytest.mark.parametrize(("workers", "kind"), WAYS)
def test_raise_ends_the_loop_with_the_item(sets: Any, workers: int, kind: Any) -> None:
    with Feed(sets.Faulty(30, {7: "raise"}), 5, shuffle=False, workers=workers, kind=kind, on_error="raise") as feed:
        stream = iter(feed)
        next(stream)
        with pytest.raises(ItemError, match=r"(?s)item 7: ValueError: no sample 7.*feed_sets.py"):
            next(stream)
        assert next(stream)[1].tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("allowed", "ok"), [(3, True), (2, False), ("10%", True), ("9%", False), (None, True), (0, False)]
)
def test_the_budget_is_of_one_epoch(sets: Any, allowed: Any, ok: bool) -> None:
    data = sets.Faulty(30, {3: "raise", 7: "raise", 25: "raise"})
    with Feed(data, 5, shuffle=False, workers=0, max_failures=allowed) as feed:
        if ok:
            assert [len(list(feed)) for _ in range(2)] == [6, 6]
        else:
            with pytest.raises(StageError, match=r"(?s)failed, more than .*First: item 3: ValueError"):
                list(feed)


def test_a_feed_of_which_all_fails_stops_soon(sets: Any) -> None:
    data = sets.Faulty(300, dict.fromkeys(range(300), "raise"))
    with (
        Feed(data, 5, workers=2, kind="thread", max_failures=None) as feed,
        pytest.raises(StageError, match="first 50"),
    ):
        list(feed)


def test_a_process_that_dies_costs_its_item(sets: Any) -> None:
    with Feed(
        sets.Faulty(40, {11: "die", 26: "die"}), 8, shuffle=False, workers=2, kind="process", max_failures=2
    ) as feed:
        batches = [batch[1].tolist() for batch in feed]
        bad = feed.failures
    assert list(chain(*batches)) == [k for k in range(40) if k not in (11, 26)]
    assert [(one.item, one.type) for one in bad] == [(11, "WorkerDied"), (26, "WorkerDied")]
    assert "SIGKILL" in bad[0].message


def test_a_worker_that_is_killed_once_costs_nothing(sets: Any, tmp_path: Any) -> None:
    data = sets.Once(40, str(tmp_path / "mark"), 13)
    with Feed(data, 8, shuffle=False, workers=2, kind="process") as feed:
        assert list(chain.from_iterable(batch.tolist() for batch in feed)) == list(range(40))
        assert feed.failures == []


@pytest.mark.parametrize(("workers", "kind"), WAYS)
def test_what_collate_raises_ends_the_loop(sets: Any, workers: int, kind: Any) -> None:
    with (
        Feed(sets.Squares(20), 4, collate=sets.refused, workers=workers, kind=kind) as feed,
        pytest.raises(
            StageError, match=r"collate failed on batch \d of epoch 0.*RuntimeError: cannot put this together"
        ),
    ):
        list(feed)


def test_draws_from_shared_generators(sets: Any, as_plain: Any) -> None:
    """Refused in threads; in processes seeded by item; "auto" takes processes."""
    kind: Any
    for workers, kind in ((0, "auto"), (2, "thread")):
        with (
            Feed(sets.Global(20), 4, workers=workers, kind=kind) as feed,
            pytest.raises(UsageError, match=r"numpy.random and random, which all threads share.*sample_rng"),
        ):
            next(iter(feed))
    found = []
    for workers in (1, 3):
        with Feed(sets.Global(20), 4, workers=workers, kind="auto") as feed:
            found.append([as_plain(batch) for batch in feed])
            assert feed.plan["kind"] == "process"
            assert "draw from numpy.random and random" in feed.plan["why"]
    assert found[0] == found[1]


def test_what_cannot_be_sent_to_a_process_is_refused(sets: Any) -> None:
    with (
        Feed(sets.Squares(20), 4, transform=lambda x: x, workers=1, kind="process") as feed,
        pytest.raises(UsageError, match=r"cannot be sent to one.*kind='thread'"),
    ):
        next(iter(feed))


def test_an_index_lies_in_one_memory_for_all_processes(sets: Any) -> None:
    import numpy as np

    with Feed(sets.Indexed(np.arange(1 << 20)), 512, shuffle=False, workers=2, kind="process") as feed:
        pids: set[int] = set()
        for _, who in feed:
            pids |= set(who.tolist())
            if len(pids) == 2:
                break
        private = [memory_of(pid) for pid in pids]
    assert len(pids) == 2
    assert max(private) < 1 << 20


def memory_of(pid: int) -> int:
    """Return the bytes of the shared index (8 MiB) that a process has copied for itself."""
    from pathlib import Path

    text = Path(f"/proc/{pid}/smaps").read_text()
    blocks = text.split("VmFlags")
    mine = [block for block in blocks if "memfd:penstock" in block and "Size:               8" in block]
    assert mine, "the index is not mapped"
    return sum(
        1024 * int(line.split()[1]) for block in mine for line in block.splitlines() if line.startswith("Private_Dirty")
    )

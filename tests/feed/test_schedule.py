"""Which items make up which batch: all of them once an epoch, in another order for each, whatever was asked before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock._feed.mixture import Mixture
from penstock._feed.schedule import Schedule


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.booleans(), st.booleans())
def test_an_epoch_has_each_item_once(n: int, size: int, epoch: int, shuffle: bool, drop_last: bool) -> None:
    schedule = Schedule(n, size, 3, shuffle=shuffle, drop_last=drop_last)
    batches = [schedule.batch(epoch, number) for number in range(schedule.batches)]
    items = [item for batch in batches for item in batch.items]
    assert all(batch.keys == batch.items and batch.which is None for batch in batches)
    assert len(set(items)) == len(items) == (n // size * size if drop_last else n)
    assert set(items) <= set(range(n))
    assert [len(batch.items) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    if not shuffle:
        assert items == list(range(len(items)))


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = [
        tuple(Schedule(50, 50, seed, shuffle=True, drop_last=False).batch(epoch, 0).items)
        for seed in (1, 2)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 6


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 49)), min_size=1, max_size=12))
def test_a_batch_is_the_same_whatever_was_asked_before(asked: list[tuple[int, int]]) -> None:
    used = Schedule(10_000, 200, 5, shuffle=True, drop_last=False)  # more than is computed at once
    for epoch, number in asked:
        fresh = Schedule(10_000, 200, 5, shuffle=True, drop_last=False)
        assert used.batch(epoch, number) == fresh.batch(epoch, number)


def test_items_of_a_mixture_have_keys_of_their_own() -> None:
    """An item that comes twice in an epoch draws other numbers each time."""
    schedule = Schedule(Mixture([3, 30], [1, 1], 0, shuffle=True), 8, 0, shuffle=True, drop_last=False)
    batches = [schedule.batch(0, number) for number in range(schedule.batches)]
    keys = [key for batch in batches for key in batch.keys]
    pairs = [pair for batch in batches for pair in zip(batch.which or [], batch.items, strict=True)]
    assert len(set(keys)) == len(keys) == 32
    assert len(set(pairs)) < 32

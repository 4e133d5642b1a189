"""How many: parcels follow the measured cost, the window bounds items and bytes (rule 6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.sizing import (
    FIRST_SLICE,
    HORIZON_S,
    PARCEL_BYTES,
    PARCEL_S,
    SLICE_S,
    Window,
    admission,
    first_slice,
    fits,
    share,
    smooth,
    window_items,
)

costs = st.floats(0.0, 10.0)
counts = st.integers(1, 10_000)


@given(st.floats(0.0, 1e9), st.floats(0.0, 1e9), counts, counts, counts)
def test_the_window_is_never_wider_than_its_bounds(
    rate: float, nbytes: float, least: int, more: int, max_bytes: int
) -> None:
    window = Window(least, least + more, max_bytes)
    allowed = window_items(window, rate, nbytes)
    assert 1 <= allowed <= window.max_items
    assert allowed == 1 or allowed * nbytes <= max_bytes


def test_the_window_follows_the_rate() -> None:
    window = Window(64, 1000, 1 << 30)
    assert window_items(window, 0.0, 0.0) == 64
    assert window_items(window, 400 / HORIZON_S, 0.0) == 400
    assert window_items(window, 1e9, 0.0) == 1000
    assert window_items(Window(64, 1000, 640), 1e9, 10.0) == 64
    assert window_items(Window(64, 1000, 5), 1e9, 10.0) == 1


def test_one_parcel_fits_whatever_its_size_if_nothing_else_is_there() -> None:
    assert fits(4, 0, 100)
    assert fits(4, 3, 1)
    assert not fits(4, 3, 2)


@given(costs, st.integers(1, 64), counts, st.integers(1, 64), st.floats(0.0, 1e9))
def test_what_enters_is_whole_blocks_and_leaves_parcels_for_every_worker(
    cost_s: float, block: int, allowed: int, workers: int, item_nbytes: float
) -> None:
    n = admission(cost_s, block, allowed, workers, item_nbytes)
    assert n >= block
    assert n % block == 0
    assert n == block or n * 2 * workers <= allowed
    assert n == block or n * cost_s <= PARCEL_S * 1.001
    assert n == block or n * item_nbytes <= PARCEL_BYTES * 1.001


def test_cheap_items_travel_together_and_expensive_ones_alone() -> None:
    assert admission(1e-6, 1, 16_384, 4, 0.0) == 2048
    assert admission(0.05, 1, 16_384, 4, 0.0) == 1
    assert admission(0.01, 1, 16_384, 4, 0.0) == 3
    assert admission(0.0, 8, 16_384, 4, 0.0) == 8


def test_large_items_travel_few_at_a_time() -> None:
    assert admission(1e-6, 1, 16_384, 4, 10e6) == 3
    assert admission(1e-6, 1, 16_384, 4, 1e9) == 1
    assert admission(1e-6, 8, 16_384, 4, 1e9) == 8


@given(costs, st.integers(1, 4), counts, counts, st.integers(1, 64))
def test_a_worker_takes_its_share(cost_s: float, steps: int, length: int, behind: int, workers: int) -> None:
    step_s = cost_s / steps
    n = share(cost_s, step_s, length, length + behind, workers)
    assert 1 <= n <= length
    if cost_s * length > SLICE_S:
        assert n <= max(1, -(-(length + behind) // workers))
        assert n == 1 or (n - 1) * step_s <= PARCEL_S


def test_of_an_expensive_parcel_a_worker_takes_one_item() -> None:
    assert share(0.05, 0.05, 31, 31, 16) == 1
    assert share(0.0, 0.0, 31, 31, 16) == 1  # unknown: as if expensive
    assert share(0.001, 0.001, 8, 8, 4) == 2  # 30 ms of it would be 30, but there are three others
    assert share(1e-6, 1e-6, 1000, 1000, 4) == 1000


def test_of_several_slow_steps_each_has_several_items_in_a_row() -> None:
    assert share(0.03, 0.01, 8, 100, 2) == 3
    assert share(0.03, 0.03, 8, 100, 2) == 1


def test_a_running_cost_moves_towards_the_newest() -> None:
    assert smooth(0.0, 2.0) == 2.0
    assert smooth(2.0, 4.0) == 2.5


@given(st.floats(0.0, 10.0))
def test_the_first_look_at_the_clock_is_after_a_millisecond_or_a_few_items(cost_s: float) -> None:
    n = first_slice(cost_s)
    assert n >= FIRST_SLICE
    assert n == FIRST_SLICE or n * cost_s <= SLICE_S

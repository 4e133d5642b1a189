"""What is saved from a stuck worker: every item once, where it was in its stage."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.rescue import Rescue, rescue
from penstock._engine.step import Step
from penstock._engine.watch import Held
from penstock._engine.work import Lease, Worker

N = 20


def stuck(begin: int = 8, end: int = 16, done: int = 3, place: int = 1, block: int | None = None) -> Held:
    """Return a worker stuck in the slice `begin` to `end` of a parcel of N items; values tell what was done to them."""
    flow = cast("Flow", SimpleNamespace(closed=False, tickets=None))
    parcel = Parcel(flow, 100, (100, N), range(N), range(N), [f"{x}" for x in range(N)])
    part = parcel if (begin, end) == (0, N) else parcel.part(begin, end)
    values = part.values if place == 0 else [f"{x} {place}" for x in range(begin, end)]
    lease = Lease(
        part, Step.of("model", len, block=block), values, [f"{x} out" for x in range(begin, begin + done)], 0.0
    )
    object.__setattr__(lease, "place", place)
    worker = Worker(0, 0, threading.current_thread(), lease=lease, parcel=parcel)
    worker.through = [f"{x} through" for x in range(begin)]
    return Held(worker, lease, done, 5.0)


def saved(held: Held, *, final: bool = False) -> Rescue:
    found = rescue(held, "it is stuck", final=final)
    assert found is not None
    return found


def shown(parcel: Parcel) -> tuple[list[int], list[Any], int, bool]:
    assert (
        list(parcel.items)
        == list(parcel.positions)
        == list(range(parcel.start - 100, parcel.start - 100 + len(parcel)))
    )
    assert parcel.origin == (100, N)
    assert parcel.failed == sum(type(value) is Failure for value in parcel.values)
    return list(parcel.positions), parcel.values, parcel.step, parcel.alone


def test_each_item_goes_on_where_it_was() -> None:
    held = stuck()
    found = saved(held)
    failure = Failure("model", "Stalled", "it is stuck")
    assert found.done is not None
    assert shown(found.done) == (list(range(8)), [f"{x} through" for x in range(8)], 0, False)
    assert [shown(piece) for piece in found.again] == [
        ([8, 9, 10, 11], ["8 out", "9 out", "10 out", failure], 2, False),
        ([12, 13, 14, 15], [f"{x} 1" for x in range(12, 16)], 1, False),
        ([16, 17, 18, 19], ["16", "17", "18", "19"], 0, False),
    ]
    assert found.lost == [(11, 11, failure)]
    assert held.worker.given_up
    assert held.lease.values == []  # so that it begins no other


@pytest.mark.parametrize("final", [False, True])
def test_of_a_batch_each_is_to_be_asked_alone_unless_nobody_will_ask(final: bool) -> None:
    found = saved(stuck(done=4, block=4), final=final)
    batch = [piece for piece in found.again if piece.alone]
    if final:
        assert batch == []
        assert [position for position, _, _ in found.lost] == [12, 13, 14, 15]
        assert found.alone == 0
    else:
        assert [shown(piece) for piece in batch] == [([12, 13, 14, 15], [f"{x} 1" for x in range(12, 16)], 1, True)]
        assert (found.lost, found.alone) == ([], 4)


def test_of_a_batch_with_one_live_item_that_is_the_culprit() -> None:
    held = stuck(done=4, block=4)
    earlier = Failure("decode", "E", "broken")
    held.lease.values[4:7] = [earlier] * 3
    found = saved(held)
    assert [(position, failure.type) for position, _, failure in found.lost] == [(15, "Stalled")]
    assert found.again[0].values[4:7] == [earlier] * 3


def test_of_those_asked_alone_the_rest_is_asked_alone_too() -> None:
    held = stuck(done=1, block=4, end=12, place=0)
    held.lease.part.alone = True
    found = saved(held)
    assert [position for position, _, _ in found.lost] == [9]
    assert [shown(piece)[2:] for piece in found.again] == [(1, False), (0, True), (0, False)]


def test_the_inputs_of_the_first_step_are_saved_before_they_are_cut() -> None:
    found = saved(stuck(0, N, done=5, place=0))
    assert [shown(piece)[:2] for piece in found.again][1] == (list(range(6, N)), [f"{x}" for x in range(6, N)])


def test_a_worker_that_has_moved_is_left_alone() -> None:
    held = stuck()
    held.lease.out.append("11 out")
    assert rescue(held, "", final=False) is None
    assert not held.worker.given_up
    assert len(held.lease.values) == 8


def test_a_worker_that_moves_at_that_moment_loses_nothing() -> None:
    """What it is at is asked again."""
    held = stuck()

    class Moving(list[Any]):
        def clear(self) -> None:
            super().clear()
            held.lease.out.append("11 out")

    object.__setattr__(held.lease, "values", Moving(held.lease.values))
    found = saved(held)
    assert found.lost == []
    assert [shown(piece)[0] for piece in found.again] == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]


def test_of_a_closed_flow_nothing_is_saved() -> None:
    held = stuck()
    held.lease.part.flow.closed = True
    assert saved(held) == Rescue()
    assert held.worker.given_up


@given(st.data())
def test_no_item_is_lost_or_doubled(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, N - 1))
    end = data.draw(st.integers(begin + 1, N))
    done = data.draw(st.integers(0, end - begin))
    block = data.draw(st.sampled_from([None, 1, 3, 4, N]))
    found = saved(stuck(begin, end, done, data.draw(st.integers(0, 2)), block), final=data.draw(st.booleans()))
    parcels = ([found.done] if found.done is not None else []) + found.again
    assert [position for parcel in parcels for position in shown(parcel)[0]] == list(range(N))

"""Values in slots: bit for bit, large arrays in place, and never what was written for another request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from penstock._engine import messages
from penstock._engine.messages import Failed, pack, place_of, read, slot_and_offset, write
from penstock._engine.slots import MIB, Purse, Slot
from penstock.errors import ItemError, ModelError, PenstockError


@pytest.fixture
def slots() -> Iterator[dict[int, Slot]]:
    purse = Purse(100 * MIB)
    made = {}
    for number in (0, 7):
        found = Slot.made(4 * MIB, purse)
        assert found is not None
        made[number] = found[0]
        os.close(found[1])
    yield made
    for slot in made.values():
        slot.close()


def sent(slots: dict[int, Slot], value: Any, *, copied: bool = False) -> Any:
    end = write(pack(value), slots[7], 7, 64, 5)
    assert end <= 64 + pack(value).nbytes
    return read(slots, place_of(7, 64), 5, copied=copied)


VALUES = [
    None,
    {"a": [1, 2.5, "three"], "b": b"x" * 5000},
    np.arange(10),
    np.arange(300_000, dtype=np.int32).reshape(3, 100_000),
    np.arange(8_000, dtype=">i4").reshape(2, 4, 1000),
    np.arange(3_000).astype("M8[s]"),
    np.full((1, 5000, 1), 1 + 2j, np.complex64),
    np.asfortranarray(np.random.default_rng(0).standard_normal((100, 200))),
    np.random.default_rng(1).standard_normal((100, 200))[::2, ::3],
    np.zeros((0, 3)),
    np.array(["text", None], dtype=object),
    np.zeros(1000, dtype=[("a", "u1"), ("b", "<f8")]),
]


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__ + str(getattr(value, "shape", "")))
def test_a_value_arrives_bit_for_bit(slots: dict[int, Slot], value: Any, copied: bool) -> None:
    found = sent(slots, value, copied=copied)
    np.testing.assert_array_equal(found, value)
    assert getattr(found, "dtype", None) == getattr(value, "dtype", None)
    for arrived in sent(slots, [value, value], copied=copied):
        np.testing.assert_array_equal(arrived, value)
        assert getattr(arrived, "dtype", None) == getattr(value, "dtype", None)


def test_a_large_array_is_a_view_with_a_lease_and_a_small_one_is_not(slots: dict[int, Slot]) -> None:
    small = sent(slots, np.arange(10))
    assert not slots[7].lent
    large = sent(slots, np.arange(10_000))
    assert slots[7].lent
    large += 1
    assert large[-1] == small[-1] + 9_991
    copy = sent(slots, np.arange(10_000), copied=True)
    del large
    assert not slots[7].lent
    assert copy[1] == 1


def test_what_was_written_for_another_request_is_an_error(slots: dict[int, Slot]) -> None:
    write(pack("old"), slots[0], 0, 0, generation=4)
    with pytest.raises(PenstockError, match="slot 0 holds request 4 where 5 was expected"):
        read(slots, place_of(0, 0), 5)


def test_an_array_that_lies_in_a_slot_is_not_copied(slots: dict[int, Slot]) -> None:
    mine = slots[0].lend(128, 8000).view(np.float64)
    mine[:] = 3.5
    packed = pack({"a": mine, "b": np.ones(1000)}, lambda b: place_of(0, 128) if b.nbytes == 8000 and b[7] else None)
    assert packed.places[0] == place_of(0, 128)
    write(packed, slots[7], 7, 0, 1)
    found = read(slots, place_of(7, 0), 1)
    mine[0] = 4.5
    assert found["a"][:2].tolist() == [4.5, 3.5]


def test_places() -> None:
    for place in [(0, 0), (3, 1), (1000, (1 << 40) - 1)]:
        assert slot_and_offset(place_of(*place)) == place


def test_tensors_travel_as_arrays(slots: dict[int, Slot]) -> None:
    torch = pytest.importorskip("torch")
    values = [torch.arange(5000), torch.ones(3000, dtype=torch.bfloat16), torch.ones(2, requires_grad=True)]
    found = sent(slots, values)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, values, strict=True))
    assert found[2].requires_grad
    assert slots[7].lent
    del found
    assert not slots[7].lent


class Odd(Exception):
    """It cannot be pickled: it takes more arguments than it keeps."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


def test_an_exception_becomes_data_and_an_exception_again() -> None:
    whole = messages.failed(ModelError("wrong"), whole=True)
    assert (whole.type, whole.message) == ("ModelError", "wrong")
    assert isinstance(messages.raised(whole), ModelError)
    odd = messages.raised(messages.failed(Odd(1, 2), whole=True))
    assert (type(odd).__name__, str(odd), isinstance(odd, ItemError)) == ("Odd", "1 and 2", True)
    assert messages.failed(ValueError(), whole=False) == Failed("ValueError", "ValueError()")
    assert messages.failed(Mute(), whole=False).message == "(no message: ValueError)"

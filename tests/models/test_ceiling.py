"""Out of memory is not a failure: smaller batches, each item answered once, larger ones tried again later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock._models.ceiling import FIRST_REGROWTH, Ceiling, Limit, bucket_of, is_out_of_memory
from penstock.errors import DeviceMemoryError, ItemError


class Small:
    """A model that has memory for `most` items at once, and notes the sizes of the batches it did."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sizes: list[int] = []
        self.tried = 0

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        self.tried += 1
        if len(batch) > self.most:
            raise MemoryError(f"no room for {len(batch)}")
        self.sizes.append(len(batch))
        return [-x for x in batch]


@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=30))
def test_every_item_is_answered_once_and_in_order(most: int, sizes: list[int]) -> None:
    model = Small(most)
    predict = Ceiling("m").under(model)
    for n in sizes:
        assert list(predict(list(range(n)))) == [-x for x in range(n)]
    assert sum(model.sizes) == sum(sizes)


def test_it_settles_at_what_fits() -> None:
    model, ceiling = Small(5), Ceiling("m")
    predict = ceiling.under(model)
    for _ in range(40 * FIRST_REGROWTH):
        predict(list(range(8)))
    assert ceiling.describe() == {"()": 5}
    assert model.tried - len(model.sizes) < 10  # it hardly ever runs out of memory again
    model.most = 8
    for _ in range(4000 * FIRST_REGROWTH):
        if ceiling.describe() == {"()": 8}:
            break
        predict(list(range(8)))
    assert ceiling.describe() == {"()": 8}


def test_a_failed_try_of_one_more_waits_twice_as_long() -> None:
    limit = Limit(4)
    assert limit.next == 4
    for _ in range(FIRST_REGROWTH):
        limit.fitted(4)
    assert limit.next == 5
    limit.failed(5)
    assert (limit.items, limit.next, limit.patience) == (4, 4, 2 * FIRST_REGROWTH)
    limit.failed(4)
    assert limit.items == 2


def test_shapes_have_ceilings_of_their_own() -> None:
    def model(batch: Sequence[Any]) -> list[int]:
        if sum(x.size for x in batch) > 40:
            raise MemoryError
        return [x.size for x in batch]

    ceiling = Ceiling("m")
    predict = ceiling.under(model)
    assert predict([np.zeros((2, 10))] * 8) == [20] * 8
    assert predict([np.zeros((1, 5))] * 8) == [5] * 8
    assert ceiling.describe() == {"(2, 10)": 2}
    assert bucket_of([np.zeros((1, 5)), np.zeros((2, 10)), 3]) == (2, 10)


def test_one_item_that_never_fits_does_not_make_batches_small() -> None:
    def model(batch: Sequence[int]) -> list[int]:
        if 99 in batch or len(batch) > 5:
            raise MemoryError
        return list(batch)

    ceiling = Ceiling("m")
    predict = ceiling.under(model)
    predict(list(range(8)))
    assert ceiling.describe() == {"()": 4}
    with pytest.raises(DeviceMemoryError):
        predict([1, 99])
    assert ceiling.describe() == {"()": 4}


def test_an_item_that_does_not_fit_alone_is_its_own_failure() -> None:
    with pytest.raises(DeviceMemoryError, match=r"one item alone \(\(3, 4\)\)"):
        Ceiling("m").under(Small(0))([np.zeros((3, 4))])


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: while allocating"), True),
        (ValueError("bad value"), False),
    ],
)
def test_what_means_that_memory_ran_out(error: Exception, meant: bool) -> None:
    assert is_out_of_memory(error) is meant
    wrapped = ItemError("m failed on (8, 3)")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) is meant


def test_a_run_goes_on_in_smaller_batches(tmp_path: Path) -> None:
    sizes: list[int] = []

    def model(batch: list[int]) -> list[int]:
        if len(batch) > 5:
            raise MemoryError(f"no room for {len(batch)}")
        sizes.append(len(batch))
        if 3 in batch and len(batch) == 1:
            raise MemoryError("3 never fits")
        if 3 in batch:
            raise MemoryError("3 never fits")
        return batch

    report = penstock.run(range(40), model, out=tmp_path / "o.jsonl", batch=8)
    assert (report.done, report.failed) == (39, 1)
    assert report.failures[0]["type"] == "DeviceMemoryError"
    assert max(sizes) <= 5
    assert report.plan["memory_ceilings"] == {"()": 2}  # 0 and 1 fitted before 3 was found to be to blame
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["output"] for row in rows] == [x for x in range(40) if x != 3]

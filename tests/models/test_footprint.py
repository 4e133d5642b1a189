from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from penstock._contracts import Predict
from penstock._devices import MemoryUse
from penstock._models.footprint import SLACK_BYTES, BytePlan, exceeded, measured, megabytes
from penstock.errors import DeviceMemoryError, UsageError

MB = 1_000_000
PLAN = BytePlan("net", "cpu", 900 * MB, 1, 50 * MB, 16, 1_000 * MB, 14_000 * MB)


def test_sixteen_callers_of_one_copy_take_its_weights_once() -> None:
    assert PLAN.planned_bytes == 1_000 * MB + 16 * 50 * MB
    assert replace(PLAN, copies=16).planned_bytes == 1_000 * MB + 15 * 900 * MB + 16 * 50 * MB
    assert str(PLAN) == (
        "memory: net on cpu: weights 900.0 MB x 1 copy, 50.0 MB a call x 16 at once, 1.0 GB in use already: "
        "1.8 GB of 14.0 GB"
    )
    assert PLAN.to_dict()["planned_bytes"] == PLAN.planned_bytes


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    PLAN.refuse_too_large()
    with pytest.raises(UsageError, match=r"weights 900\.0 MB x 16 copies.*: 15\.3 GB of 14\.0 GB"):
        replace(PLAN, copies=16).refuse_too_large()


def test_what_is_not_known_is_said() -> None:
    unknown = replace(PLAN, weights_bytes=None, call_bytes=None, copies=3)
    assert "weights unknown x 3 copies, calls unknown x 16 at once" in str(unknown)
    assert unknown.planned_bytes == unknown.in_use_bytes


def test_more_than_planned_is_told_where_it_is_more_than_a_little() -> None:
    planned = PLAN.planned_bytes
    assert exceeded([PLAN], planned, 0) == 0
    assert exceeded([PLAN], planned + SLACK_BYTES, 0) == 0
    assert exceeded([PLAN], planned * 2, 0) == planned
    assert exceeded([PLAN], planned * 2, planned) == 0  # what the items in flight hold is no surprise
    assert exceeded([PLAN], None, 0) == 0
    assert exceeded([PLAN, replace(PLAN, weights_bytes=None)], planned * 9, 0) == 0
    two = replace(PLAN, in_use_bytes=2_000 * MB)
    assert exceeded([PLAN, two], 9_000 * MB, 0) == 9_000 * MB - (2_000 + 800 + 800) * MB


class Hungry:
    """Takes 64 MB for a call."""

    name, concurrency, weights_bytes = "hungry", "concurrent", 7

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        yield lambda items: [np.ones(8 << 20).sum() for _ in items]

    def close(self) -> None: ...


def test_a_call_is_measured() -> None:
    plan = measured(Hungry(), "cpu", [0], 1, 1)
    assert plan.call_bytes is not None
    assert 60 * MB < plan.call_bytes < 100 * MB
    assert (plan.weights_bytes, plan.callers) == (7, 1)
    assert measured(Hungry(), "cpu", [], 1, 2).call_bytes is None


def test_a_device_with_memory_of_its_own_is_asked() -> None:
    class Elsewhere(Hungry):
        forgotten = 0

        def device_memory(self) -> MemoryUse:
            return MemoryUse(10, 10 + 5 * self.forgotten, 100)

        def forget_device_peak(self) -> None:
            self.forgotten += 1

    plan = measured(Elsewhere(), "cuda:0", [0], 1, 1)
    assert (plan.in_use_bytes, plan.limit_bytes, plan.call_bytes) == (10, 100, 0)


def test_megabytes() -> None:
    assert [megabytes(n) for n in (14_200_000, 23_400_000_000)] == ["14.2 MB", "23.4 GB"]


def test_a_batch_that_fails_ends_no_plan() -> None:
    class Small(Hungry):
        @contextmanager
        def worker(self) -> Iterator[Predict]:
            def predict(items: object) -> list[object]:
                raise DeviceMemoryError("too many")

            yield predict

    assert measured(Small(), "cpu", [0, 0], 1, 2).call_bytes is None

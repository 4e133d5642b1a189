"""The failure budget: what it allows, when it is spent, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._budget import HOPELESS, Budget
from penstock.errors import UsageError


@pytest.mark.parametrize(
    ("value", "budget"),
    [
        (None, Budget()),
        (0, Budget(items=0)),
        (20, Budget(items=20)),
        ("20", Budget(items=20)),
        (" 3 ", Budget(items=3)),
        ("1%", Budget(percent=1.0)),
        ("0.5 %", Budget(percent=0.5)),
        ("100%", Budget(percent=100.0)),
    ],
)
def test_what_is_given_is_understood(value: Any, budget: Budget) -> None:
    assert Budget.parse(value) == budget


@pytest.mark.parametrize("value", [-1, "-1", "101%", "-1%", "nan%", "inf%", "%", "", "many", 1.5, True, False, [3]])
def test_what_cannot_be_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="max_failures="):
        Budget.parse(value)


@example(57, 10_000)
@given(st.integers(0, 10_000), st.integers(1, 1_000_000))
def test_a_share_is_exact(hundredths: int, planned: int) -> None:
    """0.57 % of 10,000 are 57 and not 56, whatever floating point makes of it."""
    budget = Budget.parse(f"{hundredths // 100}.{hundredths % 100:02}%")
    assert budget.allowed(planned) == planned * hundredths // 10_000


@given(st.integers(0, 100), st.integers(0, 200), st.integers(0, 200))
def test_a_number_is_spent_by_one_more_failure(items: int, failed: int, done: int) -> None:
    assert (Budget(items=items).spent(failed, done, None) is not None) == (failed > items)


def test_the_reason_has_the_numbers() -> None:
    assert Budget(items=2).spent(3, 1197, 5000) == "3 of 1,200 items failed, more than the 2 that may."
    reason = Budget(percent=1.0).spent(13, 1187, 1200)
    assert reason == "13 of 1,200 items failed, more than the 12 (1 % of 1,200) that may."


def test_a_share_of_an_unknown_number_is_no_limit_yet() -> None:
    assert Budget(percent=1.0).allowed(None) is None
    assert Budget(percent=1.0).spent(1000, 0, None) is None


def test_without_a_budget_a_hopeless_start_ends_the_run() -> None:
    assert Budget().spent(HOPELESS - 1, 0, 1000) is None
    assert "all failed" in (Budget().spent(HOPELESS, 0, 1000) or "")
    assert Budget().spent(10_000, 1, 20_000) is None


def test_who_gives_a_budget_gets_no_other() -> None:
    assert Budget(items=1000).spent(HOPELESS, 0, 2000) is None
    assert Budget(percent=50.0).spent(HOPELESS, 0, 2000) is None

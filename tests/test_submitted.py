"""A request's future is resolved exactly once, whoever comes first: worker, closing session or caller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from penstock import errors
from penstock._contracts import Failure
from penstock._submitted import Submitted, Tally

FINISH = lambda request: request.finish(7, "value")
FAIL = lambda request: request.finish(7, Failure("model", "ValueError", "no"))
DROP = lambda request: request.drop(7, None)
LOSE = lambda request: request.drop(7, errors.ModelError("gone"))


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def request_(tally: Tally) -> Submitted:
    return Submitted(tally)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("end", "error", "counted"),
    [(FAIL, errors.ItemError, "failed"), (DROP, errors.Cancelled, "cancelled"), (LOSE, errors.ModelError, "failed")],
)
def test_an_end_without_a_value_is_raised(
    request_: Submitted, tally: Tally, end: Any, error: type[Exception], counted: str, begun: bool
) -> None:
    if begun:
        assert request_.begin()
    end(request_)
    with pytest.raises(error):
        request_.future.result(0)
    assert getattr(tally.statistics(), counted) == 1


@pytest.mark.parametrize("later", [FINISH, FAIL, DROP, LOSE])
@pytest.mark.parametrize("first", [FINISH, FAIL, DROP, LOSE])
def test_the_first_end_counts(request_: Submitted, tally: Tally, first: Any, later: Any) -> None:
    request_.begin()
    first(request_)
    outcome = (request_.future.exception(0), tally.statistics())
    later(request_)
    assert not request_.begin()
    assert (request_.future.exception(0), tally.statistics()) == outcome


@pytest.mark.parametrize("end", [Submitted.begin, FINISH, DROP])
def test_a_cancelled_request_stays_cancelled_and_who_waits_is_told(
    request_: Submitted, tally: Tally, end: Callable[[Submitted], Any]
) -> None:
    assert request_.future.cancel()
    end(request_)
    assert not request_.begin()
    assert wait([request_.future], 5).not_done == set()
    with pytest.raises(CancelledError):
        request_.future.result(0)
    assert tally.statistics().cancelled == 1


def test_a_begun_request_cannot_be_cancelled(request_: Submitted) -> None:
    assert request_.begin()
    assert request_.begin()  # its parcel went back and was taken again
    assert not request_.future.cancel()


def test_begin_and_drop_at_once_resolve_once(tally: Tally) -> None:
    for _ in range(300):
        request = Submitted(tally)
        start = threading.Barrier(2)
        heard: list[int] = []
        request.future.add_done_callback(lambda _, heard=heard: heard.append(1))  # type: ignore[misc]

        def work(request: Submitted = request, start: threading.Barrier = start) -> None:
            start.wait(5)
            if request.begin():
                request.finish(7, "value")

        worker = threading.Thread(target=work)
        worker.start()
        start.wait(5)
        request.drop(7, None)
        worker.join(5)
        assert heard == [1]
    counts = tally.statistics()
    assert counts.done + counts.cancelled == 300


def test_a_future_that_its_caller_resolved_is_left_alone(request_: Submitted, caplog: pytest.LogCaptureFixture) -> None:
    request_.begin()
    request_.future.set_result("mine")
    with caplog.at_level(logging.ERROR, "penstock"):
        request_.finish(7, "value")
    assert request_.future.result(0) == "mine"
    assert "item 7" in caplog.text


def test_no_exception_of_a_callback_comes_through(request_: Submitted, caplog: pytest.LogCaptureFixture) -> None:
    def leave(_: Any) -> None:
        raise SystemExit

    request_.future.add_done_callback(leave)
    request_.begin()
    request_.finish(7, "value")
    assert request_.future.result(0) == "value"
    assert "item 7: a callback" in caplog.text

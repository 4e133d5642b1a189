"""The last word on a run that cannot say anything: put off as long as there are signs of life."""

from __future__ import annotations

from typing import Any

import pytest

from penstock._telemetry import lifesign


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what is asked of faulthandler, and the time, which the test may change at place 0."""
    calls: list[Any] = [1000.0]

    class Fake:
        @staticmethod
        def dump_traceback_later(seconds: float, *, repeat: bool) -> None:
            calls.append((seconds, repeat))

        @staticmethod
        def cancel_dump_traceback_later() -> None:
            calls.append("cancelled")

        @staticmethod
        def monotonic() -> float:
            return float(calls[0])

    monkeypatch.setattr(lifesign, "faulthandler", Fake)
    monkeypatch.setattr(lifesign, "time", Fake)
    monkeypatch.setattr(lifesign, "_beaten_at", None)
    return calls


def test_a_library_does_not_touch_what_belongs_to_the_process(calls: list[Any]) -> None:
    lifesign.beat()
    lifesign.rest()
    assert calls[1:] == []


def test_it_is_put_off_now_and_then_and_rests_at_the_end(calls: list[Any]) -> None:
    lifesign.arm()
    for _ in range(100):
        calls[0] += lifesign.SILENT_S / 16 + 0.01
        lifesign.beat()
    assert calls[1:] == [(lifesign.SILENT_S, True)] * 50
    lifesign.rest()
    lifesign.rest()
    assert calls[51:] == ["cancelled"]
    lifesign.beat()
    assert calls[52:] == [(lifesign.SILENT_S, True)]

"""A log gets words, or JSON, as often as it can bear."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import pytest

from penstock._telemetry.lines import Lines
from penstock._telemetry.state import State, StepState


@pytest.mark.parametrize(
    ("as_json", "line"), [(False, "a\\x1bb\n"), (True, '{"event": "plan", "text": "a\\u001bb"}\n')]
)
def test_words_are_a_line_of_their_own(as_json: bool, line: str) -> None:
    stream = io.StringIO()
    Lines(stream, lambda: 0.0, as_json).say("a\x1bb")
    assert stream.getvalue() == line


def test_the_last_state_is_always_written() -> None:
    stream = io.StringIO()
    lines = Lines(stream, lambda: 0.0, as_json=False)
    lines.show(State(1, total=2))
    assert stream.getvalue() == "", "it is not yet time"
    lines.close(State(2, total=2, elapsed_s=3.0, ended=True))
    assert stream.getvalue() == "2/2, in 0:03, 0 failed\n"


def test_json_has_all_that_is_known_in_ascii() -> None:
    stream = io.StringIO()
    steps = (StepState("größe\udce9", 2, 0.5, 3, 0.01),)
    Lines(stream, lambda: 0.0, as_json=True).close(State(2, steps=steps, device_bytes={"cuda:0": 5}))
    assert stream.getvalue().isascii()
    event = json.loads(stream.getvalue())
    assert event["steps"] == [{"name": "größe\udce9", "workers": 2, "busy": 0.5, "queued": 3, "cost_s": 0.01}]
    assert (event["event"], event["done"], event["device_bytes"]) == ("progress", 2, {"cuda:0": 5})


def test_a_log_of_a_day_stays_readable_and_never_falls_silent() -> None:
    stream, written, now = io.StringIO(), [0.0], [0.0]
    lines = Lines(stream, lambda: now[0], as_json=False)
    for second in range(1, 86_400):
        before, now[0] = stream.tell(), float(second)
        lines.show(State(second))
        written += [now[0]] if stream.tell() > before else []
    assert len(written) < 1600
    assert max(later - earlier for earlier, later in pairwise(written)) <= 60

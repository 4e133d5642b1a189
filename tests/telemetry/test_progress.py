"""Progress shows what it was told, where it should, as often as it should, and never harms the run."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.statistics import FlowStatistics, PipelineStatistics, StageStatistics, StepStatistics
from penstock._printable import printable
from penstock._telemetry.progress import Mode, Progress
from penstock._telemetry.state import State


@dataclass
class Clock:
    """A clock that the test winds."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.fixture(autouse=True)
def terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def pipeline(items: int = 10, busy_s: float = 1.0, name: str = "model") -> PipelineStatistics:
    """Return what a pipeline is at that has done `items`, with two workers."""
    steps = (StepStatistics("decode", busy_s / 4, items, 0), StepStatistics(name, busy_s, items, 0))
    flow = FlowStatistics(items + 12, items, 12, 32, 64, 1000, 0.0)
    return PipelineStatistics((StageStatistics("all", 2, 5, (items, 0), steps),), (flow,))


def run(stream: io.StringIO, mode: Mode = "auto", seconds: int = 50, per_s: int = 20, already: int = 0) -> Progress:
    """Report a run of `seconds` seconds, four times a second, one failure in it."""
    clock = Clock()
    total = already + seconds * per_s
    with Progress(total, mode, already=already, stream=stream, clock=clock) as progress:
        for quarter in range(1, 4 * seconds + 1):
            clock.now_s += 0.25
            finished = quarter * per_s // 4
            progress.update(
                already + finished - (finished > 50), int(finished > 50), 0, pipeline(finished, quarter / 4)
            )
    return progress


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    run(stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "50/1,000, 20/s, 0:48 left, 0 failed, slowest: model"
    assert lines[-1] == "999/1,000, 20/s, in 0:50, 1 failed, slowest: model"
    assert 18 <= len(lines) <= 22
    assert all(line.isprintable() for line in lines)


def test_fast_runs_write_a_line_for_every_few_percent() -> None:
    stream = io.StringIO()
    run(stream, seconds=10, per_s=1000)
    assert len(stream.getvalue().splitlines()) == 11


def test_a_terminal_gets_a_panel() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    run(terminal)
    for part in (" 499/1,000", "20/s", "0:25 left", "999/1,000", "in 0:50", "1 failed", "decode", "in flight 12 of 64"):
        assert part in terminal.getvalue()


def test_a_panel_has_no_thread_of_its_own_and_is_not_drawn_more_often_than_four_times_a_second() -> None:
    pytest.importorskip("rich")
    before, terminal, clock = threading.active_count(), Terminal(), Clock()
    with Progress(1000, stream=terminal, clock=clock) as progress:
        for n in range(1000):
            clock.now_s += 0.01
            progress.update(n, 0)
        assert threading.active_count() == before
        assert 35 <= terminal.getvalue().count("0 failed") <= 40


def test_stdout_that_goes_to_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    out, terminal = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    with Progress(10, stream=terminal, clock=Clock()):
        print("a result")
    assert out.getvalue() == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_the_terminal_is_given_back_after_an_error() -> None:
    pytest.importorskip("rich")
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)

    def interrupted() -> None:
        with Progress(10, stream=terminal, clock=Clock()) as progress:
            progress.update(1, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (sys.stdout, sys.stderr) == streams
    assert terminal.getvalue().endswith("\r\n"), "the cursor is below the panel"
    assert "\x1b[?" not in terminal.getvalue(), "the cursor was never hidden: kill -9 could not bring it back"


@pytest.mark.parametrize("missing", ["rich", "cursor", "wish"])
def test_a_terminal_without_what_the_line_needs_gets_plain_lines(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "rich":
        monkeypatch.setitem(sys.modules, "rich", None)
    if missing == "cursor":
        monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    run(terminal, "plain" if missing == "wish" else "auto")
    assert "\x1b" not in terminal.getvalue()
    assert "50/1,000, 20/s" in terminal.getvalue()


def test_quiet_is_quiet() -> None:
    terminal = Terminal()
    run(terminal, "quiet")
    assert terminal.getvalue() == ""


def test_json_lines_carry_the_numbers() -> None:
    terminal = Terminal()
    run(terminal, "json", seconds=20)
    events = [json.loads(line) for line in terminal.getvalue().splitlines()]
    assert len(events) == 21
    assert events[9].pop("rss_bytes") > 1e6
    assert events[9] == {
        "event": "progress",
        "done": 199,
        "failed": 1,
        "skipped": 0,
        "total": 400,
        "rate_per_s": pytest.approx(20, rel=0.05),
        "eta_s": pytest.approx(10, rel=0.05),
        "elapsed_s": 10.0,
        "slowest": "model",
        "steps": [
            {"name": "decode", "workers": 2, "busy": 0.125, "queued": 5, "cost_s": 0.0125},
            {"name": "model", "workers": 2, "busy": 0.5, "queued": None, "cost_s": 0.05},
        ],
        "in_flight": 12,
        "window": 64,
        "device_bytes": {},
        "ended": False,
    }
    assert [event["ended"] for event in events] == [False] * 20 + [True]


def states(steps: Callable[[int], PipelineStatistics], seconds: int, every_s: int = 1) -> list[State]:
    """Return the states that a run shows each second in which an item finishes `every_s`, and the last one."""
    shown: list[State] = []

    class Display:
        def show(self, state: State) -> None:
            shown.append(state)

        say, close = None, show

    clock = Clock()
    with Progress(1000, "plain", stream=io.StringIO(), clock=clock) as progress:
        progress._display = Display()  # type: ignore[assignment]
        for second in range(1, seconds + 1):
            clock.now_s += 1.0
            progress.update(second // every_s, 0, 0, steps(second))
    return shown


def busy_of(state: State, name: str) -> float | None:
    return next(step.busy for step in state.steps if step.name == name)


def test_busy_is_of_the_last_seconds_and_in_the_end_of_all() -> None:
    """Both workers are busy for 50 s, and then for 50 s neither is."""
    shown = states(lambda second: pipeline(second, 2.0 * min(50, second)), 100)
    assert [busy_of(state, "model") for state in shown[9:50:10]] == [1.0] * 5
    assert busy_of(shown[51], "model") == pytest.approx(0.6)
    assert [busy_of(state, "model") for state in shown[55:100:11]] == [0.0] * 5
    assert busy_of(shown[100], "model") == pytest.approx(0.5)


def test_busy_is_calm_where_each_item_takes_long() -> None:
    """A worker tells of 30 s of work when it hands the item over; between, it looks idle."""
    shown = states(lambda second: pipeline(second // 30, 60.0 * (second // 30)), 600, every_s=30)
    seen = [busy_of(state, "model") or 0.0 for state in shown[299:]]
    assert min(seen) > 0.75
    assert seen[-1] == 1.0


def test_the_last_rate_is_that_of_the_whole_run() -> None:
    """40 items in 10 s, none in the next 10 s."""
    stream, clock = io.StringIO(), Clock()
    with Progress(100, "json", already=60, stream=stream, clock=clock) as progress:
        for second in range(20):
            clock.now_s += 1.0
            progress.update(60 + 4 * min(10, second + 1), 0)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["rate_per_s"], last["eta_s"], last["elapsed_s"]) == (pytest.approx(2.0), None, 20.0)


def test_what_earlier_runs_finished_is_no_part_of_the_rate() -> None:
    """Nor is the start-up, in which they are all there is."""
    stream, clock = io.StringIO(), Clock()
    with Progress(100_200, "json", already=100_000, stream=stream, clock=clock) as progress:
        for finished in (0, 0, 0, *range(20, 120, 20)):
            progress.update(100_000 + finished, 0)
            clock.now_s += 1.0
    last = json.loads(stream.getvalue().splitlines()[-2])
    assert (last["done"], last["rate_per_s"], last["eta_s"]) == (100_100, pytest.approx(20), pytest.approx(5))


def test_what_is_skipped_takes_no_time() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(100, "json", stream=stream, clock=clock) as progress:
        for second in range(1, 11):
            clock.now_s += 1.0
            progress.update(second, 0, skipped=50 if second > 5 else 0)
    last = json.loads(stream.getvalue().splitlines()[-2])
    assert (last["rate_per_s"], last["eta_s"]) == (pytest.approx(1.0), pytest.approx(40.0))


def test_nothing_is_said_about_what_is_not_known() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(None, "plain", stream=stream, clock=clock) as progress:
        progress.update(7, 0)
    assert stream.getvalue() == "7, in 0:00, 0 failed\n"


def test_a_total_may_come_later() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(None, "plain", stream=stream, clock=clock) as progress:
        progress.update(1, 0)
        clock.now_s += 1.0
        progress.total = 11
        progress.update(2, 0)
    assert stream.getvalue().splitlines()[0] == "2/11, 1.0/s, 0:09 left, 0 failed"


def test_names_cannot_command_the_terminal() -> None:
    pytest.importorskip("rich")
    name = "\x1b[2Jload\n[red]\u202efdp\udce9"
    for stream in (io.StringIO(), Terminal()):
        with Progress(10, stream=stream, clock=Clock()) as progress:
            progress.update(1, 0, 0, pipeline(name=name))
        assert r"\x1b[2Jload\n[red]\u202e" in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()


@given(st.text())
def test_printable_text_is_printable_and_plain_text_is_kept(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("grün/猫 1.jpg") == "grün/猫 1.jpg"


@pytest.mark.parametrize("mode", ["plain", "json"])
def test_a_broken_stream_ends_the_showing_and_not_the_run(mode: Mode) -> None:
    progress = run(Broken(), mode)
    assert isinstance(progress.error, BrokenPipeError)


def test_a_terminal_that_goes_away_is_given_back_all_the_same() -> None:
    pytest.importorskip("rich")
    terminal, streams, clock = Terminal(), (sys.stdout, sys.stderr), Clock()
    with Progress(10, stream=terminal, clock=clock) as progress:
        progress.update(1, 0)
        terminal.close()
        progress.update(2, 0)
    assert isinstance(progress.error, ValueError)
    assert (sys.stdout, sys.stderr) == streams

"""Progress shows what it was told, where it should, as often as it should, and never harms the run."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._printable import printable
from penstock._telemetry import progress as module
from penstock._telemetry.progress import Mode, Progress, duration, rate


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

    def frames(self) -> list[str]:
        """Return what was drawn, without the codes that move the cursor and give colours."""
        return [
            line for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.getvalue())) if line.strip()
        ]


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


def run(stream: io.StringIO, mode: Mode = "auto", seconds: int = 50, per_s: int = 20, already: int = 0) -> Progress:
    """Report a run of `seconds` seconds, four times a second, one failure in it."""
    clock = Clock()
    total = already + seconds * per_s
    with Progress(total, mode, already=already, stream=stream, clock=clock) as progress:
        for quarter in range(1, 4 * seconds + 1):
            clock.now_s += 0.25
            finished = quarter * per_s // 4
            progress.update(already + finished - (finished > 50), int(finished > 50), slowest="model")
    return progress


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    run(stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "50/1,000, 20/s, 0:48 left, 0 failed, slowest: model"
    assert lines[-1] == "999/1,000, 20/s, 1 failed, slowest: model"
    assert 18 <= len(lines) <= 22
    assert all(line.isprintable() for line in lines)


def test_a_log_of_a_day_stays_readable_and_never_falls_silent() -> None:
    stream, clock = io.StringIO(), Clock()
    written: list[float] = []
    with Progress(None, "plain", stream=stream, clock=clock) as progress:
        for second in range(1, 86_400):
            before = stream.tell()
            clock.now_s += 1.0
            progress.update(second, 0)
            written += [clock.now_s] if stream.tell() > before else []
    assert len(written) < 1600
    assert max(later - earlier for earlier, later in pairwise(written)) <= 60


def test_fast_runs_write_a_line_for_every_few_percent() -> None:
    stream = io.StringIO()
    run(stream, seconds=10, per_s=1000)
    assert len(stream.getvalue().splitlines()) == 10


def test_a_terminal_gets_one_line_that_stays() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    run(terminal)
    frames = terminal.frames()
    assert len(frames) > 100
    assert terminal.getvalue().count("\n") == 1
    for part in ("999/1,000", "20/s", "1 failed", "slowest: model"):
        assert part in frames[-1]
    assert any("499/1,000  20/s  0:25 left  1 failed" in frame for frame in frames)


def test_the_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    run(terminal, seconds=10)
    assert max(len(frame) for frame in terminal.frames()) <= 40
    assert terminal.getvalue().count("\n") == 1


def test_the_terminal_line_has_no_thread_of_its_own() -> None:
    pytest.importorskip("rich")
    before = threading.active_count()
    with Progress(10, stream=Terminal(), clock=Clock()) as progress:
        progress.update(1, 0)
        assert threading.active_count() == before


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
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


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


@pytest.mark.parametrize(
    ("mode", "line"), [("plain", "a\\x1bb\n"), ("json", '{"event": "plan", "text": "a\\u001bb"}\n')]
)
def test_words_are_a_line_of_their_own(mode: Mode, line: str) -> None:
    stream = io.StringIO()
    with Progress(None, mode, stream=stream) as progress:
        progress.say("a\x1bb")
        assert stream.getvalue() == line


def test_words_stand_above_the_line_of_a_terminal() -> None:
    stream = Terminal()
    with Progress(10, "auto", stream=stream) as progress:
        progress.update(1, 0)
        progress.say("memory: [red]a\x1b[31m of " + "x" * 100)
    assert "memory: [red]a\\x1b[31m of " + "x" * 100 in stream.getvalue()


def test_quiet_is_quiet() -> None:
    terminal = Terminal()
    run(terminal, "quiet")
    assert terminal.getvalue() == ""


def test_json_lines_carry_the_numbers() -> None:
    terminal = Terminal()
    run(terminal, "json", seconds=20)
    events = [json.loads(line) for line in terminal.getvalue().splitlines()]
    assert len(events) == 20
    assert events[9] == {
        "event": "progress",
        "done": 199,
        "failed": 1,
        "skipped": 0,
        "total": 400,
        "rate_per_s": pytest.approx(20, rel=0.05),
        "eta_s": pytest.approx(10, rel=0.05),
        "slowest": "model",
    }


def test_what_earlier_runs_finished_is_no_part_of_the_rate() -> None:
    """Nor is the start-up, in which they are all there is."""
    stream, clock = io.StringIO(), Clock()
    with Progress(100_200, "json", already=100_000, stream=stream, clock=clock) as progress:
        for finished in (0, 0, 0, *range(20, 120, 20)):
            progress.update(100_000 + finished, 0)
            clock.now_s += 1.0
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["done"], last["rate_per_s"], last["eta_s"]) == (100_100, pytest.approx(20), pytest.approx(5))


def test_what_is_skipped_takes_no_time() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(100, "json", stream=stream, clock=clock) as progress:
        for second in range(1, 11):
            clock.now_s += 1.0
            progress.update(second, 0, skipped=50 if second > 5 else 0)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["rate_per_s"], last["eta_s"]) == (pytest.approx(1.0), pytest.approx(40.0))


def test_nothing_is_said_about_what_is_not_known() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(None, "plain", stream=stream, clock=clock) as progress:
        progress.update(7, 0)
    assert stream.getvalue() == "7, 0 failed\n"


def test_a_total_may_come_later() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(None, "plain", stream=stream, clock=clock) as progress:
        progress.update(1, 0)
        clock.now_s += 1.0
        progress.total = 11
        progress.update(2, 0)
    assert stream.getvalue() == "2/11, 1.0/s, 0:09 left, 0 failed\n"


def test_names_cannot_command_the_terminal() -> None:
    pytest.importorskip("rich")
    name = "\x1b[2Jload\n[red]\u202efdp\udce9"
    written = r"\x1b[2Jload\n[red]\u202efdp\udce9"
    for stream in (io.StringIO(), Terminal()):
        with Progress(10, stream=stream, clock=Clock()) as progress:
            progress.update(1, 0, slowest=name)
        assert f"slowest: {written}" in stream.getvalue()
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (34.6, "0:35"), (3599.6, "1:00:00"), (3723, "1:02:03"), (183_845, "2 d 03:04:05")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("per_s", "text"), [(1234.4, "1,234/s"), (7.31, "7.3/s"), (0.04, "0.04/s")])
def test_rates(per_s: float, text: str) -> None:
    assert rate(per_s) == text


def test_it_looks_at_the_marks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that commits hundreds of times a second pays for ten looks; the last state is exact all the same."""
    looks: list[float] = []
    monkeypatch.setattr(module, "item_cost_s", lambda marks, now_s: looks.append(now_s))
    clock, stream = Clock(), io.StringIO()
    with Progress(5000, "json", stream=stream, clock=clock) as progress:
        for done in range(1, 1001):
            clock.now_s += 0.002
            progress.update(done, 0, slowest="model")
        assert 19 <= len(looks) <= 21
        progress.update(1001, 1)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["done"], last["failed"]) == (1001, 1)

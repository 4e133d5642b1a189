"""The panel on a terminal is drawn over itself alone, and nothing that anybody prints is lost."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from penstock._telemetry.progress import display_of
from penstock._telemetry.screen import Diversion, Screen
from penstock._telemetry.state import State, StepState

pytest.importorskip("rich")

CODE = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])")


class Terminal(io.StringIO):
    """A terminal that never scrolls: it obeys what the panel sends, and fails on what it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.row, self.column, self.writes = [""], 0, 0, 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes += bool(text)
        while text:
            code = CODE.match(text)
            if code:
                self._obey(*code.groups())
            else:
                self._put(text[0])
            text = text[code.end() if code else 1 :]
        return super().write(text)

    def _obey(self, number: str, letter: str) -> None:
        if letter == "A":
            self.row -= int(number or "1")
            assert self.row >= 0
        elif letter in "KJ":
            assert number == ""
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows = self.rows[: self.row + 1] if letter == "J" else self.rows
        else:
            assert letter == "m"

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":  # what the driver makes of it on the way to a real one
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        else:
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
            self.column += 1

    def seen(self) -> list[str]:
        """Return the rows that are not empty."""
        return [row.rstrip() for row in self.rows if row.strip()]


def state(done: int, steps: int = 2, ended: bool = False) -> State:
    rows = tuple(StepState(f"step {i}", 2, 0.5, 3, 0.004) for i in range(steps))
    return State(done, 0, 0, 100, 7.0, 10.0, 5.0, "step 0", rows, 12, 64, 500_000_000, {}, ended)


@pytest.fixture(autouse=True)
def terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@contextmanager
def shown(terminal: Terminal) -> Iterator[Screen]:
    """Let `terminal` be stdout and stderr, with a panel on it that is closed at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        screen = Screen(terminal)
        screen.show(state(1))
        try:
            yield screen
        finally:
            screen.close(state(100, ended=True))


def test_a_panel_is_drawn_over_the_one_before_in_one_write(terminal: Terminal) -> None:
    terminal.write("$ penstock run\n")
    with shown(terminal) as screen:
        first, writes = terminal.seen(), terminal.writes
        for done in range(2, 50):
            screen.show(state(done))
        assert terminal.writes == writes + 48
        assert len(terminal.seen()) == len(first) == 6
        assert [row.split()[0] for row in terminal.seen()] == ["$", "49/100", "step", "step", "step", "memory"]
        assert terminal.rows[terminal.row] == "", "the cursor is on an empty line"
        assert (terminal.row, terminal.column) == (1, 0)


def test_a_panel_that_gets_lower_leaves_nothing_behind(terminal: Terminal) -> None:
    with shown(terminal) as screen:
        screen.show(state(1, steps=9))
        screen.show(state(2, steps=1))
        assert len(terminal.seen()) == 4


def test_the_last_panel_stays_and_the_cursor_is_below_it(terminal: Terminal) -> None:
    with shown(terminal):
        pass
    assert "100/100" in terminal.seen()[0]
    assert "in 0:05" in terminal.seen()[0]
    assert (terminal.row, terminal.column) == (len(terminal.rows) - 1, 0)
    assert terminal.rows[terminal.row] == ""


def test_what_is_printed_stands_above_whole_and_in_order(terminal: Terminal) -> None:
    with shown(terminal):
        print("one", end=" ")
        print("line")
        sys.stderr.write("two\nthree\n")
        print("4", "[red]four[/red]", "\x1b[31mred", sep=", ")
        sys.stdout.writelines(["five", "\n"])
        assert terminal.seen()[:5] == ["one line", "two", "three", "4, [red]four[/red], red", "five"]
        assert terminal.seen()[5].split()[0] == "1/100"
        print("a question?", end="", flush=True)
        assert terminal.seen()[5] == "a question?"
        print("no end", end="")
    assert terminal.seen()[6] == "no end"
    assert len(terminal.seen()) == 12


def test_what_comes_past_the_panel_is_kept(terminal: Terminal) -> None:
    """A C library, or a worker process, writes where the cursor is."""
    with shown(terminal) as screen:
        for n in range(3):
            terminal.write(f"Corrupt JPEG data {n}\n")
            screen.show(state(n))
    assert terminal.seen()[:3] == [f"Corrupt JPEG data {n}" for n in range(3)]
    assert len(terminal.seen()) == 8


def test_loggers_that_know_the_old_stream_print_above(terminal: Terminal) -> None:
    logger = logging.getLogger("tests.telemetry.screen")
    handler = logging.StreamHandler(terminal)
    logger.addHandler(handler)
    try:
        with shown(terminal):
            logger.warning("first\nsecond\nthird")
            assert terminal.seen()[:3] == ["first", "second", "third"]
            assert terminal.seen()[3].split()[0] == "1/100"
        assert handler.stream is terminal
    finally:
        logger.removeHandler(handler)


def test_text_is_not_torn_where_threads_print(terminal: Terminal) -> None:
    lines = [[f"thread {t} line {n}" for n in range(50)] for t in range(4)]

    def talk(mine: list[str]) -> None:
        for line in mine:
            sys.stdout.write(line + "\n")

    with shown(terminal):
        threads = [threading.Thread(target=talk, args=(mine,)) for mine in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert sorted(terminal.seen()[:200]) == sorted(line for mine in lines for line in mine)
    assert len(terminal.seen()) == 205


def test_who_holds_the_lock_may_print_as_a_handler_of_signals_does_while_its_thread_draws(terminal: Terminal) -> None:
    with shown(terminal) as screen, screen.lock:
        print("a signal")
    assert terminal.seen()[0] == "a signal"


def test_a_fork_prints_by_itself(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(terminal):
        before = terminal.rows[2:]
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            print("from a child")
        assert terminal.seen()[0] == "from a child"
        assert terminal.rows[2:] == before, "nothing else is drawn"


def test_streams_are_given_back_and_those_who_kept_ours_can_go_on(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    screen, another = Screen(terminal), io.StringIO()
    kept = sys.stdout
    assert isinstance(kept, Diversion)
    assert kept.isatty()
    sys.stderr = another
    screen.close(state(1))
    assert sys.stdout is terminal
    assert sys.stderr is another, "what somebody else has put there meanwhile stays"
    kept.write("later\n")
    assert terminal.seen()[-1] == "later"


def test_half_a_line_is_not_lost_when_the_stream_is_given_back(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread may have printed it after the last panel."""
    monkeypatch.setattr(sys, "stdout", terminal)
    screen = Screen(terminal)
    print("half a line", end="")
    for diversion in screen._diversions:
        diversion.end()
    assert terminal.seen() == ["half a line"]


def test_another_terminal_and_a_file_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout of a pipe or of another terminal goes there; two files of one terminal are one."""
    ends = [end for _ in range(2) for end in os.openpty()]
    try:
        with (
            open(ends[1], "w", closefd=False) as stream,
            open(os.ttyname(ends[1]), "w") as same,
            open(ends[3], "w", closefd=False) as other,
        ):
            for stdout, diverted in ((same, True), (other, False), (io.StringIO(), False), (None, False)):
                monkeypatch.setattr(sys, "stdout", stdout)
                screen = Screen(stream)
                assert isinstance(sys.stdout, Diversion) == diverted
                screen.close(state(1))
                assert sys.stdout is stdout
    finally:
        for end in ends:
            os.close(end)


def test_a_second_run_on_the_terminal_gets_lines_above_the_first_ones_panel(terminal: Terminal) -> None:
    with shown(terminal):
        display = display_of("auto", sys.stderr, lambda: 0.0)
        assert display is not None
        display.close(state(50))
        assert terminal.seen()[0] == "50/100, 7.0/s, 0:10 left, 0 failed, slowest: step 0"
        assert terminal.seen()[1].split()[0] == "1/100"


def test_what_is_printed_is_not_lost_when_the_panels_terminal_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, printed = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    screen = Screen(stream)
    diversion = sys.stdout
    assert isinstance(diversion, Diversion)
    monkeypatch.setattr(diversion, "_file", printed)  # another file of the same terminal
    stream.close()
    print("still here")
    with pytest.raises(ValueError, match="closed file"):
        screen.close(state(1))
    assert printed.getvalue() == "still here\n"


@pytest.mark.parametrize(
    ("columns", "lines", "rows"), [(100, 30, 5), (40, 30, 6), (100, 6, 4), (100, 4, 2), (100, 3, 1), (100, 1, 1)]
)
def test_the_panel_follows_the_size_of_the_terminal(terminal: Terminal, columns: int, lines: int, rows: int) -> None:
    with shown(terminal) as screen:
        screen._console.size = (columns, lines)
        print("x")
        seen = terminal.seen()[1:]
        assert len(seen) == rows
        assert max(len(row) for row in seen) < columns


def test_names_and_words_cannot_command_the_terminal(terminal: Terminal) -> None:
    name = "\x1b[2Jload\n[red]\u202efdp\udce9"
    with shown(terminal) as screen:
        screen.show(State(1, total=2, steps=(StepState(name, 1, None, 0, None),)))
        screen.say(name)
    assert terminal.seen()[0] == r"\x1b[2Jload\n[red]\u202efdp\udce9"
    assert "\x1b[2J" not in terminal.getvalue()

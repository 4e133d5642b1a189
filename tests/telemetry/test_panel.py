"""The panel fits any terminal, says what is known, and its columns stay where they are."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._telemetry.panel import Line, cells, cells_of, panel
from penstock._telemetry.state import State, StepState

STEPS = (
    StepState("decode", 2, 0.31, 18, 0.0019),
    StepState("preprocess", 2, 0.04, None, 0.00026),
    StepState("flowers", 2, 0.63, None, 0.0042),
    StepState("describe", 1, 0.08, 7, 0.00051),
)
STATE = State(3120, 2, 0, 10_000, 212.3, 32.4, 14.8, "flowers", STEPS, 57, 64, 812_000_000, {"cuda:0": 1_234_000_000})


def texts(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def shown(state: State = STATE, width: int = 100, height: int = 20, *, plain: bool = False) -> list[str]:
    return texts(panel(state, width, height, plain=plain))


WIDE = """
 3,120/10,000  ━━━━━━━━━━━━────────────────────────────   31 %     212/s     0:32 left  2 failed
step        workers  busy                        queue                       an item
decode            2  ━━━━━━──────────────  31 %  ━━━━━╸──────────────    18   1.9 ms
preprocess        2  ╸───────────────────   4 %                               260 µs
flowers           2  ━━━━━━━━━━━━╸───────  63 %                               4.2 ms
describe          1  ━╸──────────────────   8 %  ━━──────────────────     7   510 µs
memory 812 MB   cuda:0 1.2 GB   in flight 57 of 64"""
USUAL = """
 3,120/10,000  ━━━━━━╸───────────────   31 %     212/s     0:32 left  2 failed
step        workers  busy                     queue                    an item
decode            2  ━━━━━────────────  31 %  ━━━━╸────────────    18   1.9 ms
preprocess        2  ╸────────────────   4 %                            260 µs
flowers           2  ━━━━━━━━━━╸──────  63 %                            4.2 ms
describe          1  ━────────────────   8 %  ━╸───────────────     7   510 µs
memory 812 MB   cuda:0 1.2 GB   in flight 57 of 64"""
NARROW = """
 3,120/10,000  ━━━━━────────────   31 %
   212/s     0:32 left  2 failed
step        busy         queue  an item
decode      ━╸───  31 %     18   1.9 ms
preprocess  ─────   4 %          260 µs
flowers     ━━━──  63 %          4.2 ms
describe    ─────   8 %      7   510 µs
memory 812 MB   cuda:0 1.2 GB"""


@pytest.mark.parametrize(("width", "text"), [(100, WIDE), (79, USUAL), (39, NARROW)])
def test_each_width_has_what_it_has_room_for(width: int, text: str) -> None:
    assert shown(width=width) == text.splitlines()[1:]


def test_plain_is_ascii() -> None:
    step = StepState("a name that is much too long for it", 1, 1.0, 64, 1.0)
    lines = shown(replace(STATE, steps=(step,)), 60, plain=True)
    assert all(line.isascii() for line in lines)
    assert "####" in lines[0]


def test_what_does_not_fit_in_height_is_left_out_the_least_important_first() -> None:
    head, steps = "3,120/10,000", "decode preprocess flowers describe"
    for height, words in ((7, f"step {steps} memory"), (6, f"{steps} memory"), (5, steps), (4, "decode flowers and")):
        assert [line.split()[0] for line in shown(height=height)] == [head, *words.split()]
    assert shown(height=4)[3] == "and 2 steps more"
    assert shown(height=2)[1:] == ["and 4 steps more"]
    assert len(shown(height=1)) == len(shown(height=-1)) == 1


def test_columns_stay_where_they_are_while_numbers_change() -> None:
    """Of a run of 10,000 from its start to its end: each bar begins and ends in the same cell."""
    idle = tuple(replace(step, busy=0.0, queued=step.queued and 0, cost_s=1e-5) for step in STEPS)
    busy = tuple(replace(step, busy=1.0) for step in STEPS)
    early = State(0, 0, 0, 10_000, None, None, 0.3, "", idle, window=32)
    late = replace(STATE, done=9900, failed=99, rate_per_s=1234.5, eta_s=3599.0, steps=busy)

    def bars(state: State) -> list[list[tuple[int, int]]]:
        return [[match.span() for match in re.finditer("[━╸─]+", line)] for line in shown(state, 100)]

    assert bars(early) == bars(STATE) == bars(late)


def test_all_is_only_said_of_all() -> None:
    assert " 99 %" in shown(replace(STATE, done=9_997))[0]
    assert "100 %" in shown(replace(STATE, done=9_998))[0]


def test_nothing_is_said_about_what_is_not_known() -> None:
    step = StepState("model", 2, None, 0, None)
    lines = shown(State(7, elapsed_s=65.0, steps=(step,), window=32))
    assert lines[0].split() == "7 for 1:05 0 failed".split()
    assert lines[2].split() == ["model", "2", "─" * 20, "0"]


def test_the_end_says_what_it_took() -> None:
    assert shown(replace(STATE, eta_s=None, ended=True))[0].split()[-5:] == "212/s in 0:15 2 failed".split()


def test_devices_are_added_up_where_there_is_no_room_for_each() -> None:
    state = replace(STATE, device_bytes={f"cuda:{i}": 1_000_000_000 for i in range(8)})
    assert shown(state, 180)[-1].count("cuda:") == 8
    assert shown(state, 79)[-1] == "memory 812 MB   8 devices 8.0 GB   in flight 57 of 64"


def test_failures_are_red_and_none_are_not() -> None:
    def style(failed: int) -> str:
        return next(style for text, style in panel(replace(STATE, failed=failed), 100, 9)[0] if "failed" in text)

    assert (style(0), style(1)) == ("dim", "red")


names = st.text(min_size=1, max_size=40)
counts = st.integers(0, 10**9)
shares = st.none() | st.floats(0, 1)
steps = st.builds(StepState, names, st.integers(1, 999), shares, st.none() | counts, st.none() | st.floats(0, 1e4))


@given(
    st.builds(
        State,
        counts,
        counts,
        counts,
        st.none() | counts,
        st.none() | st.floats(0, 1e6),
        st.none() | st.floats(0, 1e6),
        st.floats(0, 1e6),
        names,
        st.lists(steps, max_size=6).map(tuple),
        counts,
        counts,
        counts,
        st.dictionaries(names, counts, max_size=3),
        st.booleans(),
    ),
    st.integers(1, 140),
    st.integers(-1, 12),
    st.booleans(),
)
def test_any_run_fits_any_terminal(state: State, width: int, height: int, plain: bool) -> None:
    lines = panel(state, width, height, plain=plain)
    assert 1 <= len(lines) <= max(1, height)
    assert max(cells_of(line) for line in lines) <= width
    assert all("".join(text for text, _ in line).isprintable() for line in lines)


@pytest.mark.parametrize(("text", "n"), [("grün", 4), ("识别", 4), ("e\u0301", 1), ("", 0)])
def test_cells(text: str, n: int) -> None:
    assert cells(text) == n

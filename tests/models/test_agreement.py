from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from penstock._models.agreement import compare, difference


def array(*values: float) -> Any:
    return np.asarray(values, np.float32)


@pytest.mark.parametrize(
    ("row", "truth", "expected"),
    [
        (array(1, 2), array(1, 2), 0.0),
        (array(1, 2.5), array(1, 2), 0.25),
        (array(0, -4), array(0, -2), 1.0),
        (array(0, 0), array(0, 0), 0.0),
        (array(0, 1), array(0, 0), math.inf),
        (array(1, math.nan), array(1, math.nan), 0.0),
        (array(1, math.nan), array(1, 2), math.inf),
        (array(1, 2), array(1, math.nan), math.inf),
        (array(1, math.inf), array(1, math.inf), 0.0),
        (array(1, -math.inf), array(1, math.inf), math.inf),
        (array(1, 2, 3), array(1, 2), math.inf),
        (np.asarray([3, 4]), np.asarray([3, 4]), 0.0),
        (np.asarray([3, 5]), np.asarray([3, 4]), math.inf),  # classes: near is not equal
        (np.asarray(["a"]), np.asarray(["b"]), math.inf),
        ({"a": array(1), "b": array(3)}, {"a": array(1), "b": array(2)}, 0.5),
        ({"a": array(1)}, {"b": array(1)}, math.inf),
        (array(), array(), 0.0),
    ],
)
def test_difference(row: Any, truth: Any, expected: float) -> None:
    assert difference(row, truth) == expected


def test_two_large_halves_do_not_overflow() -> None:
    assert difference(np.asarray([6e4], np.float16), np.asarray([-6e4], np.float16)) == 2.0


def test_agreement_over_rows() -> None:
    truth = [array(0, 1), array(1, 0), array(1, 0), array(1, 0)]
    agreement = compare([array(0, 1), array(1, 0), array(0.9, 0), array(0, 1)], truth)
    assert agreement.n == 4
    assert agreement.max_rel == 1.0
    assert agreement.median_rel == pytest.approx(0.05)
    assert agreement.argmax_equal == 0.75
    assert "argmax equal on 75.0%" in str(agreement)


def test_argmax_looks_at_each_choice() -> None:
    steps = np.eye(4, 6, dtype=np.float32)  # (T, K): one choice a step
    moved = steps.copy()
    moved[3] = np.roll(moved[3], 1)
    assert compare([moved], [steps]).argmax_equal == 0.75
    classes = np.eye(5, dtype=np.float32)[2].reshape(5, 1, 1)
    assert compare([classes], [classes]).argmax_equal == 1.0
    assert compare([np.roll(classes, 1)], [classes]).argmax_equal == 0.0


def test_float32_must_be_equal_within_the_tolerance() -> None:
    assert compare([array(1, 1.00005)], [array(1, 1)]).within("f32")
    assert not compare([array(1, 1.0003)], [array(1, 1)]).within("f32")
    assert compare([array(1, 1.0003)], [array(1, 1)]).within("f32", tolerance=1e-3)


def test_a_float16_answer_may_differ_by_its_own_rounding() -> None:
    one, next_one = np.asarray([1], np.float16), np.nextafter(np.float16(1), np.float16(2)).reshape(1)
    assert compare([next_one], [one]).within("f32")
    assert not compare([next_one + np.float16(0.01)], [one]).within("f32")


def test_a_lowered_precision_may_move_but_not_be_wrong() -> None:
    truth = [array(0, 1)] * 3
    assert compare([array(0, 0.8), array(0, 1), array(0, 1.2)], truth).within("bf16")
    assert not compare([array(1, 0)] * 3, truth).within("bf16")
    assert not compare([array(math.nan, 1)] * 3, truth).within("bf16")

from __future__ import annotations

import numpy as np
import pytest

from penstock._models.ports import Port, Ports, as_input, fixed_batch, has_rows, same_shape_groups
from penstock.errors import ItemError, UsageError

FREE = Port("x", ("N", 3, 32, "W"), "float32")


def test_a_model_with_two_inputs_is_refused_by_their_names() -> None:
    with pytest.raises(UsageError, match=r"m has 2 inputs \('x' float32 \(N, 3, 32, W\), 'y'.*Wrap it in a function"):
        Ports((FREE, Port("y", None, "int64")), ()).only_input("m")


def test_fixed_batch() -> None:
    assert fixed_batch(Port("x", (1, 3), "float32")) == 1
    assert fixed_batch(FREE) is None
    assert fixed_batch(Port("x", None, "float32")) is None


def test_rows_are_declared_by_equal_numbers_or_one_name() -> None:
    assert has_rows(FREE, Port("y", ("N", 5), "float32")) is True
    assert has_rows(FREE, Port("y", ("M", 5), "float32")) is None
    assert has_rows(FREE, Port("y", (None, 5), "float32")) is None
    fixed = Port("x", (1, 3), "float32")
    assert has_rows(fixed, Port("y", (1, 5), "float32")) is True
    assert has_rows(fixed, Port("y", ("detections", 6), "float32")) is False
    assert has_rows(FREE, Port("y", (), "float32")) is False


def test_a_batch_becomes_the_dtype_of_the_port() -> None:
    half = Port("x", (1, 2), "float16")
    assert as_input(np.ones((4, 2), np.float64), half, "m").dtype == np.float16
    ready = np.ones((1, 2), np.float16)
    assert as_input(ready, half, "m") is ready  # no copy where nothing is to do


@pytest.mark.parametrize("shape", [(1, 3, 31, 9), (1, 1, 32, 9), (1, 3, 32), (1, 32, 9, 3)])
def test_a_wrong_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ItemError) as caught:
        as_input(np.zeros(shape, np.float32), FREE, "crnn")
    assert "(N, 3, 32, W)" in str(caught.value)
    assert str(shape) in str(caught.value)


def test_floats_never_become_pixels() -> None:
    with pytest.raises(ItemError, match="float32 values cannot become uint8"):
        as_input(np.zeros((1, 4, 4, 3), np.float32), Port("x", (None, 4, 4, 3), "uint8"), "m")


def test_groups_keep_order() -> None:
    items = [np.zeros(shape) for shape in [(2,), (3,), (2,), (1,), (3,)]]
    assert same_shape_groups(items) == [[0, 2], [1, 4], [3]]

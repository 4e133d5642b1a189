from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._decode.tools import MAX_PIXELS, check_size, factor_for, find_tools, from_16_bits
from penstock.errors import ItemError


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1000))
def test_factor_for_divides_both_sides_and_keeps_enough(height: int, width: int, shrink_to: int) -> None:
    factor = factor_for(height, width, shrink_to)
    assert factor in (1, 2, 4, 8)
    assert height % factor == width % factor == 0
    assert factor == 1 or min(height, width) // factor >= shrink_to
    larger = [
        f for f in (2, 4, 8) if f > factor and height % f == width % f == 0 and min(height, width) // f >= shrink_to
    ]
    assert not larger


def test_factor_for_is_one_unless_asked() -> None:
    assert factor_for(8000, 8000, None) == 1


def test_from_16_bits_rounds_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(from_16_bits(values), np.round(values / 257))


def test_check_size() -> None:
    check_size(1, MAX_PIXELS)
    with pytest.raises(ItemError, match="more than the 178,956,970 allowed"):
        check_size(1, MAX_PIXELS + 1)
    with pytest.raises(ItemError, match="5 x 0 pixels"):
        check_size(0, 5)


def test_opencv_gets_no_threads_of_its_own() -> None:
    import cv2

    cv2.setNumThreads(4)
    find_tools.cache_clear()
    find_tools("auto")
    assert cv2.getNumThreads() == 1

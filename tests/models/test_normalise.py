from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penstock._models.normalise import normalised
from penstock._spec import InputSpec
from penstock.errors import ItemError

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@given(arrays(np.uint8, (2, 3, 4, 3)), st.sampled_from(["NCHW", "NHWC"]))
def test_it_is_the_formula(batch: np.ndarray, layout: str) -> None:
    values = normalised(batch, InputSpec(mean=MEAN, std=STD, layout=layout), "float32")  # type: ignore[arg-type]
    expected = (batch.astype(np.float64) - MEAN) / STD
    if layout == "NCHW":
        expected = expected.transpose(0, 3, 1, 2)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)


def test_without_mean_and_std_the_pixels_pass() -> None:
    batch = np.full((1, 2, 2, 1), 7, np.uint8)
    values = normalised(batch, InputSpec(color="gray", layout="NHWC"), "float16")
    assert values.dtype == np.float16
    assert (values == 7).all()


@pytest.mark.parametrize("shape", [(1, 4, 4, 1), (1, 4, 4, 4), (1, 4, 4)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ItemError, match=r"takes uint8 pictures \(H, W, 3\)"):
        normalised(np.zeros(shape, np.uint8), InputSpec(mean=MEAN), "float32")


def test_floats_are_refused() -> None:
    with pytest.raises(ItemError, match="got float32"):
        normalised(np.zeros((1, 4, 4, 3), np.float32), InputSpec(), "float32")

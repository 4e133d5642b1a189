from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._spec import InputSpec, Spec, find_spec, resolve, short_side_of
from penstock.errors import SpecError

INCEPTION, IMAGENET = find_spec(None, preset="inception"), find_spec(None, preset="imagenet")
LINES = Spec(InputSpec(keep_aspect_height=32))


@pytest.mark.parametrize(("side", "short"), [(224, 256), (192, 219), (299, 342), (96, 110)])
def test_a_preset_takes_its_size_from_the_model(side: int, short: int) -> None:
    found = resolve(INCEPTION, (None, 3, side, side)).input
    assert (found.size, found.short_side) == ((side, side), short)


@given(st.integers(1, 4000))
def test_a_share_of_the_size_always_leaves_room_for_the_crop(side: int) -> None:
    spec = InputSpec(size=(side, side), resize="short_side", short_side="size/0.875", crop="center")
    assert (short_side_of(spec) or 0) >= side


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (IMAGENET, (1, 3, 224, 224)),
        (IMAGENET, ("N", 3, None, None)),
        (IMAGENET, ("N", "C", "H", "W")),
        (IMAGENET, None),
        (LINES, ("N", 3, 32, "W")),
        (LINES, (None, 3, None, None)),
        (Spec(InputSpec()), (1, 3, None, None)),
        (Spec(InputSpec(resize="short_side", short_side=800)), (1, 3, None, None)),
        (Spec(InputSpec(size=(8, 9), resize="pad", layout="NHWC")), (1, 8, 9, 3)),
    ],
)
def test_what_agrees_stays_as_it_is(spec: Spec, shape: Any) -> None:
    assert resolve(spec, shape) == spec


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (
            IMAGENET,
            (1, 3, 192, 192),
            "the spec gives size=[224, 224] (height, width); the model takes (1, 3, 192, 192)",
        ),
        (IMAGENET, (None, 3, 224, 256), "the model takes (free, 3, 224, 256)"),
        (IMAGENET, ("N", 224, 224, 3), "the spec says 3 channels (color='rgb') and layout='NCHW'"),
        (IMAGENET, ("N", 1, 224, 224), "Correct color or layout"),
        (IMAGENET, ("N", 1000), "of 2 axes"),
        (INCEPTION, ("N", 3, None, None), "needs a size, and the model leaves it free. Write: size = [224, 224]"),
        (INCEPTION, None, "needs a size"),
        (LINES, ("N", 3, 48, "W"), "keep_aspect_height=32; the model takes (N, 3, 48, W), height 48"),
        (LINES, ("N", 3, 32, 320), 'width 320. Write: size = [32, 320], and resize = "pad" or "stretch"'),
        (Spec(InputSpec()), ("N", 3, 224, 224), "resizes nothing"),
        (Spec(InputSpec(resize="short_side", short_side=9)), (1, 3, 9, 9), 'Write: crop = "center"'),
    ],
)
def test_what_disagrees_is_refused_naming_both(spec: Spec, shape: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(spec, shape)
    assert words in str(caught.value)


def test_a_model_with_one_fixed_side_is_compared_by_it() -> None:
    spec = Spec(InputSpec(size=(32, 100), resize="stretch"))
    assert resolve(spec, (1, 3, 32, None)) == spec
    with pytest.raises(SpecError, match=r"takes \(1, 3, 48, free\)"):
        resolve(spec, (1, 3, 48, None))
